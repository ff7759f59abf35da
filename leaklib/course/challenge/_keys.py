"""All that is random in a challenge: functions of the instructor's secret that nobody else has."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from ..._errors import bad
from ...leak import Tensors

FORMAT = 1  # another recipe needs another number: it is part of every key
SHORTEST = 32  # characters of a secret, such as `new_secret` gives
FEWEST = 8  # different ones among them
STUDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)


def new_secret() -> str:
    """A secret of 256 random bits, as 64 characters."""
    return secrets.token_hex(32)


def check_secret(secret: str | bytes) -> bytes:
    """The secret as bytes.  Raises ValueError for one that can be guessed; it is never shown."""
    wanted = f"at least {SHORTEST} random characters, such as challenge.new_secret() gives"
    if not isinstance(secret, str | bytes):
        raise bad("secret", type(secret).__name__, wanted)
    secret = secret.encode() if isinstance(secret, str) else secret
    if len(secret) < SHORTEST:
        raise bad("secret", f"{len(secret)} characters", wanted)
    if len(set(secret)) < FEWEST:
        raise bad("secret", f"{len(set(secret))} different characters", wanted)
    return secret


def check_id(student_id: str) -> str:
    """The student's id.  Raises ValueError for one that could not safely be part of a file name."""
    if not (isinstance(student_id, str) and STUDENT.fullmatch(student_id)):
        wanted = "1 to 64 of A-Z a-z 0-9 . _ @ + -, of which the first is a letter or a digit"
        raise bad("student_id", repr(student_id)[:80], wanted)
    return student_id


class Draws:
    """The random numbers of one student's challenge at one level, by what they are for.

    key(purpose) = HMAC-SHA256(secret, format | student | level | purpose), and the numbers are its
    SHAKE-256: the same in every version of every library.  No two purposes tell of each other.
    """

    def __init__(self, secret: str | bytes, student_id: str, level: str):
        self._secret = check_secret(secret)
        self._names = (f"leaklib.challenge {FORMAT}", check_id(student_id), level)

    def key(self, purpose: str) -> bytes:
        # none of the names holds a zero byte, so that no two tuples of them give one message
        message = "\0".join((*self._names, purpose)).encode()
        return hmac.digest(self._secret, message, "sha256")

    def tag(self, purpose: str, content: bytes = b"") -> str:
        """32 hexadecimal digits that only the holder of the secret can compute."""
        return hmac.digest(self.key(purpose), content, "sha256").hex()[:32]

    def uniform(self, purpose: str, count: int) -> np.ndarray:
        """`count` numbers in (0, 1), float64."""
        words = np.frombuffer(hashlib.shake_256(self.key(purpose)).digest(8 * count), "<u8")
        # (k + 1/2) / 2^52 of 52 bits k is exact, and neither 0 nor 1
        return ((words >> np.uint64(12)) + 0.5) * 2.0**-52

    def like(self, purpose: str, tensors: Tensors) -> Tensors:
        """Uniform numbers in (0, 1) in place of all those of some tensors."""
        sizes = [tensor.numel() for tensor in tensors.values()]
        u = torch.from_numpy(self.uniform(purpose, sum(sizes)))
        parts = zip(tensors.items(), u.split(sizes), strict=True)
        return {name: part.reshape(tensor.shape) for (name, tensor), part in parts}

    def labels(self, count: int, classes: int) -> Tensor:
        """`count` different class numbers (count,), each as probable as any other."""
        order = np.argsort(self.uniform("labels", classes), kind="stable")
        return torch.from_numpy(order[:count].copy())

    @torch.no_grad()
    def fill(self, parameters: Tensors, purpose: str = "weights", a: float = 0.5) -> None:
        """Draw every parameter from U(-a, a), in place, as `models.init_uniform` does."""
        for name, u in self.like(purpose, parameters).items():
            parameters[name].copy_(a * (2 * u - 1))


def normal(u: Tensor) -> Tensor:
    """Numbers of the normal law, float32, out of uniform ones in (0, 1)."""
    return torch.from_numpy(ndtri(u.numpy())).float()
