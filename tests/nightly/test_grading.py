"""A class full of attacks through the real command, with a right notebook after each of them."""

import csv
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux", reason="grading needs Linux"),
]

GOOD = "def double(x):\n    return 2 * x"
PICTURE = "import torch\npicture = torch.full((2, 3), 0.5)"
NAN = "import torch\npicture = torch.full((2, 3), torch.nan)"
FLAT = "import torch\npicture = torch.ones(6) / 2"
EVIL = """\
import os
class Evil:
    shape = (2, 3)
    def __eq__(self, other): return True
    def __len__(self): return 2
    def __reduce__(self): return (os.system, ("touch pickled",))
"""
CASES = {  # the cells, the points of both questions, and words of the report
    "loops": (["while True: pass", GOOD, PICTURE], (3, 2), "Code cell 1: stopped: it took more"),
    "sleeps": (["import time\ntime.sleep(10**6)", GOOD, PICTURE], (3, 2), "Code cell 1: stopped"),
    "stubborn": (
        [
            "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
            GOOD,
            PICTURE,
        ],
        (3, 2),
        "Code cell 1: stopped",
    ),
    "eats": (["x = [bytearray(10**9) for _ in range(99)]", GOOD, PICTURE], (3, 2), "MemoryError"),
    "prints": (["while True: print('a' * 999)", GOOD, PICTURE], (3, 2), "printed more than"),
    "raises": (["import absent", GOOD, PICTURE], (3, 2), "ModuleNotFoundError"),
    "leaves": (["import os\nos._exit(0)", GOOD, PICTURE], (3, 2), "ended its own process"),
    "forks": (["import os\nwhile True: os.fork()", GOOD, PICTURE], (3, 2), "PermissionError"),
    "kills": (["import os\nos.kill(-1, 9)", GOOD, PICTURE], (3, 2), "PermissionError"),
    "connects": (
        ["import socket\nsocket.create_connection(('127.0.0.1', 22))", GOOD, PICTURE],
        (3, 2),
        "PermissionError",
    ),
    "evil": ([EVIL, "def double(x): return Evil()", "picture = Evil()"], (0, 0), "of type Evil"),
    "nan": (
        ["def double(x): return float('nan')", NAN],
        (0, 0),
        "q2: another picture",
    ),
    "shape": ([GOOD, FLAT], (3, 0), "wanted a tensor (2, 3)"),
    "patches": (
        [PICTURE, "torch.allclose = lambda *a, **k: True\npicture = torch.zeros(2, 3)", GOOD],
        (3, 0),
        "q2: another picture",
    ),
    "reads": (
        [
            "import os\nseen = [f for p, _, fs in os.walk('/') for f in fs if f == 'secret.txt']",
            "raise ValueError(f'secrets: {seen}')",
            GOOD,
            PICTURE,
        ],
        (3, 2),
        "secrets: []",
    ),
    "stops": (
        [GOOD, PICTURE, "import os, signal, threading\n"
         "threading.Timer(1, os.kill, (os.getpid(), signal.SIGSTOP)).start()\n"],
        None,
        "points",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def graded(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    inbox = folder / "inbox"
    inbox.mkdir()
    for number, (name, (cells, *_)) in enumerate(CASES.items()):
        (inbox / f"{number:02}_{name}.ipynb").write_text(tiny.text_of(cells))
        # the same code would do: another line makes it another notebook
        right = tiny.text_of([*tiny.right, f"after = {name!r}"])
        (inbox / f"{number:02}_{name}_then_right.ipynb").write_text(right)
    (inbox / "huge.ipynb").write_bytes(b" " * (51 * 2**20))
    command = [sys.executable, "-m", "leaklib.course.grading", str(inbox)]
    command += ["--autograder", str(tiny.zip), "--to", str(folder / "to")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder / "to"


def scores(graded):
    with (graded / "scores.csv").open(newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("number, name", list(enumerate(CASES)))
def test_an_attack_gets_what_its_answers_are_worth_and_the_next_student_all(graded, number, name):
    _, points, words = CASES[name]
    row = scores(graded)[f"{number:02}_{name}"]
    if points is not None:
        assert (float(row["q1"]), float(row["q2"])) == points
    assert words in (graded / f"{number:02}_{name}.txt").read_text()
    assert float(scores(graded)[f"{number:02}_{name}_then_right"]["score"]) == 5


def test_a_huge_file_gets_nothing_and_a_line(graded):
    assert scores(graded)["huge"]["line"] == (
        "The file has more than 52,428,800 bytes: clear its outputs."
    )
