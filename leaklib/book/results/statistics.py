"""What the columns of a saved result say, each number with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..._errors import bad
from .file import Columns, Result

LEVEL = 0.05  # two outcomes are called different when McNemar's p is below this


class McNemar(NamedTuple):
    """Two outcomes on the same images: how often only one of them is true, and the p-value."""

    only_a: int
    only_b: int
    p: float


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
        low, high = wilson(count, n)
        return cls(name, count, n, count / n, low, high)


class Mean(NamedTuple):
    """The mean of n numbers, with Student's 95 % interval from low to high."""

    n: int
    mean: float
    low: float
    high: float


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval (low, high) of a share, from `count` successes in n tries.

    Raises ValueError unless 0 <= count <= n and n > 0.  Source: Wilson 1927.

    >>> print("{:.2f} to {:.2f}".format(*wilson(9, 10)))
    0.60 to 0.98
    """
    from scipy.stats import binomtest

    if n < 1 or not 0 <= count <= n:
        raise bad("count", f"{count} of {n}", "0 <= count <= n, with n > 0")
    interval = binomtest(int(count), int(n)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(a: Tensor | Sequence[bool], b: Tensor | Sequence[bool]) -> McNemar:
    """McNemar's exact two-sided test of two outcomes a, b (n,) on the same n images.

    Images on which both agree carry no evidence.  If the two are equally good, each of the others
    is a fair coin: p is the chance of heads and tails as uneven as these, 1 where none differ.
    Raises ValueError unless both hold booleans and are equally long.  Source: McNemar 1947.

    >>> mcnemar([True, False, False, False], [True, True, True, True])
    McNemar(only_a=0, only_b=3, p=0.25)
    """
    from scipy.stats import binomtest

    a, b = _outcomes("a", a), _outcomes("b", b)
    if len(a) != len(b):
        raise bad("b", f"{len(b)} outcomes", f"{len(a)}, one for each of a")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    differ = only_a + only_b
    return McNemar(only_a, only_b, float(binomtest(only_a, differ).pvalue) if differ else 1.0)


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
    test = mcnemar(*outcomes.values())
    verdict = "no different"
    if test.p < LEVEL:
        verdict = f"the first is {'higher' if test.only_a > test.only_b else 'lower'}"
    p = f"p = {test.p:.3f}" if test.p >= 0.001 else "p < 0.001"
    p = p.replace(" ", "\N{NO-BREAK SPACE}")
    return (
        f"{a.name} {a.share:.1%}, {b.name} {b.share:.1%} of {a.n}: {verdict} by McNemar's test "
        f"(only the first {test.only_a}, only the second {test.only_b}; {p})."
    )


def _outcomes(name: str, values: Tensor | Sequence[bool]) -> Tensor:
    outcomes = torch.as_tensor(values).cpu()
    if outcomes.dtype != torch.bool or outcomes.ndim != 1:
        got = f"shape {tuple(outcomes.shape)} of {outcomes.dtype}"
        raise bad(name, got, "booleans (n,), one for each image")
    return outcomes
