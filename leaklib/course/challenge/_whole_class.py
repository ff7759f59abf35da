"""Challenges and scores for a whole class; both can be resumed, and no file stops the others."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from ..._errors import bad
from ..class_table import read_table, write_table
from ._file import LARGEST, read_challenge
from ._grade import IMAGE_POINTS, LABEL_POINTS, Grade, grade_challenge
from ._keys import FORMAT, Draws
from ._levels import LEVELS, level_of
from ._make import check_made_with, make_challenge
from ._pool import Pool

COLUMNS = (
    "student_id", "level", "points", "out_of", "labels_right", "psnr", "ssim", "line", "graded"
)  # fmt: skip
EVERY = 5.0  # seconds between two writings of the scores


class Made(NamedTuple):
    """How many files were written, and how many were there already."""

    new: int
    there: int


def challenge_name(student_id: str, level: str) -> str:
    """What a student's challenge is called."""
    return f"challenge-{level}-{student_id}.safetensors"


def answer_name(student_id: str, level: str) -> str:
    """What the answer to it is called."""
    return f"answer-{level}-{student_id}.safetensors"


# ------------------------------------------------------------------ make
def make_class(
    students: Sequence[str], secret: str | bytes, levels: Iterable[str], *, images: Pool, to: Path
) -> Made:
    """Write a file for each student and level into the folder `to`.  Valid files stay.

    Raises ValueError for a file that was made with another secret or other pictures: it may have
    been handed out.
    """
    to.mkdir(parents=True, exist_ok=True)
    jobs = [(student, level) for level in levels for student in students]
    new = 0
    for student, level in tqdm(jobs, "challenges", disable=None):
        file = to / challenge_name(student, level)
        if not _is_there(file, student, secret, level, images):
            make_challenge(student, secret, level, images=images, to=file)
            new += 1
    return Made(new, len(jobs) - new)


def _is_there(file: Path, student: str, secret: str | bytes, level: str, images: Pool) -> bool:
    if not file.exists():
        return False
    try:
        _, facts = read_challenge(file)
    except ValueError:
        return False  # a broken file is made again
    try:
        check_made_with(facts, Draws(secret, student, level), level_of(level), images)
    except ValueError as error:
        why = f"{file.name} is there already, and was made differently ({error})"
        raise ValueError(f"{why}: remove it, or give another folder") from error
    return (facts.student_id, facts.level) == (student, level)


# ------------------------------------------------------------------ grade
def grade_answers(
    students: Sequence[str],
    secret: str | bytes,
    levels: Iterable[str] | None,
    *,
    images: Pool,
    answers: Path,
    challenges: Path,
    to: Path,
) -> list[dict[str, str]]:
    """The rows of a table of scores, by student and level, also written to the CSV file `to`.

    levels: None for all of which somebody has a challenge.  An answer that `to` already has a score
    for is not graded again.  The line of a broken answer says what is wrong with it.
    Raises ValueError, before anything is graded, for folders that are not there, where nobody has a
    challenge, and where a challenge was made with another secret or other pictures.
    """
    for name, folder in (("answers", answers), ("challenges", challenges)):
        if not folder.is_dir():
            raise bad(name, repr(str(folder)), "a folder")
    has = lambda s, level: (challenges / challenge_name(s, level)).exists()  # noqa: E731
    levels = levels or [level for level in LEVELS if any(has(s, level) for s in students)]
    jobs = [(student, level) for student in students for level in levels]
    if not any(has(*job) for job in jobs):
        raise bad(
            "challenges", repr(str(challenges)), "the folder that `make` wrote for this class"
        )
    for job in jobs:
        _check(*job, secret, images, challenges)
    known = {(row["student_id"], row["level"]): row for row in read_table(to, COLUMNS)}
    rows = {job: row for job, row in known.items() if job[0] in students}
    written = time.monotonic()
    try:
        for student, level in tqdm(jobs, "answers", disable=None):
            file = answers / answer_name(student, level)
            now = _fingerprint(file, challenges / challenge_name(student, level))
            if rows.get((student, level), {}).get("graded") != now:
                made = has(student, level)
                rows[student, level] = _row(student, secret, level, images, file, made, now)
            if time.monotonic() - written > EVERY:
                write_table(to, COLUMNS, rows.values())
                written = time.monotonic()
    finally:
        write_table(to, COLUMNS, rows.values())
    return [rows[job] for job in jobs]


def strangers(students: Sequence[str], answers: Path) -> list[str]:
    """The names of files among the answers that belong to no student: perhaps misspelled."""
    known = {answer_name(student, level) for student in students for level in LEVELS}
    names = (file.name for file in answers.iterdir() if not file.name.startswith("."))
    return sorted(name for name in names if name not in known)


def _check(student: str, level: str, secret: str | bytes, images: Pool, challenges: Path) -> None:
    """Raise ValueError where a challenge was made with another secret, or other pictures."""
    file = challenges / challenge_name(student, level)
    if file.exists():
        _, facts = read_challenge(file)
        try:
            check_made_with(facts, Draws(secret, student, level), level_of(level), images)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error


def _row(
    student: str, secret: str | bytes, level: str, images: Pool, file: Path, made: bool, graded: str
) -> dict[str, str]:
    if made:
        grade = grade_challenge(student, secret, file, level=level, images=images)
    else:
        grade = Grade(0.0, 0.0, (), (), 0, ("no challenge of this level was made",))
    values = (
        student,
        level,
        f"{grade.points:g}",
        f"{grade.out_of:g}",
        str(grade.labels_right),
        " ".join(f"{p:.2f}" for p in grade.psnr),
        " ".join(f"{s:.3f}" for s in grade.ssim),
        "; ".join(grade.lines),
        graded,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _fingerprint(*files: Path) -> str:
    """Changes when an answer must be graded again: with it, its challenge, or the rules."""
    marks = [(level.full, level.floor) for level in LEVELS.values()]
    total = hashlib.sha256(repr((FORMAT, LABEL_POINTS, IMAGE_POINTS, marks)).encode())
    for file in files:
        total.update(hashlib.sha256(_beginning(file)).digest())
    return total.hexdigest()[:16]


def _beginning(file: Path) -> bytes:
    """A file up to the largest size allowed; empty where it is no file, or cannot be read."""
    try:
        if file.is_file():
            with file.open("rb") as opened:
                return opened.read(LARGEST + 1)
    except OSError:
        pass
    return b""
