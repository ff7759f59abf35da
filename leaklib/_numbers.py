"""Sums; and roots and quotients whose value at zero is zero, with no NaN for a derivative."""

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of at least one term: `sum`, whose type includes the 0 that it begins with."""
    return reduce(torch.add, terms)


def root(v: Tensor) -> Tensor:
    """sqrt(v), whose derivative at 0 is 0, and not infinite."""
    return torch.where(v > 0, torch.where(v > 0, v, 1.0).sqrt(), 0.0)


def inverse(n: Tensor) -> Tensor:
    """1 / n, and 0 for 0."""
    return torch.where(n > 0, 1 / torch.where(n > 0, n, 1.0), 0.0)


def norm(direction: dict[str, Tensor]) -> Tensor:
    """||g||, all tensors together."""
    return root(total(d.square().sum() for d in direction.values()))
