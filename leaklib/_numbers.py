"""Sums and whole parts; roots and quotients that are 0 at 0, with no NaN for a derivative."""

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import reduce

import torch
from torch import Tensor


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of at least one term: `sum`, whose type includes the 0 that it begins with."""
    return reduce(torch.add, terms)


def floor_of(p: float, n: int) -> int:
    """floor(p n) of the decimal number that p prints as: 29 of 0.29 and 100, and not 28."""
    return math.floor(Fraction(str(+p)) * n)


def exact(t: Tensor) -> Tensor:
    """In float64, on the CPU: some devices have no such numbers."""
    return t.detach().cpu().double()


def wide(t: Tensor) -> Tensor:
    """In float32 at least: squares in half precision end at 256 and begin at 0.0002."""
    return t.to(torch.promote_types(t.dtype, torch.float32))


def squared(d: Tensor) -> Tensor:
    """||d||^2"""
    return wide(d).square().sum()


def root(v: Tensor) -> Tensor:
    """sqrt(v), whose derivative at 0 is 0, and not infinite."""
    return torch.where(v > 0, torch.where(v > 0, v, 1.0).sqrt(), 0.0)


def inverse(n: Tensor) -> Tensor:
    """1 / n, and 0 for 0."""
    return torch.where(n > 0, 1 / torch.where(n > 0, n, 1.0), 0.0)


def norm(direction: dict[str, Tensor]) -> Tensor:
    """||g||, all tensors together."""
    return root(total(squared(d) for d in direction.values()))
