"""Grade the notebooks of a class: one score, one report and one line for everybody.

    python -m leaklib.grading SUBMISSIONS --autograder ZIP --to FOLDER [--workers 2]

SUBMISSIONS is a folder with one notebook a student, NAME.ipynb. Written to FOLDER: scores.csv,
and NAME.json and NAME.txt with what each question got and why. What has been graded is not graded
again, unless the notebook or the autograder changed. No notebook can stop the others.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from tqdm import tqdm

from .submission import Limits

MOST_BYTES = 50 * 2**20  # of a notebook
STARTS = 300  # seconds that Otter itself may take, on a busy machine


def grade(notebook: Path, autograder: Path) -> dict:
    """{"score", "possible", "questions": {name: [score, of]}, "lines": [...]} of one notebook.

    Every fault of the notebook is a line and costs what it costs; none raises.
    """
    name = settings_of(autograder).get("assignment_name", "")
    if fault := unreadable(notebook) or another(notebook, name):
        return nothing(autograder, fault)
    with tempfile.TemporaryDirectory() as folder:
        # Otter would read a log beside the notebook, with pickle: it is given the notebook alone
        alone = Path(folder) / "submission.ipynb"
        alone.write_text(json.dumps(cleaned(notebook, name)), "utf-8")
        command = [sys.executable, "-m", "otter", "run", "-a", str(autograder.resolve())]
        command += ["-o", folder, "--no-logo", str(alone)]
        seconds = limits_of(autograder).total + STARTS
        try:
            run = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return nothing(autograder, f"Grading was stopped after {seconds:g} s.")
        results = Path(folder) / "results.json"
        if run.returncode or not results.exists():
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            return nothing(autograder, f"Otter could not grade this notebook: {last}")
        return told(json.loads(results.read_text("utf-8")))


def unreadable(notebook: Path) -> str | None:
    """Why a file is no notebook, or None."""
    if notebook.stat().st_size > MOST_BYTES:
        return f"The file has more than {MOST_BYTES:,} bytes."
    try:
        found = nbformat.read(notebook, as_version=4)
        nbformat.validate(found)
    except Exception as error:  # whatever a stranger's file makes of the reader
        return f"This is not a notebook: {' '.join(str(error).split())[:200]}"
    return None


def another(notebook: Path, name: str) -> str | None:
    """Why a notebook belongs to another assignment, or None."""
    metadata = nbformat.read(notebook, as_version=4).metadata.get("otter", {})
    stated = metadata.get("assignment_name", name) if isinstance(metadata, dict) else name
    return None if stated == name else f"This is the notebook of {stated!r}; wanted {name!r}."


def cleaned(notebook: Path, name: str) -> dict:
    """The notebook's code cells alone: no outputs, no metadata but the assignment's name."""
    found = nbformat.read(notebook, as_version=4)
    cells = [nbformat.v4.new_code_cell(c.source) for c in found.cells if c.cell_type == "code"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "otter": {"assignment_name": name}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


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
    """The points of each question, as the test files state them."""
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


def nothing(autograder: Path, line: str) -> dict:
    questions = {name: [0, points] for name, points in points_of(autograder).items()}
    possible = sum(points for _, points in questions.values())
    return {"score": 0, "possible": possible, "questions": questions, "lines": [line]}


def told(results: dict) -> dict:
    """What Otter's results say, without its repetitions."""
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
    """The last line of each failed test, without the name of the error that asserts."""
    endings = []
    for block in output.split("\n\n"):
        written = [line.strip() for line in block.splitlines() if line.strip()]
        if written and "failed" in block:
            last = written[-1].removeprefix("AssertionError:").strip()
            last = last.removeprefix("leaklib.grading.submission.SubmissionError:").strip()
            endings.append(last or "a test failed")
    return list(dict.fromkeys(endings))


def fingerprint(notebook: Path, autograder: Path) -> str:
    """Changes when the notebook or what grades it changes (not with the times in the zip)."""
    total = hashlib.sha256(notebook.read_bytes())
    with zipfile.ZipFile(autograder) as packed:
        for name in sorted(packed.namelist()):
            total.update(name.encode() + packed.read(name))
    return total.hexdigest()


def write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, "utf-8")
    os.replace(aside, path)


def graded(notebook: Path, autograder: Path, to: Path) -> dict:
    """The result of one student: the one on file, or a new one, put on file."""
    path, mark = to / f"{notebook.stem}.json", fingerprint(notebook, autograder)
    if path.exists() and (known := json.loads(path.read_text("utf-8")))["of"] == mark:
        return known
    result = {"of": mark, **grade(notebook, autograder)}
    write(path, json.dumps(result, indent=1))
    write(path.with_suffix(".txt"), report(notebook.stem, result))
    return result


def report(name: str, result: dict) -> str:
    marks = [f"  {q}: {score:g} of {of:g}" for q, (score, of) in result["questions"].items()]
    head = f"{name}: {result['score']:g} of {result['possible']:g} points"
    return "\n".join([head, *marks, "", *result["lines"]]).rstrip() + "\n"


def grade_class(submissions: Path, autograder: Path, to: Path, workers: int = 2) -> Path:
    """Grade every notebook of a folder; return the path of scores.csv."""
    notebooks = sorted(submissions.glob("*.ipynb"))
    to.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        work = pool.map(lambda notebook: graded(notebook, autograder, to), notebooks)
        results = list(tqdm(work, total=len(notebooks), unit="notebook"))
    table = io.StringIO()
    questions = list(points_of(autograder))
    rows = csv.writer(table)
    rows.writerow(["student", "score", "possible", *questions, "line"])
    for notebook, result in zip(notebooks, results, strict=True):
        marks = [result["questions"].get(name, [0])[0] for name in questions]
        line = result["lines"][0] if result["lines"] else ""
        rows.writerow([notebook.stem, result["score"], result["possible"], *marks, line])
    write(to / "scores.csv", table.getvalue())
    return to / "scores.csv"


def main(arguments: Sequence[str] | None = None) -> int | str:
    parser = argparse.ArgumentParser(prog="python -m leaklib.grading", description=__doc__)
    parser.add_argument("submissions", type=Path)
    parser.add_argument("--autograder", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    if not given.submissions.is_dir():
        return f"SUBMISSIONS is {given.submissions}; wanted a folder of notebooks"
    if not zipfile.is_zipfile(given.autograder):
        return f"--autograder is {given.autograder}; wanted the zip that `make assignments` made"
    print(grade_class(given.submissions, given.autograder, given.to, given.workers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
