"""What the first cell of every notebook does, and what an import does not do."""

import re
import subprocess
import sys

import matplotlib
import pytest

import leaklib
import leaklib.book
from leaklib.book import _setup, plots


@pytest.fixture
def style_is_given_back():
    with matplotlib.rc_context():
        yield


@pytest.mark.usefixtures("style_is_given_back")
def test_setup_prints_one_line_and_may_be_called_again(capsys):
    leaklib.book.setup()
    first, style = capsys.readouterr(), dict(matplotlib.rcParams)
    leaklib.book.setup(leaklib.__version__)
    second = capsys.readouterr()
    assert first == second and dict(matplotlib.rcParams) == style
    assert first.err == "" and first.out.count("\n") == 1
    version = re.escape(leaklib.__version__)
    assert re.search(rf"leaklib {version} .*Python 3\.\d+.*PyTorch \d+\.\d+", first.out)


@pytest.mark.usefixtures("style_is_given_back")
def test_setup_sets_the_style():
    matplotlib.rcParams["axes.grid"] = not plots.STYLE["axes.grid"]
    leaklib.book.setup()
    assert matplotlib.rcParams["axes.grid"] == plots.STYLE["axes.grid"]


# --- the page's version


@pytest.mark.usefixtures("style_is_given_back")
@pytest.mark.parametrize(
    ("installed", "page"),
    [("0.2.0", "0.2.0"), ("0.2.3", "0.2.0"), ("0.2.1.dev3", "0.2.1"), ("1.4.0", "1.2.5")],
)
def test_a_page_runs_with_a_later_patch_and_from_1_0_on_a_later_minor_version(
    installed, page, monkeypatch, capsys
):
    monkeypatch.setattr(_setup, "__version__", installed)
    leaklib.book.setup(page)
    assert capsys.readouterr().out.startswith(f"leaklib {installed} ")


@pytest.mark.parametrize(
    ("installed", "page", "advice"),
    [
        ("0.1.9", "0.2.0", "pip install --upgrade"),
        ("0.2.0", "0.2.1", "pip install --upgrade"),
        ("0.10.0", "1.0.0", "pip install --upgrade"),
        ("0.3.0", "0.2.0", "again from the book"),
        ("2.0.0", "1.9.9", "again from the book"),
    ],
)
def test_a_page_of_another_version_is_refused_with_what_to_do(
    installed, page, advice, monkeypatch, capsys
):
    monkeypatch.setattr(_setup, "__version__", installed)
    with pytest.raises(RuntimeError) as refused:
        leaklib.book.setup(page)
    told = str(refused.value)
    assert f"made with leaklib {page}, but leaklib {installed} is installed" in told
    assert advice in told and "run the page from the top" in told
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("version", ["", "0.2", "two"])
def test_a_version_has_three_numbers(version):
    with pytest.raises(ValueError, match=rf"^version: got '{version}'; wanted one such as"):
        leaklib.book.setup(version)


# --- importing


def fresh(program):
    """What a fresh interpreter prints."""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_import_changes_no_state_and_prints_nothing():
    """In an interpreter that has imported the libraries before."""
    program = """
import random, sys, matplotlib, numpy, torch
def state():
    style = {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
    return [style, random.getstate(), str(numpy.random.get_state()), torch.get_num_threads(),
            torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled()]
before = state()
import leaklib.book
leaklib.models.lenet()
after = state()
assert before == after, [a == b for a, b in zip(before, after)]
assert "matplotlib.pyplot" not in sys.modules, "pyplot chooses a backend"
"""
    assert fresh(program) == ""


def test_the_book_loads_matplotlib_and_nothing_that_only_a_cell_needs():
    slow = ("ipywidgets", "IPython", "skimage", "sklearn", "scipy.stats")
    program = f"import sys, leaklib.book; print([m for m in {slow} if m in sys.modules])"
    assert fresh(program) == "[]\n"


@pytest.mark.parametrize(
    "floor", [leaklib, leaklib.book, leaklib.book.checks, leaklib.book.results, leaklib.book.scenes]
)
def test_every_name_that_a_floor_promises_is_there(floor):
    assert [name for name in floor.__all__ if not hasattr(floor, name)] == []
    assert len(set(floor.__all__)) == len(floor.__all__)
