"""Make the coursework from its sources, and prove that it grades as it should.

    python tools/assignments.py make [NAME ...]     write dist/NAME for every assignment
    python tools/assignments.py check [NAME ...]    grade what should be known

Sources: notebooks/assignments/NAME.ipynb (in Otter's format), and NAME.toml with wrong answers and
the marks that each must get. The secret from which hidden tests draw their cases comes from the
environment variable LEAKLIB_SECRET, else from dist/secret.txt, which is made at random once.

dist/NAME/student    NAME.ipynb, and NAME-colab.ipynb which brings its checks along
dist/NAME/solution   NAME.ipynb, for teachers
dist/NAME/autograder NAME.zip, for Gradescope, `otter run` and `python -m leaklib.course.grading`
"""

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import nbformat

import setup_cell
from leaklib import _files
from leaklib.course.grading import __main__ as grading
from leaklib.course.secret import VARIABLE, check_secret, read_secret, write_secret

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks" / "assignments"
DIST = ROOT / "dist"
ANSWERS = {"otter_answer_cell", "otter_assign_solution_cell"}
MARK = re.compile(r"\s*# (BEGIN|END) SOLUTION.*")
HOLES = re.compile(r"\s*(\w+ = )?\.\.\.\s*|\s*#.*|\s*")  # what a student finds in an answer's place


def names():
    return sorted(path.stem for path in SOURCES.glob("*.ipynb"))


def secret():
    """The instructor's own, or one made here and kept for the next time."""
    path, given = DIST / "secret.txt", os.environ.get(VARIABLE)
    if not given and not path.exists():
        DIST.mkdir(mode=0o700, exist_ok=True)
        write_secret(path)
    try:
        return (check_secret(given) if given else read_secret(path)).decode()
    except ValueError as error:
        raise SystemExit(f"{VARIABLE if given else path}: {error}") from None


def requirements():
    """What grades on another machine: leaklib from the repository's one address."""
    url, branch = setup_cell.repository((ROOT / "_config.yml").read_text("utf-8"))
    return f"leaklib[coursework] @ git+{url}@{branch}\n"


# --- making


def make(name):
    """Write dist/NAME; a run that fails leaves the old one."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copy(SOURCES / f"{name}.ipynb", work)
        (work / "secret.txt").write_text(secret() + "\n", "utf-8")
        (work / "requirements.txt").write_text(requirements(), "utf-8")
        command = [sys.executable, "-m", "otter", "assign", f"{name}.ipynb", "out", "--no-pdfs"]
        run = subprocess.run([*command, "--no-run-tests"], cwd=work, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"otter assign {name} failed:\n{run.stdout}{run.stderr}")
        made = work / "made"
        for part in ("student", "solution", "autograder"):
            (made / part).mkdir(parents=True)
        student = read(work / "out" / "student" / f"{name}.ipynb")
        student = with_setup(student)
        save(made / "student" / f"{name}.ipynb", student)
        save(made / "student" / f"{name}-colab.ipynb", for_colab(student))
        solution = with_setup(read(work / "out" / "autograder" / f"{name}.ipynb"))
        save(made / "solution" / f"{name}.ipynb", without_marks(solution))
        (packed,) = (work / "out" / "autograder").glob("*.zip")
        shutil.copy(packed, made / "autograder" / f"{name}.zip")
        shutil.rmtree(DIST / name, ignore_errors=True)
        DIST.mkdir(mode=0o700, exist_ok=True)
        shutil.copytree(made, DIST / name)


def read(path):
    return nbformat.read(path, as_version=4)


def save(path, notebook):
    _files.write(path, (nbformat.writes(notebook) + "\n").encode())


def with_setup(notebook):
    """The notebook with the book's own setup cell after its title, before Otter's."""
    missing = 'not all(map(importlib.util.find_spec, ("leaklib", "otter")))'
    cell = setup_cell.setup_cell(ROOT, "coursework", missing)
    source = "".join(cell["source"])
    setup = nbformat.v4.new_code_cell(source, id="setup", metadata=cell["metadata"])
    otter = [c for c in notebook.cells if "otter.Notebook(" in c.source]
    rest = [c for c in notebook.cells if c not in otter]
    notebook.cells = [*rest[:1], setup, *otter, *rest[1:]]
    return notebook


def without_marks(notebook):
    """The notebook without the comments that tell Otter where a solution begins."""
    for cell in answer_cells(notebook):
        kept = [line for line in cell.source.splitlines() if not MARK.fullmatch(line)]
        cell.source = "\n".join(kept).replace("  # SOLUTION", "")
    return notebook


def for_colab(notebook):
    """The notebook with its visible checks in a cell: Colab shows it no file but itself."""
    tests = notebook.metadata["otter"]["tests"]
    written = nbformat.v4.new_code_cell(
        "# Writes the checks of this notebook beside it: Colab keeps only the notebook itself.\n"
        "from pathlib import Path\n\n"
        f"checks = {json.dumps(tests, indent=2, ensure_ascii=False)}\n"
        'Path("tests").mkdir(exist_ok=True)\n'
        "for name, source in checks.items():\n"
        '    (Path("tests") / f"{name}.py").write_text(source)',
        id="checks",
        metadata={"tags": ["hide-input"], "cellView": "form"},
    )
    cells = []
    for cell in notebook.cells:
        cell = nbformat.NotebookNode(cell)
        if "otter.Notebook(" in cell.source:
            cells.append(written)
            cell = nbformat.v4.new_code_cell(
                'import otter\n\ngrader = otter.Notebook(tests_dir="tests")', id=cell["id"]
            )
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


# --- checking


def is_answer(cell):
    return bool(ANSWERS & set(cell.metadata.get("tags", [])))


def answer_cells(notebook):
    """The code cells that hold answers, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and is_answer(cell)]


def questions(name):
    """The questions with an answer in code, in order."""
    found = []
    for cell in read(SOURCES / f"{name}.ipynb").cells:
        begins = cell.cell_type == "raw" and cell.source.startswith("# BEGIN QUESTION")
        if begins and "manual: true" not in cell.source:
            found.append(re.search(r"name: (\w+)", cell.source).group(1))
    return found


def with_answers(notebook, order, answers):
    """The notebook with some of its answers replaced."""
    notebook = nbformat.reads(nbformat.writes(notebook), as_version=4)
    cells = dict(zip(order, answer_cells(notebook), strict=True))
    for question, source in answers.items():
        cells[question].source = source.strip("\n")
    return notebook


def wrong_answers(name):
    return tomllib.loads((SOURCES / f"{name}.toml").read_text("utf-8"))


def faults(name):
    """Everything that is wrong with an assignment as made, a line each."""
    made, order = DIST / name, questions(name)
    student, solution = (read(made / part / f"{name}.ipynb") for part in ("student", "solution"))
    zipped = made / "autograder" / f"{name}.zip"
    points = grading.points_of(zipped)
    cases = {"solution": (solution, points), "blank": (student, dict.fromkeys(points, 0))}
    wrong = wrong_answers(name)
    if len(wrong) < 3:
        yield f"{name}.toml has {len(wrong)} wrong answers; wanted at least 3"
    for case, given in wrong.items():
        notebook = with_answers(solution, order, given["answers"])
        cases[case] = notebook, {**points, **given["marks"]}
    with tempfile.TemporaryDirectory() as folder:
        for case, (notebook, wanted) in cases.items():
            path = Path(folder) / f"{case}.ipynb"
            save(path, notebook)
            result = grading.grade(path, zipped)
            got = {question: score for question, (score, _) in result["questions"].items()}
            if got != wanted:
                yield f"{name}, {case}: got {got}; wanted {wanted}; {result['lines']}"
            print(f"{name}: {case}: {result['score']:g} of {result['possible']:g}", flush=True)
    yield from differences(name, student, solution)
    yield from given_away(name, made, solution)


def differences(name, student, solution):
    """Where the student's notebook is more, or less, than the solution with holes."""
    theirs = {cell["id"]: cell for cell in solution.cells}
    mine = {cell["id"]: cell for cell in student.cells}
    if list(mine) != [id_ for id_ in theirs if id_ in mine]:
        yield f"{name}: students have cells that the solution has not, or in another order"
        return
    for id_ in theirs.keys() - mine.keys():
        if not is_answer(theirs[id_]):
            yield f"{name}: a cell is missing for students: {theirs[id_].source[:60]!r}"
    for id_, cell in mine.items():
        if not is_answer(theirs[id_]):
            if cell.source != theirs[id_].source:
                yield f"{name}: a cell without an answer differs: {cell.source[:60]!r}"
        elif cell.cell_type == "code":
            lines = difflib.ndiff(theirs[id_].source.splitlines(), cell.source.splitlines())
            for line in lines:
                if line.startswith("+ ") and not HOLES.fullmatch(line[2:]):
                    yield f"{name}: not in the solution: {line[2:]!r}"


def given_away(name, made, solution):
    """What a student receives and must not: an answer, a hidden test, the secret."""
    zipped = made / "autograder" / f"{name}.zip"
    with zipfile.ZipFile(zipped) as packed:
        tests = [packed.read(n).decode() for n in packed.namelist() if n.startswith("tests/")]
    visible, hidden = (lines_of_cases(tests, marked) for marked in ("hidden=False", "hidden=True"))
    given = [path for path in (made / "student").rglob("*") if path.is_file()]
    received = plain("\n".join(text for path in given for text in texts(path)))
    if plain(secret()) in received:
        yield f"{name}: the secret is in what students receive"
    shown = "\n".join(visible)
    for line in hidden:
        if len(line) > 20 and line not in shown and line in received:
            yield f"{name}: a line of a hidden test is in what students receive: {line!r}"
    known = lines_of(read(made / "student" / f"{name}.ipynb").cells)
    for line in sorted(lines_of(answer_cells(solution)) - known):
        if len(line) > 12 and line not in shown and line in received:
            yield f"{name}: a line of a solution is in what students receive: {line!r}"


def lines_of_cases(tests, marked):
    """The lines of those test cases whose first one is marked, without that."""
    cases = [plain(case).splitlines() for test in tests for case in test.split("@test_case(")[1:]]
    return [line.strip() for first, *lines in cases if marked in first for line in lines]


def lines_of(cells):
    return {plain(line.strip()) for cell in cells for line in cell.source.splitlines()}


def plain(text):
    """The text without what a string in a string, or Otter's rewriting, changes."""
    return text.replace("\\", "").replace('"', "'")


def texts(path):
    """Every text in a file: of a notebook each string, of another file the whole."""
    return strings(read(path)) if path.suffix == ".ipynb" else [path.read_text("utf-8")]


def strings(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, list | dict):
        for part in node.values() if isinstance(node, dict) else node:
            yield from strings(part)


def main(arguments):
    if not arguments or arguments[0] not in ("make", "check"):
        return __doc__
    chosen = arguments[1:] or names()
    if unknown := set(chosen) - set(names()):
        return f"no assignment {', '.join(sorted(unknown))}; there are {', '.join(names())}"
    for name in chosen:
        if arguments[0] == "make" or not (DIST / name).exists():
            make(name)
            print(f"dist/{name}", flush=True)
    if arguments[0] == "check":
        found = [fault for name in chosen for fault in faults(name)]
        return "\n".join(found) or 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
