"""Every chapter as in Colab: its file alone, in a new environment without leaklib."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell

import notebooks
import setup_cell

# The quickest that attacks, reads a saved result and reacts is run for every change.
EVERY_CHANGE = "03_labels_leak"

WIDGET = "application/vnd.jupyter.widget-view+json"

# What the last cell says of the kernel that the chapter has run in.
PROBE = """\
import os, socket
print(leaklib.__file__)
print(os.listdir())
print(leaklib.privacy.epsilon(noise=2.0))  # by Opacus, from leaklib's extra "privacy"
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    print(error)"""


def outputs(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


CHAPTERS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.nightly] * (path.stem != EVERY_CHANGE))
    for path in notebooks.paths()
]


@pytest.mark.parametrize("path", CHAPTERS)
def test_a_chapter_runs_to_its_end_as_in_colab(path, colab, wheel):
    """And then its setup cell a second time, as when a reader goes back to the top."""
    before = colab.packages()
    assert {"leaklib", "jupyter-book", "sphinx", "nbclient"}.isdisjoint(before)

    chapter = nbformat.read(path, 4)
    (setup,) = (cell for cell in chapter.cells if setup_cell.is_setup(cell))
    chapter.cells += [new_code_cell(setup.source), new_code_cell(PROBE)]
    done = colab.execute(chapter, path.name, f"leaklib[privacy] @ {wheel.as_uri()}")

    after = colab.packages()
    assert {name: after.get(name) for name in before} == before, "something was installed again"
    assert {"leaklib", "opacus"} <= after.keys() - before.keys()

    again, probe = done.cells[-2:]
    (line,) = outputs(again).splitlines()  # what leaklib.setup() says, and no word of pip
    assert line.startswith("leaklib ") and before["torch"][0] in line
    where, listing, epsilon, refused = outputs(probe).splitlines()
    assert where == str(colab.site / "leaklib" / "__init__.py")
    assert listing == str([path.name])
    assert float(epsilon) > 0
    assert "must not need the network" in refused

    code = [cell for cell in done.cells if cell.cell_type == "code"]
    reacting = [cell for cell in code if "widgets.explore(" in cell.source]
    assert reacting
    for cell in reacting:
        shown = [output.data for output in cell.outputs if "data" in output]
        (view,) = (data for data in shown if WIDGET in data)
        assert view["text/plain"] and "text/html" not in view
