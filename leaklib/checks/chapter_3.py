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


def exercise_3_3(class_counts: Callable[[Tensor, Tensor, int], Tensor]) -> Verdict:
    """class_counts(db, p_mean, B) -> how many images of each class."""

    def faults() -> Iterator[str]:
        counts = torch.tensor([3, 0, 4, 1])
        p = random(4).softmax(0)
        noise = 1e-3 * random(4, seed=1)
        found = tensor(class_counts, p - counts / 8 + noise, p, 8)
        if found.is_floating_point():
            yield "counts are whole numbers: round, and convert to integers."
        if found.tolist() == [0, 0, 0, 0] or found.sum() == 1:
            yield "these are shares of the batch; multiply by B before you round."
        if found.tolist() != counts.tolist():
            yield f"the counts are {counts.tolist()}, not {found.tolist()}."

    return check("3.3", faults)
