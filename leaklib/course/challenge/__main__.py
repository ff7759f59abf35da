"""The command line: python -m leaklib.challenge secret | make | grade."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ._keys import check_secret, new_secret
from ._levels import LEVELS
from ._pool import Pool, open_pool
from ._whole_class import grade_class, make_class, read_class, strangers

VARIABLE = "LEAKLIB_SECRET"
LONGEST = 10_000  # bytes of a file with a secret
EPILOG = f"""\
The secret comes from --secret-file, or from the environment variable {VARIABLE}; never from the
command line, which other users of a machine can read. Keep it: without it nothing can be graded.
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
        prog="python -m leaklib.challenge", description=__doc__, epilog=EPILOG
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    secret = commands.add_parser("secret", help="write a new secret into a file of your own")
    secret.add_argument("--to", type=Path, required=True, metavar="FILE")
    secret.set_defaults(run=_secret)

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


def _secret(asked: argparse.Namespace) -> str:
    # a secret that is there is never overwritten, and a new one is for its owner's eyes
    with os.fdopen(os.open(asked.to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(new_secret() + "\n")
    return f"A new secret is in {asked.to}. Keep it, and show it to nobody."


def _make(asked: argparse.Namespace) -> str:
    students, secret, images = _given(asked)
    levels = list(dict.fromkeys(asked.level or LEVELS))
    made = make_class(students, secret, levels, images=images, to=asked.to)
    return f"{made.new} challenges written to {asked.to}, {made.there} were there already."


def _grade(asked: argparse.Namespace) -> str:
    students, secret, images = _given(asked)
    levels = list(dict.fromkeys(asked.level)) if asked.level else None
    rows = grade_class(
        students, secret, levels,
        images=images, answers=asked.answers, challenges=asked.challenges, to=asked.to,
    )  # fmt: skip
    nobodys = strangers(students, asked.answers)
    if nobodys:
        some = ", ".join(repr(name) for name in nobodys[:5])
        print(
            f"note: no student's answer, by their names: {some} ({len(nobodys)})", file=sys.stderr
        )
    return f"{len(rows)} scores are in {asked.to}."


def _given(asked: argparse.Namespace) -> tuple[list[str], bytes, Pool]:
    students, secret = read_class(asked.students), _read_secret(asked.secret_file)
    images = open_pool(asked.images, progress=True)
    if len(images.hashes) < len(students):
        told = f"{len(images.hashes)} pictures for {len(students)} students"
        print(f"note: {told}: some will have parts of the same one", file=sys.stderr)
    return students, secret, images


def _read_secret(file: Path | None) -> bytes:
    if file is not None:
        with file.open("rb") as opened:
            return check_secret(opened.read(LONGEST).strip())
    if VARIABLE not in os.environ:
        raise ValueError(f"secret: none; give --secret-file FILE, or set {VARIABLE}")
    return check_secret(os.environ[VARIABLE].strip())


if __name__ == "__main__":
    sys.exit(main())
