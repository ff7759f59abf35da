"""What a check answers, and how it asks the reader's function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ...random import generator


class Unanswered(Exception):
    """A blank that the reader has not filled in yet."""


class Verdict:
    """What a check found: true when the answer is right; otherwise `message` says what is wrong.

    `right` is None where there is no answer yet.
    """

    def __init__(self, number: str, right: bool | None, message: str):
        self.number, self.right, self.message = number, right, message

    def __bool__(self) -> bool:
        return self.right is True

    def __repr__(self) -> str:
        mark = {True: "✓", False: "✗", None: "○"}[self.right]
        return f"{mark} Exercise {self.number}: {self.message}"


def check(number: str, faults: Callable[[], Iterator[str]]) -> Verdict:
    """A verdict that tells the first fault of an answer, or that it has none."""
    try:
        fault = next(faults(), None)
    except Unanswered:
        return Verdict(number, None, "not answered yet. Replace the dots and run the cell again.")
    except Exception as error:  # whatever the reader's code raises is theirs to see
        fault = f"your code raised {type(error).__name__}: {error}"
    return Verdict(number, fault is None, fault or "right.")


def call(answer: Callable, *args: object) -> object:
    """What the reader's function answers; raises `Unanswered` for a blank."""
    result = answer(*args)
    if result is None or result is ...:
        raise Unanswered
    return result


def tensor(answer: Callable, *args: object) -> Tensor:
    """What it answers as a tensor, numbers with a point in double precision."""
    result = torch.as_tensor(call(answer, *args))
    return result.double() if result.is_floating_point() else result


def close(found: object, other: object, **tolerance: float) -> bool:
    """Whether two tensors agree up to rounding, or two dictionaries in every name of the other."""
    if isinstance(other, Mapping):
        return all(close(found[name], t, **tolerance) for name, t in other.items())
    found, other = (torch.as_tensor(t).double() for t in (found, other))
    return torch.allclose(found, other, **tolerance)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers of a test case; each seed gives others."""
    return torch.randn(*shape, generator=generator(seed, "data"), dtype=torch.float64)
