"""The command line: python -m leaklib.course.challenge secret | make | grade."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ..class_table import read_class
from ..secret import VARIABLE, check_secret, read_secret, write_secret
from ._levels import LEVELS
from ._pool import Pool, open_pool
from ._whole_class import grade_answers, make_class, strangers

EPILOG = f"""\
The secret comes from --secret-file or from the environment variable {VARIABLE}, never from the
command line, which other users of the machine can read. Keep it: without it nothing can be graded.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it went well, and 2, with a line that says why, when it did not."""
    asked = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
            print(asked.run(asked))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m leaklib.course.challenge", description=__doc__, epilog=EPILOG
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    secret = commands.add_parser("secret", help="write a new secret into a file of your own")
    secret.add_argument("--to", type=Path, required=True, metavar="FILE")
    secret.set_defaults(run=_new_secret)

    make = commands.add_parser("make", help="write a challenge for every student", epilog=EPILOG)
    make.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    make.set_defaults(run=_make)

    grade = commands.add_parser("grade", help="score the answers of a class", epilog=EPILOG)
    grade.add_argument("--answers", type=Path, required=True, metavar="FOLDER")
    grade.add_argument(
        "--challenges", type=Path, required=True, metavar="FOLDER", help="what `make` wrote"
    )
    grade.add_argument("--to", type=Path, required=True, metavar="SCORES.csv")
    grade.set_defaults(run=_grade)

    for command in (make, grade):
        command.add_argument("students", type=Path, metavar="CLASS.csv", help="has student_id")
        command.add_argument("--images", type=Path, required=True, metavar="FOLDER")
        command.add_argument("--secret-file", type=Path, metavar="FILE")
        command.add_argument(
            "--level", action="append", choices=list(LEVELS), help="several times; all by default"
        )
    return parser


def _new_secret(asked: argparse.Namespace) -> str:
    write_secret(asked.to)
    return f"A new secret is in {asked.to}. Keep it, and show it to nobody."


def _make(asked: argparse.Namespace) -> str:
    students, secret, images = _given(asked)
    levels = list(dict.fromkeys(asked.level or LEVELS))
    made = make_class(students, secret, levels, images=images, to=asked.to)
    return f"{made.new} challenges written to {asked.to}, {made.there} were there already."


def _grade(asked: argparse.Namespace) -> str:
    students, secret, images = _given(asked)
    levels = list(dict.fromkeys(asked.level)) if asked.level else None
    rows = grade_answers(
        students, secret, levels,
        images=images, answers=asked.answers, challenges=asked.challenges, to=asked.to,
    )  # fmt: skip
    nobodys = strangers(students, asked.answers)
    if nobodys:
        some = ", ".join(repr(name) for name in nobodys[:5])
        print(f"note: file names that fit no student: {some} ({len(nobodys)})", file=sys.stderr)
    return f"{len(rows)} scores are in {asked.to}."


def _given(asked: argparse.Namespace) -> tuple[list[str], bytes, Pool]:
    students, secret = read_class(asked.students), _secret_of(asked.secret_file)
    images = open_pool(asked.images, progress=True)
    if len(images.hashes) < len(students):
        few = f"{len(images.hashes)} pictures for {len(students)} students"
        print(f"note: {few}: some will get parts of the same one", file=sys.stderr)
    return students, secret, images


def _secret_of(file: Path | None) -> bytes:
    if file is not None:
        return read_secret(file)
    if VARIABLE not in os.environ:
        raise ValueError(f"secret: none; give --secret-file FILE, or set {VARIABLE}")
    return check_secret(os.environ[VARIABLE].strip())


if __name__ == "__main__":
    sys.exit(main())
