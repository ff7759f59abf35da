"""What a check answers, and how it asks the reader's function."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class Unanswered(Exception):
    """A blank that nobody has filled in yet."""


class Verdict:
    """What a check found: true when the answer is right; `message` says what is wrong.

    right is None where there is no answer yet.
    """

    def __init__(self, number: str, right: bool | None, message: str):
        self.number, self.right, self.message = number, right, message

    def __bool__(self) -> bool:
        return self.right is True

    def __repr__(self) -> str:
        mark = {True: "✓", False: "✗", None: "○"}[self.right]
        return f"{mark} Exercise {self.number}: {self.message}"


def check(number: str, faults: Callable[[], Iterator[str]]) -> Verdict:
    """The first fault that an answer has, or that it has none."""
    try:
        fault = next(faults(), None)
    except Unanswered:
        return Verdict(number, None, "not answered yet. Replace the dots and run the cell again.")
    except Exception as error:  # whatever the reader's code raises is theirs to see
        fault = f"your code raised {type(error).__name__}: {error}"
    return Verdict(number, fault is None, fault or "right.")


def call(answer: Callable, *args: object) -> object:
    result = answer(*args)
    if result is None or result is ...:
        raise Unanswered
    return result


def tensor(answer: Callable, *args: object) -> Tensor:
    result = torch.as_tensor(call(answer, *args))
    return result.double() if result.is_floating_point() else result


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
