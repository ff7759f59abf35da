"""All that is random in a challenge: functions of a secret that the instructor alone has."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from ...leak import Tensors
from ..class_table import check_id
from ..secret import check_secret

FORMAT = 1  # part of every key: a change of recipe takes another number


class Draws:
    """The random numbers of one student's challenge at one level, a stream for each purpose.

    key(purpose) = HMAC-SHA256(secret, format | student | level | purpose), and the numbers are its
    SHAKE-256: the same in every version of every library.  No purpose tells anything of another.
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
    """Standard normal numbers, float32, from uniform ones in (0, 1)."""
    return torch.from_numpy(ndtri(u.numpy())).float()
