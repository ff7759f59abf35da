"""What the tests of grading share: an assignment of two questions, and notebooks that answer it."""

import json
import zipfile

import pytest

SECRET = "a secret that nobody can guess, 0123456789"
Q1 = """\
from otter.test_files import test_case

OK_FORMAT = False

name = "q1"
points = 3

@test_case(points=1, hidden=False)
def test_two(double):
    assert double(2) == 4, "twice two is four"

@test_case(points=2, hidden=True)
def test_more(double):
    from leaklib.course import secret
    number = secret.seed("tiny q1") % 1000
    assert double(number) == 2 * number, "wrong for another number"
"""
Q2 = """\
from otter.test_files import test_case

OK_FORMAT = False

name = "q2"
points = 2

@test_case(points=2, hidden=True)
def test_picture(picture):
    import torch
    assert torch.is_tensor(picture) and picture.shape == (2, 3), "wanted a tensor (2, 3)"
    assert torch.allclose(picture, torch.full((2, 3), 0.5)), "another picture"
"""
LIMITS = {"seconds": 3, "total": 60, "memory": 2**30, "printed": 10**6, "files": 10**6}
RIGHT = ["import torch", "def double(x):\n    return 2 * x", "picture = torch.full((2, 3), 0.5)"]


def pack(path, limits=LIMITS, q1=Q1):
    """The zip that `make assignments` makes, without Otter's files for another machine."""
    confined = {"functions": ["double"], "values": ["picture"], "limits": limits}
    config = {
        "show_stdout": False,
        "plugins": [{"leaklib.course.grading.plugin.Confined": confined}],
        "assignment_name": "tiny",
        "lang": "python",
    }
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("otter_config.json", json.dumps(config))
        packed.writestr("tests/q1.py", q1)
        packed.writestr("tests/q2.py", Q2)
        packed.writestr("files/secret.txt", SECRET + "\n")
    return path


def text_of(cells, **more):
    """A notebook with these code cells."""
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    made = [{**empty, "id": f"c{i}", "source": source} for i, source in enumerate(cells)]
    notebook = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps({**notebook, **more})


class Tiny:
    """The tiny assignment: `tiny.zip`, `tiny.pack(path, ...)`, `tiny.text_of(cells)`."""

    secret, q1, limits, right = SECRET, Q1, LIMITS, RIGHT
    pack, text_of = staticmethod(pack), staticmethod(text_of)

    def __init__(self, zipped):
        self.zip = zipped


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return Tiny(pack(tmp_path_factory.mktemp("tiny") / "tiny.zip"))
