"""Every assignment as a student has it in Colab: its file alone, which brings its checks along."""

import pytest

import assignments
import setup_cell

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("name", assignments.names())
def test_the_checks_of_an_assignment_pass_as_in_colab(name, colab, wheel, tmp_path, monkeypatch):
    """The student's notebook with the solution's answers in it."""
    monkeypatch.setattr(assignments, "DIST", tmp_path)
    monkeypatch.setenv("LEAKLIB_SECRET", "a secret of the tests in Colab, 0123456789")
    assignments.make(name)
    made = tmp_path / name

    before = colab.packages()
    order = assignments.questions(name)
    solution = assignments.read(made / "solution" / f"{name}.ipynb")
    cells = zip(order, assignments.answer_cells(solution), strict=True)
    answers = {question: cell.source for question, cell in cells}
    mine = assignments.read(made / "student" / f"{name}-colab.ipynb")
    mine = assignments.with_answers(mine, order, answers)
    done = colab.execute(mine, f"{name}-colab.ipynb", f"leaklib[coursework] @ {wheel.as_uri()}")

    after = colab.packages()
    assert {n: after.get(n) for n in before} == before, "something was installed again"
    assert {"leaklib", "otter-grader"} <= after.keys() - before.keys()
    assert sum(map(setup_cell.is_setup, done.cells)) == 1
    checks = [cell for cell in done.cells if "grader.check(" in cell.source]
    assert len(checks) == len(order)
    for cell in checks:
        said = cell.outputs[-1].data["text/plain"]
        assert "All test cases passed!" in said, (cell.source, said)
