"""Grading notebooks that nobody has read: a submission runs in a process that can do little.

    submission = Submission(cells)          # runs the student's cells, confined and limited
    submission.call("label_of", db)         # calls the student's function from outside

The grader never runs a line of the student's code in its own process.  Numbers and tensors come
back, as JSON and safetensors; what goes in is the question, never the answer.
`leaklib.course.grading.plugin.Confined` does this as a plugin of Otter-Grader, and
`python -m leaklib.course.grading` grades a whole class with it.
"""

from .submission import Limits, Submission, SubmissionError

__all__ = ["Limits", "Submission", "SubmissionError"]
