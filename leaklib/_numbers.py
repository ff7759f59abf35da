"""Sums; and roots and quotients whose value at zero is zero, with no NaN for a derivative."""

import operator
from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor

from .leak import Tensors


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of at least one term: `sum`, whose type includes the 0 that it begins with."""
    return reduce(operator.add, terms)


def root(v: Tensor) -> Tensor:
    """sqrt(v) whose derivative at 0 is 0, and not infinite."""
    positive = v > 0
    return torch.where(positive, torch.where(positive, v, 1.0).sqrt(), 0.0)


def inverse(n: Tensor) -> Tensor:
    """1 / n, and 0 for 0."""
    return torch.where(n > 0, 1 / torch.where(n > 0, n, 1.0), 0.0)


def norm(direction: Tensors) -> Tensor:
    """||g||, all tensors together."""
    return root(total(d.square().sum() for d in direction.values()))
