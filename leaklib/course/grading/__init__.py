"""Grading notebooks that nobody has read: a submission runs in a process that can do little.

    submission = Submission(cells)          # runs the student's cells, confined and limited
    submission.call("label_of", db)         # the student's function, called from outside

The grader never runs a line of the student's in its own process.  What comes back is numbers and
tensors, as safetensors and JSON; what goes in is what the function is asked, never the answer.
`leaklib.course.grading.plugin.Confined` is the same as a plugin of Otter-Grader, and
`python -m leaklib.course.grading` grades a whole class with it.
"""

from .submission import Limits, Submission, SubmissionError

__all__ = ["Limits", "Submission", "SubmissionError"]
