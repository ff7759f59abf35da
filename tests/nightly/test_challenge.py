"""Every level of Capture the image, solved by the book's attack for eight students."""

import importlib.util
from pathlib import Path

import pytest

from leaklib.course import challenge

pytestmark = pytest.mark.nightly

# the solutions stand beside the tests of every change
UNIT = Path(__file__).parent.parent / "unit" / "course" / "test_challenge.py"
_spec = importlib.util.spec_from_file_location("challenge_solutions", UNIT)
solutions = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(solutions)


@pytest.mark.parametrize("level", challenge.LEVELS)
def test_the_attack_of_the_book_earns_full_marks_for_a_class(level, tmp_path):
    pool = challenge.open_pool(solutions.photographs())
    students = [f"student{i}" for i in range(8)]
    for grade in solutions.points_of_attack(level, students, pool, tmp_path):
        assert grade.points == 10, grade.lines
