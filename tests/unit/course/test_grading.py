"""A class graded with the real command, and what it is made of."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch

from leaklib.course.grading import SubmissionError, plugin
from leaklib.course.grading import __main__ as grading

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading needs Linux")

LIAR = [
    "import os, sys, glob, torch\nimport leaklib",
    # looks for the tests, to read them and to write its own over them
    """
seen = []
for place, _, files in os.walk("/"):
    for name in files:
        if name in ("q1.py", "q2.py", "secret.txt", "otter_config.json", "results.json"):
            seen.append(os.path.join(place, name))
for path in [*seen, "tests/q1.py", "../tests/q1.py", "../../source/tests/q1.py"]:
    try:
        text = open(path).read()
        open(path, "w").write("")
    except OSError:
        pass
""",
    "torch.allclose = lambda *a, **k: True",
    "import leaklib.course.secret as s\ns.seed = lambda p: 2",
    "from leaklib.course.grading import plugin\nplugin.answers = lambda **k: {}",
    "raise RuntimeError(f'found {seen}')",
    """
class Right:
    def __eq__(self, other): return True
    def __len__(self): return 2
    shape = (2, 3)
def double(x):
    return 4 if x == 2 else Right()
picture = Right()
""",
    "for fd in range(3, 256):\n    try:\n        os.write(fd, b'score 100')\n    except OSError:\n"
    "        pass",
]
CLASS = {
    "blank": (["def double(x):\n    ...", "picture = ..."], [0, 0], "q1: twice two is four"),
    "endless": (
        ["import torch\npicture = torch.full((2, 3), 0.5)", "def double(x):\n    while True: pass"],
        [0, 2],
        "stopped: it took more than 2 s",
    ),
    "liar": (LIAR, [1, 0], "RuntimeError: found []"),
    "wild": (
        [
            "import os, torch",
            "bytearray(10**10)",
            "while True: print('all work and no play')",
            "os._exit(0)",
            "def double(x):\n    return 2 * x if x == 2 else float('nan')",
            "picture = torch.full((3, 2), 0.5)",
        ],
        [1, 0],
        "q2: wanted a tensor (2, 3)",
    ),
    "zz_right": (None, [3, 2], None),
}


def at_work_in(folder):
    """The processes whose working folder is in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(place).startswith(str(folder)):
                found.append(place.parent.name)
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def graded(tiny, tmp_path_factory):
    """A class after the real command: the folder of results, and the run."""
    folder = tmp_path_factory.mktemp("class")
    inbox, to = folder / "inbox", folder / "graded"
    inbox.mkdir()
    for name, (cells, *_) in CLASS.items():
        (inbox / f"{name}.ipynb").write_text(tiny.text_of(cells or tiny.right))
    (inbox / "text.ipynb").write_text("Dear teacher, I was ill.")
    (inbox / "link.ipynb").symlink_to("zz_right.ipynb")
    # Otter would unpickle a log that lies beside a notebook
    (inbox / ".OTTER_LOG").write_bytes(b"cos\nsystem\n(S'touch pickled'\ntR.")
    zipped = tiny.pack(folder / "tiny.zip", {**tiny.limits, "seconds": 2})
    aside = folder / "aside"
    aside.mkdir()
    command = [sys.executable, "-m", "leaklib.course.grading", str(inbox)]
    command += ["--autograder", str(zipped), "--to", str(to), "--workers", "1"]
    run = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(aside)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert at_work_in(folder) == [], "a process goes on"
    assert not list(aside.glob("submission-*")), "files of a student are left"
    assert not (inbox / "pickled").exists() and not Path("pickled").exists()
    return to


def row(graded, name):
    with (graded / "scores.csv").open(newline="") as file:
        (found,) = (row for row in csv.DictReader(file) if row["student"] == name)
    return found


@pytest.mark.parametrize("name", CLASS)
def test_each_student_gets_what_the_answers_are_worth_and_a_line(graded, name):
    _, (q1, q2), line = CLASS[name]
    got = row(graded, name)
    assert (float(got["q1"]), float(got["q2"])) == (q1, q2)
    assert float(got["score"]) == q1 + q2 and float(got["possible"]) == 5
    report = (graded / f"{name}.txt").read_text()
    assert report.startswith(f"{name}: {q1 + q2:g} of 5 points\n  q1: {q1:g} of 3\n")
    assert line is None or line in report
    assert (line is None) == (got["line"] == "")


def test_what_is_no_notebook_gets_nothing_and_a_line(graded):
    for name, line in (("text", "This is not a notebook"), ("link", "This is a link")):
        assert row(graded, name)["score"] == "0" and row(graded, name)["line"].startswith(line)
        assert (graded / f"{name}.txt").read_text().startswith(f"{name}: 0 of 5 points\n")


def test_the_notes_of_a_wild_notebook_name_each_cell(graded):
    report = (graded / "wild.txt").read_text()
    for line in (
        "Code cell 2: MemoryError",
        "Code cell 3: stopped: it printed more than 1,000,000 bytes",
        "Code cell 4: the notebook ended its own process",
        "q1: wrong for another number",
    ):
        assert line in report


def test_neither_secret_nor_tests_are_in_a_report(graded, tiny):
    reports = "".join(path.read_text() for path in graded.iterdir())
    assert tiny.secret not in reports and "@test_case" not in reports


# --- resuming


@pytest.fixture
def inbox(tiny, tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a.ipynb").write_text(tiny.text_of(tiny.right))
    (folder / "b.ipynb").write_text(tiny.text_of(["x = 1"]))
    return folder


@pytest.fixture
def asked(monkeypatch):
    """The names of the notebooks that were graded, in place of grading them."""
    names = []

    def grade(notebook, autograder):
        names.append(notebook.stem)
        return {"score": 1, "possible": 5, "questions": {"q1": [1, 3]}, "lines": []}

    monkeypatch.setattr(grading, "grade", grade)
    return names


def test_what_was_graded_is_not_graded_again(tiny, inbox, tmp_path, asked):
    for _ in range(2):
        grading.grade_notebooks(inbox, tiny.zip, tmp_path / "to", workers=1)
    assert asked == ["a", "b"]


def test_a_notebook_that_changed_is_graded_again(tiny, inbox, tmp_path, asked):
    grading.grade_notebooks(inbox, tiny.zip, tmp_path / "to", workers=1)
    (inbox / "b.ipynb").write_text(tiny.text_of(["x = 2"]))
    grading.grade_notebooks(inbox, tiny.zip, tmp_path / "to", workers=1)
    assert asked == ["a", "b", "b"]


def test_another_autograder_grades_all_again_and_the_same_packed_later_does_not(
    tiny, inbox, tmp_path, asked
):
    later, other = tmp_path / "later.zip", tmp_path / "other.zip"
    time.sleep(2)  # the times in a zip are even seconds
    tiny.pack(later)
    tiny.pack(other, q1=tiny.q1.replace("4", "5"))
    assert later.read_bytes() != tiny.zip.read_bytes()
    grading.grade_notebooks(inbox, tiny.zip, tmp_path / "to", workers=1)
    grading.grade_notebooks(inbox, later, tmp_path / "to", workers=1)
    assert asked == ["a", "b"]
    grading.grade_notebooks(inbox, other, tmp_path / "to", workers=1)
    assert asked == ["a", "b"] * 2


def test_a_result_that_cannot_be_read_is_made_again(tiny, inbox, tmp_path, asked):
    to = tmp_path / "to"
    grading.grade_notebooks(inbox, tiny.zip, to, workers=1)
    (to / "a.json").write_text('{"of": ')
    grading.grade_notebooks(inbox, tiny.zip, to, workers=1)
    assert asked == ["a", "b", "a"] and json.loads((to / "a.json").read_text())["score"] == 1


def test_odd_names_have_a_line_each(tiny, tmp_path, asked):
    folder, to = tmp_path / "inbox", tmp_path / "to"
    folder.mkdir()
    names = ["=1+1", "x" * 249, 'a, "b"', "ä é", ".hidden", os.fsdecode(b"\xff\xfe")]
    for name in names:
        (folder / f"{name}.ipynb").write_text(tiny.text_of([]))
    path = grading.grade_notebooks(folder, tiny.zip, to, workers=2)
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert len(rows) == len(names) and {"'=1+1", 'a, "b"', "ä é", "x" * 249} < rows.keys()
    assert rows["x" * 249]["line"].startswith("There is no report: File name too long")
    assert (to / f"{names[-1]}.txt").exists()


# --- reading a stranger's file


def test_the_code_of_a_notebook_is_all_that_is_taken(tiny):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("text"),
            nbformat.v4.new_code_cell("x = 1", metadata={"otter": {"tests": ["q1"]}}),
            nbformat.v4.new_raw_cell("raw"),
        ],
        metadata={"otter": {"assignment_name": "tiny"}},
    )
    assert grading.code_of(nbformat.writes(notebook).encode(), "tiny") == ["x = 1"]
    made = grading.notebook_of(["x = 1"], "tiny")
    nbformat.validate(made)
    assert made.metadata.otter == {"assignment_name": "tiny"}


@pytest.mark.parametrize(
    "content, line",
    [
        (b"", "This is not a notebook"),
        (b"Dear teacher", "This is not a notebook"),
        (b"\xff\xfe\x00\x01", "This is not a notebook"),
        (b"[" * 10**6, "This is not a notebook"),
        (b"[1, 2]", "wanted a list of cells, in nbformat 4"),
        (b'{"cells": 3, "nbformat": 4}', "wanted a list of cells"),
        (b'{"worksheets": [], "nbformat": 3}', "in nbformat 4"),
        (b'{"cells": [3], "nbformat": 4}', "cell 1 has no known type and source"),
        (b'{"cells": [{"cell_type": "heading", "source": ""}], "nbformat": 4}', "cell 1"),
        (b'{"cells": [{"cell_type": "code", "source": [1]}], "nbformat": 4}', "cell 1"),
        (b'{"cells": [{"cell_type": "code"}], "nbformat": 4}', "cell 1"),
        (
            b'{"cells": [], "nbformat": 4, "metadata": {"otter": {"assignment_name": "dlg"}}}',
            "This is the notebook of 'dlg'; wanted 'tiny'",
        ),
    ],
)
def test_what_is_no_notebook_of_this_assignment_is_told(content, line):
    with pytest.raises(ValueError, match=line):
        grading.code_of(content, "tiny")


@pytest.mark.parametrize("metadata", [None, [], {"otter": 3}, {"otter": {}}, {}])
def test_a_notebook_that_names_no_assignment_is_taken(metadata):
    content = json.dumps({"cells": [], "nbformat": 4, "metadata": metadata}).encode()
    assert grading.code_of(content, "tiny") == []


def test_links_folders_pipes_and_large_files_are_not_read(tmp_path, monkeypatch):
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "nowhere.ipynb").symlink_to("absent")
    (tmp_path / "shadow.ipynb").symlink_to("/etc/passwd")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match="a link, or no file"):
            grading.content_of(path)
    monkeypatch.setattr(grading, "MOST_BYTES", 10)
    (tmp_path / "large.ipynb").write_text("x" * 11)
    with pytest.raises(ValueError, match="more than 10 bytes: clear its outputs"):
        grading.content_of(tmp_path / "large.ipynb")


# --- the command


def test_otter_that_does_not_end_is_asked_to_clear_up_then_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "PATIENCE", 0.5)
    sleeps = "import time\ntime.sleep(60)"
    stubborn = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{sleeps}"
    for code in (sleeps, stubborn):
        command = [sys.executable, "-c", code]
        assert grading.fault_of(command, str(tmp_path), 0.5) == "it was stopped after 0.5 s"


def test_the_last_line_of_a_command_that_failed_is_told(tmp_path):
    fails = [sys.executable, "-c", "print('a')\nraise ValueError('no \\x1b[31m tests')"]
    assert (
        grading.fault_of(fails, str(tmp_path), 60)
        == "ValueError: no \N{REPLACEMENT CHARACTER}[31m tests"
    )
    assert grading.fault_of([sys.executable, "-c", "raise SystemExit(3)"], str(tmp_path), 60) == (
        "it ended with 3"
    )
    assert grading.fault_of([sys.executable, "-c", ""], str(tmp_path), 60) is None


def test_when_otter_fails_the_student_has_nothing_and_a_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "fault_of", lambda *_: "it was stopped after 9 s")
    (tmp_path / "a.ipynb").write_text(tiny.text_of(tiny.right))
    got = grading.grade(tmp_path / "a.ipynb", tiny.zip)
    assert got["score"] == 0 and got["possible"] == 5
    assert got["questions"] == {"q1": [0, 3], "q2": [0, 2]}
    assert got["lines"] == ["Otter could not grade this notebook: it was stopped after 9 s"]


def test_points_and_limits_are_those_of_the_zip(tiny, tmp_path):
    assert grading.points_of(tiny.zip) == {"q1": 3, "q2": 2}
    assert grading.limits_of(tiny.zip)._asdict() == tiny.limits


def test_arguments_that_are_wrong_are_told(tiny, tmp_path, monkeypatch):
    to = ["--to", str(tmp_path / "to")]
    absent = str(tmp_path / "absent")
    assert "wanted a folder" in grading.main([absent, "--autograder", str(tiny.zip), *to])
    assert "wanted the zip" in grading.main([str(tmp_path), "--autograder", absent, *to])

    def broken():
        raise OSError("a submission cannot be started on this machine: why")

    monkeypatch.setattr(grading, "start_once", broken)
    told = grading.main([str(tmp_path), "--autograder", str(tiny.zip), *to])
    assert told == "a submission cannot be started on this machine: why"
    monkeypatch.setattr(grading.sys, "platform", "darwin")
    assert "needs Linux" in grading.main([str(tmp_path), "--autograder", str(tiny.zip), *to])


# --- the plugin


def test_the_plugin_hands_the_tests_functions_and_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    closed = []
    monkeypatch.setattr(plugin.atexit, "register", closed.append)
    cells = ["import torch", "def f(x, y=1):\n    return x + y", "v = torch.ones(2)", "bad = {1}"]
    found = plugin.answers(cells, ["f", "g"], ["v", "bad", "absent"], {"seconds": 5})
    try:
        assert found["f"](1, y=2) == 3 and torch.equal(found["v"], torch.ones(2))
        assert found["bad"] is None and found["absent"] is None
        with pytest.raises(SubmissionError, match="`g` is not defined"):
            found["g"]()
        notes = json.loads((tmp_path / plugin.NOTES).read_text())
        assert notes == [
            "bad: TypeError: a value of type set",
            "absent: NameError: `absent` is not defined in the notebook",
        ]
    finally:
        (close,) = closed
        close()


def test_the_plugin_leaves_nothing_of_the_students_in_the_kernel_of_the_tests(tmp_path):
    place = tmp_path / "submission"
    place.mkdir(mode=0o755)
    (tmp_path / "source").mkdir(mode=0o755)
    confined = plugin.Confined(str(place / "a.ipynb"), {}, {"functions": ["f"]})
    quotes = "'''\"\"\"\\')\nimport os; os._exit(0)"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(quotes), nbformat.v4.new_markdown_cell("text")]
    )
    made = confined.before_execution(notebook)
    (cell,) = made.cells
    given = {}
    exec(cell.source.replace("leaklib.course.grading.plugin import answers", "json import loads"), {
        "globals": lambda: given, "answers": lambda **kwargs: kwargs,
    })  # fmt: skip
    assert given == {"cells": [quotes], "functions": ["f"], "values": [], "limits": {}}
    # another user, which a submission becomes where there is no Landlock, may not look here
    assert {folder.stat().st_mode & 0o777 for folder in tmp_path.iterdir()} == {0o700}


def test_the_plugin_reports_the_notes(tmp_path):
    confined = plugin.Confined(str(tmp_path / "a.ipynb"), {}, {})
    told = []
    results = type("Results", (), {"set_output": lambda self, text: told.append(text)})()
    confined.after_grading(results)
    assert told == [] and confined.generate_report() == "Every cell of the notebook ran."
    (tmp_path / plugin.NOTES).write_text('["one", "two"]')
    confined.after_grading(results)
    assert told == ["one\ntwo"] == [confined.generate_report()]
