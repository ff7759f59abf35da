"""Otter-Grader, with the student's notebook in a process of its own.

Otter runs a submission and its tests in one kernel, where the submission can read the tests, change
them, and write its own score.  With this plugin the kernel holds nothing but the tests:

    plugins:
      - leaklib.course.grading.plugin.Confined:
          functions: [label_of]       # what the tests call
          values: [counts]            # what they look at
          limits: {seconds: 60}       # as in `leaklib.course.grading.Limits`
"""

from __future__ import annotations

import atexit
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from otter.plugins import AbstractOtterPlugin

from .submission import Limits, Submission, SubmissionError

NOTES = "submission_notes.json"


class Confined(AbstractOtterPlugin):
    """Replace the submission with a notebook that asks it from outside."""

    def before_execution(self, submission: nbformat.NotebookNode) -> nbformat.NotebookNode:
        # where a submission becomes another user, root alone may look in here
        place = Path(self.submission_path).parent
        for folder in (place, place.parent / "source"):
            if folder.is_dir():
                folder.chmod(0o700)
        given = {
            "cells": [c["source"] for c in submission["cells"] if c["cell_type"] == "code"],
            "functions": self.plugin_config.get("functions", []),
            "values": self.plugin_config.get("values", []),
            "limits": self.plugin_config.get("limits", {}),
        }
        cell = (
            "import json\nfrom leaklib.course.grading.plugin import answers\n"
            f"globals().update(answers(**json.loads({json.dumps(given)!r})))"
        )
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])

    def after_grading(self, results: object) -> None:
        if notes := self._notes():
            results.set_output("\n".join(notes))

    def generate_report(self) -> str:
        return "\n".join(self._notes()) or "Every cell of the notebook ran."

    def _notes(self) -> list[str]:
        path = Path(self.submission_path).with_name(NOTES)
        return json.loads(path.read_text("utf-8")) if path.exists() else []


def answers(
    cells: Sequence[str],
    functions: Sequence[str],
    values: Sequence[str],
    limits: Mapping[str, float],
) -> dict[str, object]:
    """{name: function or value} of a submission, which starts here and ends with the kernel.

    A function raises SubmissionError where the student's raises.  A value that is missing or cannot
    be handed over is None.
    """
    submission = Submission(cells, Limits(**limits))
    atexit.register(submission.close)
    found: dict[str, object] = {
        name: functools.partial(submission.call, name) for name in functions
    }
    for name in values:
        try:
            found[name] = submission.value(name)
        except SubmissionError as error:
            found[name] = None
            submission.notes.append(f"{name}: {error}")
    Path(NOTES).write_text(json.dumps(submission.notes), "utf-8")
    return found
