"""Answers to the book's exercises: each check says at once whether one is right, and if not, why.

A check takes what the reader wrote and returns a `Verdict`, which is true when the answer is right
and shows itself as one line.  It never raises: a notebook with open exercises runs to its end.
"""

from ._verdict import Verdict
from .chapter_1 import exercise_1_1, exercise_1_2, exercise_1_3
from .chapter_2 import exercise_2_1, exercise_2_2, exercise_2_3
from .chapter_3 import exercise_3_1, exercise_3_2, exercise_3_3
from .chapter_4 import exercise_4_1, exercise_4_2, exercise_4_3
from .chapter_5 import exercise_5_1, exercise_5_2, exercise_5_3
from .chapter_6 import exercise_6_1, exercise_6_2, exercise_6_3
from .chapter_7 import exercise_7_1, exercise_7_2, exercise_7_3
from .chapter_8 import exercise_8_1, exercise_8_2, exercise_8_3
from .chapter_9 import exercise_9_1, exercise_9_2, exercise_9_3
from .chapter_10 import exercise_10_1, exercise_10_2, exercise_10_3
from .chapter_11 import exercise_11_1, exercise_11_2, exercise_11_3
from .chapter_12 import exercise_12_1, exercise_12_2, exercise_12_3
from .chapter_13 import exercise_13_1, exercise_13_2, exercise_13_3
from .chapter_14 import exercise_14_1, exercise_14_2, exercise_14_3
from .chapter_15 import exercise_15_1, exercise_15_2, exercise_15_3
from .chapter_16 import exercise_16_1, exercise_16_2, exercise_16_3
from .chapter_17 import exercise_17_1, exercise_17_2, exercise_17_3

__all__ = [
    "Verdict",
    "exercise_1_1", "exercise_1_2", "exercise_1_3",
    "exercise_2_1", "exercise_2_2", "exercise_2_3",
    "exercise_3_1", "exercise_3_2", "exercise_3_3",
    "exercise_4_1", "exercise_4_2", "exercise_4_3",
    "exercise_5_1", "exercise_5_2", "exercise_5_3",
    "exercise_6_1", "exercise_6_2", "exercise_6_3",
    "exercise_7_1", "exercise_7_2", "exercise_7_3",
    "exercise_8_1", "exercise_8_2", "exercise_8_3",
    "exercise_9_1", "exercise_9_2", "exercise_9_3",
    "exercise_10_1", "exercise_10_2", "exercise_10_3",
    "exercise_11_1", "exercise_11_2", "exercise_11_3",
    "exercise_12_1", "exercise_12_2", "exercise_12_3",
    "exercise_13_1", "exercise_13_2", "exercise_13_3",
    "exercise_14_1", "exercise_14_2", "exercise_14_3",
    "exercise_15_1", "exercise_15_2", "exercise_15_3",
    "exercise_16_1", "exercise_16_2", "exercise_16_3",
    "exercise_17_1", "exercise_17_2", "exercise_17_3",
]  # fmt: skip
