"""Making coursework, and the proofs about it, on notebooks small enough to see through."""

import ast
import json
import re
import zipfile

import nbformat
import pytest

import assignments
import notebooks

SECRET = "a secret of the instructor's, 0123456789"
TEST = """\
from otter.test_files import test_case

@test_case(points=1, hidden=False)
def test_seen(f):
    assert f(1) == 2, 'one more is wanted'

@test_case(points=1, hidden=True)
def test_unseen(f):
    assert f(1_000_000) == 1_000_001
"""
CONFIG = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"otter": {"tests": {"q1": "def t(): ..."}}},
}


def cell(id_, source, kind="code", answer=False):
    made = getattr(nbformat.v4, f"new_{kind}_cell")(source, id=id_)
    if answer:
        made.metadata["tags"] = ["otter_answer_cell"]
    return made


def notebook(*cells):
    return nbformat.from_dict({**CONFIG, "cells": list(cells)})


def solution():
    return notebook(
        cell("title", "# Title", "markdown"),
        cell("otter", 'import otter\ngrader = otter.Notebook("a.ipynb")'),
        cell("q1", "def f(x):\n    raised = x + 1\n    return raised", answer=True),
        cell("q2", "The reason is this.", "markdown", answer=True),
        cell("end", "print(1)"),
    )


def student():
    blank = solution()
    blank.cells[2].source = "def f(x):\n    ..."
    blank.cells[3].source = "_Type your answer here._"
    return blank


# --- the student's notebook is the solution with holes


def differences(changed):
    return list(assignments.differences("a", changed, solution()))


def test_the_solution_with_holes_has_no_fault():
    assert differences(student()) == []
    without = student()
    del without.cells[3]
    assert differences(without) == [], "an answer's cell may be missing"


def test_a_cell_that_only_students_have_is_a_fault():
    more = student()
    more.cells.insert(1, cell("new", "x = 1"))
    assert "students have cells that the solution has not" in differences(more)[0]


def test_cells_in_another_order_are_a_fault():
    turned = student()
    turned.cells[1], turned.cells[4] = turned.cells[4], turned.cells[1]
    assert "in another order" in differences(turned)[0]


def test_a_cell_that_students_lack_is_a_fault():
    less = student()
    del less.cells[4]
    assert differences(less) == ["a: a cell is missing for students: 'print(1)'"]


def test_a_cell_that_differs_is_a_fault():
    other = student()
    other.cells[4].source = "print(2)"
    assert differences(other) == ["a: a cell without an answer differs: 'print(2)'"]


def test_a_line_in_an_answer_that_is_no_hole_is_a_fault():
    other = student()
    other.cells[2].source = "def f(x):\n    # say why\n    helped = x\n    ..."
    assert differences(other) == ["a: not in the solution: '    helped = x'"]


# --- nothing is given away


@pytest.fixture
def made(tmp_path, monkeypatch):
    """dist/a as made, of one question."""
    monkeypatch.setenv("LEAKLIB_SECRET", SECRET)
    for part in ("student", "autograder"):
        (tmp_path / part).mkdir()
    with zipfile.ZipFile(tmp_path / "autograder" / "a.zip", "w") as packed:
        packed.writestr("tests/q1.py", TEST)
    assignments.save(tmp_path / "student" / "a.ipynb", student())
    return tmp_path


def given_away(made):
    return list(assignments.given_away("a", made, solution()))


def test_a_clean_assignment_gives_nothing_away(made):
    assert given_away(made) == []


@pytest.mark.parametrize(
    "text, fault",
    [
        (SECRET, "the secret is in what students receive"),
        ("assert f(1_000_000) == 1_000_001", "a line of a hidden test"),
        ("    raised = x + 1", "a line of a solution"),
    ],
)
def test_what_must_not_reach_students_is_found(made, text, fault):
    blank = student()
    blank.metadata["note"] = text
    assignments.save(made / "student" / "a.ipynb", blank)
    (found,) = given_away(made)
    assert fault in found


def test_quotes_hide_nothing(made):
    """Otter writes tests anew, with quotes of its own; in Colab's cell they stand escaped."""
    with zipfile.ZipFile(made / "autograder" / "a.zip", "w") as packed:
        line = 'assert f(1, "half") == "é", "another"'
        packed.writestr("tests/q1.py", f"@test_case(hidden=True)\ndef test(f):\n    {line}")
    colab = json.dumps({"q1": f"def test(f):\n    {line}"}, ensure_ascii=False)
    for text in (line.replace('"', "'"), colab):
        blank = student()
        blank.cells[4].source = text
        assignments.save(made / "student" / "a.ipynb", blank)
        assert any("a line of a hidden test" in fault for fault in given_away(made)), text


def test_a_line_of_a_visible_test_may_reach_students(made):
    blank = student()
    blank.metadata["note"] = "assert f(1) == 2, 'one more is wanted'"
    assignments.save(made / "student" / "a.ipynb", blank)
    assert given_away(made) == []


def test_what_lies_beside_the_notebook_is_looked_through_as_well(made):
    (made / "student" / "more").mkdir()
    (made / "student" / "more" / "notes.txt").write_text(SECRET)
    assert len(given_away(made)) == 1


# --- sources


@pytest.mark.parametrize("name", assignments.names())
def test_what_an_assignment_shows_and_proposes_runs(name, tmp_path, monkeypatch):
    """Its cells with the answers in them, and the code that its text tells students to try."""
    monkeypatch.chdir(tmp_path)
    cells = assignments.read(assignments.SOURCES / f"{name}.ipynb").cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    answers = [source for source in code if "TEST CONFIG" not in source]
    proposed = re.findall(r"(?s)```python\n(.*?)```", "\n".join(cell.source for cell in cells))
    assert len(answers) > len(assignments.questions(name))
    names = {}
    for source in [*answers, *proposed]:
        exec(source, names)


# --- made notebooks


def test_an_answer_is_replaced_in_a_copy():
    first = solution()
    changed = assignments.with_answers(first, ["q1"], {"q1": "\ndef f(x):\n    return 0\n"})
    assert changed.cells[2].source == "def f(x):\n    return 0"
    assert first.cells[2].source == solution().cells[2].source
    with pytest.raises(KeyError):
        assignments.with_answers(first, ["q1"], {"q9": ""})
    with pytest.raises(ValueError, match="argument"):
        assignments.with_answers(first, ["q1", "q2"], {})


def test_the_setup_cell_comes_second_and_installs_for_coursework():
    cells = assignments.with_setup(student()).cells
    assert [cell["id"] for cell in cells] == ["title", "setup", "otter", "q1", "q2", "end"]
    assert "leaklib[coursework]" in cells[1].source and "privacy" not in cells[1].source
    # who has leaklib alone lacks Otter
    assert 'if not all(map(importlib.util.find_spec, ("leaklib", "otter"))):' in cells[1].source


def test_the_notebook_for_colab_writes_its_own_checks(tmp_path, monkeypatch):
    before = student()
    colab = assignments.for_colab(before)
    nbformat.validate(colab)
    assert [c["id"] for c in colab.cells] == ["title", "checks", "otter", "q1", "q2", "end"]
    assert 'otter.Notebook(tests_dir="tests")' in colab.cells[2].source
    monkeypatch.chdir(tmp_path)
    exec(colab.cells[1].source, {})
    assert (tmp_path / "tests" / "q1.py").read_text() == "def t(): ..."
    assert before.cells[1].source == student().cells[1].source, "the other notebook changed"


def test_a_solution_for_teachers_has_no_marks_for_otter():
    marked = solution()
    marked.cells[
        2
    ].source = "# BEGIN SOLUTION NO PROMPT\nx = 1  # SOLUTION\n    # END SOLUTION\ny = 2"
    assert assignments.answer_cells(assignments.without_marks(marked))[0].source == "x = 1\ny = 2"


# --- the secret


@pytest.fixture
def dist(tmp_path, monkeypatch):
    monkeypatch.delenv("LEAKLIB_SECRET", raising=False)
    monkeypatch.setattr(assignments, "DIST", tmp_path / "dist")
    return tmp_path / "dist"


def test_a_secret_is_made_once_and_for_its_owner_alone(dist):
    first = assignments.secret()
    assert len(first) > 40 and assignments.secret() == first
    assert (dist / "secret.txt").stat().st_mode & 0o777 == 0o600
    (dist / "secret.txt").unlink()
    assert assignments.secret() != first


def test_the_secret_of_the_environment_counts_more(dist, monkeypatch):
    assignments.secret()
    monkeypatch.setenv("LEAKLIB_SECRET", SECRET)
    assert assignments.secret() == SECRET
    monkeypatch.setenv("LEAKLIB_SECRET", "short")
    with pytest.raises(SystemExit, match="LEAKLIB_SECRET: secret: got 5 characters; wanted"):
        assignments.secret()


# --- the whole check, with the grading in place of a minute's work


@pytest.fixture
def checked(made, dist, tmp_path, monkeypatch):
    """faults(marks, wrong): the faults of an assignment whose solutions get these marks."""
    (tmp_path / "sources").mkdir()
    source = notebook(
        cell("a", "# BEGIN QUESTION\nname: q1\npoints: 2", "raw"),
        cell("b", "# BEGIN QUESTION\nname: q2\nmanual: true", "raw"),
    )
    assignments.save(tmp_path / "sources" / "a.ipynb", source)
    monkeypatch.setattr(assignments, "SOURCES", tmp_path / "sources")
    made.joinpath("solution").mkdir()
    assignments.save(made / "solution" / "a.ipynb", solution())
    monkeypatch.setattr(assignments, "DIST", tmp_path.parent)
    monkeypatch.setattr(assignments.grading, "points_of", lambda _: {"q1": 2})

    def faults(marks, wrong):
        table = "".join(
            f'[{name}]\nmarks = {{ q1 = {mark} }}\nanswers.q1 = "f = {name!r}"\n'
            for name, mark in wrong.items()
        )
        (tmp_path / "sources" / "a.toml").write_text(table)

        def grade(path, zipped):
            score = marks.get(path.stem, 0)
            return {"questions": {"q1": [score, 2]}, "score": score, "possible": 2, "lines": []}

        monkeypatch.setattr(assignments.grading, "grade", grade)
        name = made.name
        for part, ending in (("student", "ipynb"), ("solution", "ipynb"), ("autograder", "zip")):
            (made / part / f"a.{ending}").rename(made / part / f"{name}.{ending}")
        for ending in ("ipynb", "toml"):
            (tmp_path / "sources" / f"a.{ending}").rename(tmp_path / "sources" / f"{name}.{ending}")
        return list(assignments.faults(name))

    return faults


FULL = {"solution": 2, "one": 1}
WRONG = {"one": 1, "two": 0, "three": 0}


def test_an_assignment_that_grades_as_it_should_has_no_fault(checked):
    assert checked(FULL, WRONG) == []


@pytest.mark.parametrize(
    "marks, case",
    [
        ({**FULL, "solution": 1}, "solution"),
        ({**FULL, "blank": 1}, "blank"),
        ({**FULL, "one": 2}, "one"),
        ({**FULL, "three": 1}, "three"),
    ],
)
def test_marks_that_are_not_those_of_the_table_are_a_fault(checked, marks, case):
    (fault,) = checked(marks, WRONG)
    assert f", {case}: got {{'q1': {marks[case]}}}; wanted" in fault


def test_fewer_than_three_wrong_answers_are_a_fault(checked):
    (fault,) = checked(FULL, {"one": 1, "two": 0})
    assert "has 2 wrong answers; wanted at least 3" in fault


def test_questions_with_an_answer_in_code_are_those_not_graded_by_hand(checked, monkeypatch):
    assert assignments.questions("a") == ["q1"]


def test_a_name_that_is_unknown_is_told():
    assert "no assignment nothing; there are" in assignments.main(["check", "nothing"])
    assert assignments.main([]) == assignments.main(["bake"]) == assignments.__doc__


# --- the sources


@pytest.mark.parametrize("name", assignments.names())
def test_a_source_is_whole_and_its_wrong_answers_are_of_its_questions(name):
    order = assignments.questions(name)
    for case, given in assignments.wrong_answers(name).items():
        assert set(given["answers"]) <= set(order) and set(given["marks"]) <= set(order), case
        for source in given["answers"].values():
            ast.parse(source)
    raw = [c.source for c in assignments.read(assignments.SOURCES / f"{name}.ipynb").cells]
    assert sum(source.startswith("# BEGIN QUESTION") for source in raw) == sum(
        source.startswith("# END QUESTION") for source in raw
    )
    assert any("manual: true" in source for source in raw), "no question is graded by hand"


@pytest.mark.parametrize("name", assignments.names())
def test_a_source_is_committed_without_outputs(name):
    text = (notebooks.ROOT / "notebooks" / "assignments" / f"{name}.ipynb").read_text("utf-8")
    assert all(not c.get("outputs") for c in json.loads(text)["cells"])


@pytest.mark.nightly
def test_the_first_assignment_is_made_and_graded(tmp_path, monkeypatch):
    """The solution has all points and the blank none; the wrong answers are graded at night."""
    monkeypatch.setattr(assignments, "DIST", tmp_path / "dist")
    monkeypatch.setenv("LEAKLIB_SECRET", SECRET)
    assignments.make("labels")
    made = tmp_path / "dist" / "labels"
    for part, share in (("solution", 1), ("student", 0)):
        notebook, zipped = made / part / "labels.ipynb", made / "autograder" / "labels.zip"
        got = assignments.grading.grade(notebook, zipped)
        assert got["score"] == share * got["possible"] > -1, got["lines"]
