"""What the first cell of every notebook does, and what an import does not do."""

import re
import subprocess
import sys

import matplotlib
import pytest

import leaklib
from leaklib.book import plots


@pytest.fixture
def style_is_given_back():
    with matplotlib.rc_context():
        yield


@pytest.mark.usefixtures("style_is_given_back")
def test_setup_prints_one_line_and_may_be_called_again(capsys):
    leaklib.setup()
    first, style = capsys.readouterr(), dict(matplotlib.rcParams)
    leaklib.setup()
    second = capsys.readouterr()
    assert first == second and dict(matplotlib.rcParams) == style
    assert first.err == "" and first.out.count("\n") == 1
    version = re.escape(leaklib.__version__)
    assert re.search(rf"leaklib {version} .*Python 3\.\d+.*PyTorch \d+\.\d+", first.out)


@pytest.mark.usefixtures("style_is_given_back")
def test_setup_sets_the_style():
    matplotlib.rcParams["axes.grid"] = not plots.STYLE["axes.grid"]
    leaklib.setup()
    assert matplotlib.rcParams["axes.grid"] == plots.STYLE["axes.grid"]


def test_import_changes_no_state_and_prints_nothing():
    """In a fresh interpreter that has imported the libraries before."""
    program = """
import random, sys, matplotlib, numpy, torch
def state():
    style = {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
    return [style, random.getstate(), str(numpy.random.get_state()), torch.get_num_threads(),
            torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled()]
before = state()
import leaklib
leaklib.models.lenet()
after = state()
assert before == after, [a == b for a, b in zip(before, after)]
assert "matplotlib.pyplot" not in sys.modules, "pyplot chooses a backend"
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""


def test_modules_of_the_sentence_are_there():
    for name in leaklib.__all__:
        assert hasattr(leaklib, name)
    assert leaklib.setup.__doc__
