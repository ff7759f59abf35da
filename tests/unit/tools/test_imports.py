"""What `import leaklib` loads, in an interpreter that has loaded nothing else.

The linter of imports sees those inside functions too, which are allowed; this sees what happens.
"""

import json
import subprocess
import sys

import pytest

import leaklib
import notebooks

# What only pages need, or only some functions: it is loaded before it is used.
LATER = ("matplotlib", "scipy", "skimage", "sklearn", "ipywidgets", "IPython")


@pytest.fixture(scope="module")
def loaded():
    """The names of all modules that `import leaklib` loads."""
    code = "import json, sys, leaklib; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=notebooks.ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


@pytest.mark.parametrize("name", LATER)
def test_the_science_loads_nothing_before_it_is_used(name, loaded):
    assert name not in loaded


@pytest.mark.parametrize("name", ["leaklib.book", "leaklib.course"])
def test_the_science_loads_neither_of_the_other_floors(name, loaded):
    assert name not in loaded


def test_the_science_is_loaded_whole(loaded):
    """Or the tests above would say nothing."""
    assert {f"leaklib.{name}" for name in leaklib.__all__} <= loaded
