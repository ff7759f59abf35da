"""What the columns of a saved result say, each number with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ... import metrics
from ..._errors import bad
from .file import Columns, Result

LEVEL = 0.05  # two outcomes are called different when McNemar's p is below this


class Share(NamedTuple):
    """So many of n images, with Wilson's 95 % interval from low to high."""

    name: str
    count: int
    n: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, count: int, n: int) -> Share:
        """The share of `count` in n.  Raises ValueError unless 0 <= count <= n and n > 0."""
        low, high = metrics.wilson(count, n)
        return cls(name, count, n, count / n, low, high)


class Mean(NamedTuple):
    """The mean of n numbers, with Student's 95 % interval from low to high."""

    n: int
    mean: float
    low: float
    high: float


def finished(result: Result) -> dict[str, dict[str, Columns]]:
    """The sets in which every arm has all its images; an interrupted run leaves others behind."""
    arms, images = result["settings"]["arms"], result["settings"]["images"]

    def whole(name: str, held: dict[str, Columns]) -> bool:
        wanted = images[name] if isinstance(images, Mapping) else images
        columns = [held.get(arm, {}).values() for arm in arms]
        return all(len(c) > 0 and all(len(column) == wanted for column in c) for c in columns)

    return {name: held for name, held in result["sets"].items() if whole(name, held)}


def recovered(arm: Columns, threshold: float) -> list[bool]:
    """Which images of an arm are recovered: mean squared error below the threshold.

    Raises ValueError for a threshold that is not positive.
    """
    if not threshold > 0:
        raise bad("threshold", threshold, "a positive mean squared error")
    return [mse is not None and mse < threshold for mse in arm["mse"]]


def shares(outcomes: Mapping[str, Sequence[bool]]) -> list[Share]:
    """How many outcomes of each name are true, with Wilson's interval."""
    return [Share.of(name, sum(map(bool, v)), len(v)) for name, v in outcomes.items()]


def mean(values: Sequence[float]) -> Mean:
    """The mean of at least two numbers, one for each image or batch, with Student's interval.

    Raises ValueError for fewer than two, or where one is missing.
    """
    from scipy.stats import t

    n = len(values)
    if n < 2 or any(value is None for value in values):
        raise bad("values", values, "two numbers or more, none of them missing")
    middle, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    beyond = spread * float(t.ppf(0.975, n - 1))
    return Mean(n, middle, middle - beyond, middle + beyond)


def compared(outcomes: Mapping[str, Sequence[bool]]) -> str:
    """A sentence on two paired outcomes {name: (n,)}: both shares, and what McNemar's test says.

    Raises ValueError unless there are two of them, equally long.
    """
    if len(outcomes) != 2:
        raise bad("outcomes", list(outcomes), "two names")
    a, b = shares(outcomes)
    test = metrics.mcnemar(*outcomes.values())
    verdict = "no different"
    if test.p < LEVEL:
        verdict = f"the first is {'higher' if test.only_a > test.only_b else 'lower'}"
    p = f"p = {test.p:.3f}" if test.p >= 0.001 else "p < 0.001"
    p = p.replace(" ", "\N{NO-BREAK SPACE}")
    return (
        f"{a.name} {a.share:.1%}, {b.name} {b.share:.1%} of {a.n}: {verdict} by McNemar's test "
        f"(only the first {test.only_a}, only the second {test.only_b}; {p})."
    )
