"""Grade the notebooks of a class: a score, a report and a line for everybody.

    python -m leaklib.course.grading SUBMISSIONS --autograder ZIP --to FOLDER [--workers 2]

SUBMISSIONS is a folder with one notebook for each student, NAME.ipynb. Written to FOLDER:
scores.csv, and NAME.json and NAME.txt with what each question got and why. A notebook is graded
again only if it or the autograder has changed. No notebook can stop the others.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from tqdm import tqdm

from ... import _files
from ..class_table import as_text, write_table
from .submission import SLACK, Limits, Submission, SubmissionError, line_of

MOST_BYTES = 50 * 2**20  # of a notebook
STARTS = 300  # seconds that Otter itself may take, on a busy machine
PATIENCE = 30  # seconds that it has to clear up


def grade(notebook: Path, autograder: Path) -> dict:
    """{"score", "possible", "questions": {name: [score, of]}, "lines": [...]} of one notebook.

    Whatever is wrong with the notebook costs its points and is a line; nothing raises.
    """
    name = settings_of(autograder).get("assignment_name", "")
    try:
        cells = code_of(content_of(notebook), name)
    except ValueError as fault:
        return no_points(autograder, line_of(fault))
    with tempfile.TemporaryDirectory() as folder:
        # Otter would unpickle a log beside the notebook, so it gets the notebook alone
        alone = Path(folder) / "submission.ipynb"
        alone.write_text(json.dumps(notebook_of(cells, name)), "utf-8")
        command = [sys.executable, "-m", "otter", "run", "-a", str(autograder.resolve())]
        command += ["-o", folder, "--no-logo", str(alone)]
        limits = limits_of(autograder)
        seconds = SLACK * limits.total + STARTS
        if fault := fault_of(command, folder, seconds):
            return no_points(autograder, f"Otter could not grade this notebook: {fault}")
        results = Path(folder) / "results.json"
        return summary_of(json.loads(results.read_text("utf-8")))


def fault_of(command: Sequence[str], folder: str, seconds: float) -> str | None:
    """Run a command; why it did not end well, or None."""
    aside = Path(folder) / "messages.txt"
    with aside.open("wb") as messages:
        run = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages
        )
        try:
            code = run.wait(seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)  # Otter then ends its kernel, which ends the submission
            try:
                run.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait()
            return f"it was stopped after {seconds:g} s"
    said = aside.read_text("utf-8", errors="replace").strip().splitlines()
    return line_of(said[-1] if said else f"it ended with {code}") if code else None


def content_of(notebook: Path) -> bytes:
    """The bytes of a file.  Raises ValueError where it is a link, no file, or too large."""
    if notebook.is_symlink() or not notebook.is_file():
        raise ValueError("This is a link, or no file.")
    try:
        with notebook.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"The file cannot be read: {error.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"The file has more than {MOST_BYTES:,} bytes: clear its outputs.")
    return content


def code_of(content: bytes, name: str) -> list[str]:
    """The source of each code cell.  Raises ValueError for anything but the assignment's notebook.

    It is read as JSON: libraries that read notebooks trust them, and take minutes over a hostile
    one.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"This is not a notebook: {error}") from None
    cells = found.get("cells") if isinstance(found, dict) else None
    if not isinstance(cells, list) or found.get("nbformat") != 4:
        raise ValueError("This is not a notebook: wanted a list of cells, in nbformat 4.")
    metadata = found.get("metadata")
    otter = metadata.get("otter") if isinstance(metadata, dict) else None
    stated = otter.get("assignment_name", name) if isinstance(otter, dict) else name
    if stated != name:
        raise ValueError(f"This is the notebook of {stated!r}; wanted {name!r}.")
    code = []
    for number, cell in enumerate(cells, start=1):
        kind = cell.get("cell_type") if isinstance(cell, dict) else None
        source = cell.get("source") if isinstance(cell, dict) else None
        lines = source if isinstance(source, list) else [source]
        known = kind in ("code", "markdown", "raw") and all(isinstance(x, str) for x in lines)
        if not known:
            raise ValueError(f"This is not a notebook: cell {number} has no known type and source.")
        if kind == "code":
            code.append("".join(lines))
    return code


def notebook_of(cells: Sequence[str], name: str) -> dict:
    """A notebook of these code cells: no outputs, and no metadata but the assignment's name."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "otter": {"assignment_name": name}}
    code = [nbformat.v4.new_code_cell(source) for source in cells]
    return nbformat.v4.new_notebook(cells=code, metadata=metadata)


def settings_of(autograder: Path) -> dict:
    with zipfile.ZipFile(autograder) as packed:
        return json.loads(packed.read("otter_config.json"))


def limits_of(autograder: Path) -> Limits:
    for plugin in settings_of(autograder).get("plugins", []):
        if isinstance(plugin, dict):
            for given in plugin.values():
                return Limits(**given.get("limits", {}))
    return Limits()


def points_of(autograder: Path) -> dict[str, float]:
    """{question: points}, as the test files state them."""
    found = {}
    with zipfile.ZipFile(autograder) as packed:
        for path in sorted(packed.namelist()):
            if path.startswith("tests/") and path.endswith(".py"):
                stated = {
                    line.targets[0].id: line.value.value
                    for line in ast.parse(packed.read(path)).body
                    if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
                }
                found[stated["name"]] = stated["points"]
    return found


def no_points(autograder: Path, line: str) -> dict:
    questions = {name: [0, points] for name, points in points_of(autograder).items()}
    possible = sum(points for _, points in questions.values())
    return {"score": 0, "possible": possible, "questions": questions, "lines": [line]}


def summary_of(results: dict) -> dict:
    """What Otter's results say, without their repetitions."""
    tests = [test for test in results["tests"] if "max_score" in test]
    questions = {test["name"]: [test["score"], test["max_score"]] for test in tests}
    lines = [line for line in results.get("output", "").splitlines() if line.strip()]
    for test in tests:
        if test["score"] < test["max_score"]:
            lines += [f"{test['name']}: {reason}" for reason in reasons(test["output"])]
    return {
        "score": sum(score for score, _ in questions.values()),
        "possible": sum(points for _, points in questions.values()),
        "questions": questions,
        "lines": lines,
    }


def reasons(output: str) -> list[str]:
    """The last line of each failed test, without the name of the error."""
    endings = []
    for block in output.split("\n\n"):
        written = [line.strip() for line in block.splitlines() if line.strip()]
        if written and "failed" in block:
            last = written[-1].removeprefix("AssertionError:").strip()
            last = last.removeprefix(f"{SubmissionError.__module__}.SubmissionError:").strip()
            endings.append(last or "a test failed")
    return list(dict.fromkeys(endings))


def fingerprint(notebook: Path, autograder: Path) -> str:
    """Changes when the notebook or what grades it changes (not with the times in the zip)."""
    try:
        total = hashlib.sha256(content_of(notebook))
    except ValueError as fault:
        total = hashlib.sha256(str(fault).encode())
    with zipfile.ZipFile(autograder) as packed:
        for name in sorted(packed.namelist()):
            total.update(name.encode() + packed.read(name))
    return total.hexdigest()


def graded(notebook: Path, autograder: Path, to: Path) -> dict:
    """The result of one student: the one on file, or a new one, which is put on file."""
    path, mark = to / f"{notebook.stem}.json", fingerprint(notebook, autograder)
    if (known := on_file(path)).get("of") == mark:
        return known
    result = {"of": mark, **grade(notebook, autograder)}
    try:
        _files.write(path, json.dumps(result, indent=1).encode())
        words = report(notebook.stem, result)
        # a student's file may have a name that is no text
        _files.write(to / f"{notebook.stem}.txt", words.encode(errors="backslashreplace"))
    except OSError as error:  # a name too long for a file of its own
        result["lines"].append(f"There is no report: {error.strerror}.")
    return result


def on_file(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def report(name: str, result: dict) -> str:
    marks = [f"  {q}: {score:g} of {of:g}" for q, (score, of) in result["questions"].items()]
    head = f"{name}: {result['score']:g} of {result['possible']:g} points"
    return "\n".join([head, *marks, "", *result["lines"]]).rstrip() + "\n"


def grade_notebooks(submissions: Path, autograder: Path, to: Path, workers: int = 2) -> Path:
    """Grade every notebook of a folder; return the path of scores.csv."""
    notebooks = sorted(submissions.glob("*.ipynb"))
    to.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        work = pool.map(lambda notebook: graded(notebook, autograder, to), notebooks)
        results = list(tqdm(work, total=len(notebooks), unit="notebook"))
    questions = list(points_of(autograder))
    rows = []
    for notebook, result in zip(notebooks, results, strict=True):
        marks = {name: result["questions"].get(name, [0])[0] for name in questions}
        row = {"student": as_text(notebook.stem), "line": next(iter(result["lines"]), "")}
        rows.append({**row, "score": result["score"], "possible": result["possible"], **marks})
    path = to / "scores.csv"
    write_table(path, ["student", "score", "possible", *questions, "line"], rows)
    return path


def start_once() -> list[str]:
    """What this machine cannot do.  Raises OSError where it can start no submission at all."""
    with Submission([]) as blank:
        return blank.notes


def main(arguments: Sequence[str] | None = None) -> int | str:
    parser = argparse.ArgumentParser(prog="python -m leaklib.course.grading", description=__doc__)
    parser.add_argument("submissions", type=Path)
    parser.add_argument("--autograder", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    if not given.submissions.is_dir():
        return f"SUBMISSIONS is {given.submissions}; wanted a folder of notebooks"
    if not zipfile.is_zipfile(given.autograder):
        return f"--autograder is {given.autograder}; wanted the zip that `make assignments` made"
    if sys.platform != "linux":
        return "Grading needs Linux, which can confine a process: take a container."
    try:
        for note in start_once():
            print(note)
    except OSError as error:
        return str(error)
    print(grade_notebooks(given.submissions, given.autograder, given.to, given.workers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
