"""The instructor's secret: out of it come the cases and pictures that nobody can foresee."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from .._errors import bad

__all__ = ["FILE", "VARIABLE", "check_secret", "new_secret", "read_secret", "seed", "write_secret"]

FILE = Path("secret.txt")  # beside the tests of an autograder: `make assignments` puts it there
VARIABLE = "LEAKLIB_SECRET"  # of the environment, in place of a file
SHORTEST = 32  # characters of a secret
FEWEST = 8  # different ones among them
LONGEST = 10_000  # bytes of a file with a secret


def new_secret() -> str:
    """A secret of 256 random bits, as 64 characters."""
    return secrets.token_hex(32)


def check_secret(secret: str | bytes) -> bytes:
    """The secret as bytes.  Raises ValueError for one that can be guessed; it is never shown."""
    wanted = f"at least {SHORTEST} random characters, such as secret.new_secret() gives"
    if not isinstance(secret, str | bytes):
        raise bad("secret", type(secret).__name__, wanted)
    secret = secret.encode() if isinstance(secret, str) else secret
    if len(secret) < SHORTEST:
        raise bad("secret", f"{len(secret)} characters", wanted)
    if len(set(secret)) < FEWEST:
        raise bad("secret", f"{len(set(secret))} different characters", wanted)
    return secret


def read_secret(path: Path) -> bytes:
    """The secret in a file, without the spaces around it.

    Raises ValueError for one that can be guessed, and OSError where there is no file.
    """
    with path.open("rb") as file:
        return check_secret(file.read(LONGEST).strip())


def write_secret(path: Path) -> None:
    """Write a new secret into a new file that only its owner can read.

    Raises FileExistsError where there is a file: what was made with its secret would be lost.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(new_secret() + "\n")


def seed(purpose: str, path: Path = FILE) -> int:
    """A seed of 63 bits for a purpose: HMAC-SHA256(secret, purpose).

    path: the file with the secret.  Raises ValueError and OSError as `read_secret` does.
    """
    drawn = hmac.digest(read_secret(path), purpose.encode(), "sha256")
    return int.from_bytes(drawn[:8], "big") >> 1
