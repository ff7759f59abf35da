"""The line below each title."""

import chapter_line

OPTIONS = {
    "repository_url": "https://github.com/some_one/project",
    "repository_branch": "book",
    "launch_buttons": {"colab_url": "https://colab.example"},
}


def test_minutes_are_those_that_a_notebook_states():
    assert chapter_line.minutes("**You need** time. **Time:** 35 minutes.", "a word") == 35


def test_minutes_are_counted_where_none_are_stated():
    assert chapter_line.minutes("", "word " * 2200) == 10
    assert chapter_line.minutes("", "a short page") == 1


def test_colab_opens_the_notebook_of_this_repository_and_branch():
    address = chapter_line.colab(OPTIONS, "notebooks/04_dlg")
    assert address == (
        "https://colab.example/github/some_one/project/blob/book/notebooks/04_dlg.ipynb"
    )
