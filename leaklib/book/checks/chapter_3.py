"""Chapter 3: labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ._verdict import Verdict, call, check, random, tensor


def exercise_3_1(label_of: Callable[[Tensor], int]) -> Verdict:
    """label_of(db) -> the class, or -1 for zeros."""

    def faults() -> Iterator[str]:
        for c in range(4):
            p = random(4, seed=c).softmax(0)
            found = int(call(label_of, p - F.one_hot(torch.tensor(c), 4)))
            if found == int((p - F.one_hot(torch.tensor(c), 4)).argmax()):
                yield "this is the largest entry; the label's is the smallest."
            if found != c:
                yield f"the label is {c}, not {found}."
        if int(label_of(torch.tensor([1e-9, 1e-12, 0.0, 2e-9]))) != 2:
            yield "a very sure network has p_c = 1 and no negative entry: take the smallest."
        if int(label_of(torch.zeros(4))) != -1:
            yield "all zeros tell nothing: return -1."

    return check("3.1", faults)


def exercise_3_2(mixed_pair: Callable[[Tensor], tuple[int, int]]) -> Verdict:
    """mixed_pair(db) -> both classes of a mixup label."""

    def faults() -> Iterator[str]:
        for a, b, share in ((2, 5, 0.3), (0, 1, 0.5), (3, 7, 0.8)):
            y = share * F.one_hot(torch.tensor(a), 8) + (1 - share) * F.one_hot(torch.tensor(b), 8)
            found = tuple(int(c) for c in call(mixed_pair, torch.full((8,), 1 / 8) - y))
            if found == (b, a):
                yield "the right two; the smaller number comes first."
            if found != (a, b):
                yield f"the classes are {a} and {b}, not {found}: both entries are negative."

    return check("3.2", faults)


def exercise_3_3(counts_from: Callable[[Tensor, Tensor, int], Tensor]) -> Verdict:
    """counts_from(pi, db, B) -> how many images of each class."""

    def faults() -> Iterator[str]:
        n = torch.tensor([3, 0, 4, 1])
        # row i: the probabilities of images of class i, some classes surer than others
        pi = (random(4, 4, seed=2) + torch.diag(torch.tensor([2.0, 1.0, 0.5, 1.5]))).softmax(1)
        db = (n.double() @ pi - n) / 8
        found = tensor(counts_from, pi, db + 1e-4 * random(4, seed=1), 8)
        if found.shape != (4,):
            yield f"return a number for each of the 4 classes, not shape {tuple(found.shape)}."
        if found.is_floating_point():
            yield "counts are whole numbers: round, and convert to integers."
        if found.sum() == 1 or found.abs().sum() == 0:
            yield "the right side of the equations is B db, and the counts sum to B."
        if found.tolist() == (8 * (pi.mean(0) - db)).round().tolist():
            yield "the mean of p is sum_i n_i pi_i / B: it depends on the counts."
        if found.tolist() != n.tolist():
            yield f"the counts are {n.tolist()}, not {found.tolist()}."

    return check("3.3", faults)
