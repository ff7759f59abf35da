"""Chapter 17: privacy against utility."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...random import generator
from ._verdict import Verdict, call, check, tensor

Points = dict[str, tuple[float, float]]


def exercise_17_1(front: Callable[[Points], list[str]]) -> Verdict:
    """front(points) -> the names of the points {name: (accuracy, leakage)} that none dominates."""

    def faults() -> Iterator[str]:
        points = {
            "a": (0.9, 0.8),
            "b": (0.9, 0.5),  # as accurate as a, and leaks less
            "c": (0.7, 0.2),
            "d": (0.6, 0.2),  # leaks as much as c, and is worse
            "e": (0.5, 0.1),
            "f": (0.4, 0.6),
            "g": (0.7, 0.2),  # the same as c: neither dominates the other
        }
        found = set(call(front, points))
        right = {"b", "c", "e", "g"}
        if not found <= set(points):
            yield "the answer is a list of names out of points."
        if not found:
            yield "no point dominates itself: being as good in both is not enough."
        if found == {"b", "e"}:
            yield "c and g are the same: neither is better in anything, so both stay."
        if found >= right and found & {"a", "d"}:
            yield "a and d are dominated: as good in one number and worse in the other."
        if found == {"a", "b"}:
            yield "this keeps the points that leak most: less leakage is better."
        if found <= {"b", "e"}:
            yield "the front is more than its ends."
        if found != right:
            yield f"the front of the test case is {', '.join(sorted(right))}."

    return check("17.1", faults)


def exercise_17_2(noise_for: Callable[[Callable[[float], float], float], float]) -> Verdict:
    """noise_for(epsilon, budget) -> the least noise at which epsilon(noise) is within budget."""

    def faults() -> Iterator[str]:
        for scale, budget in ((4.0, 0.5), (30.0, 8.0)):
            # like that of many steps, it falls with the noise, and steeply where there is little
            epsilon = lambda noise: scale / noise + scale / noise**2  # noqa: E731, B023
            noise = float(tensor(noise_for, epsilon, budget))
            right = (scale + math.sqrt(scale**2 + 4 * scale * budget)) / (2 * budget)
            if not noise > 0:
                yield "noise is a positive number."
            elif abs(noise - scale / budget) < 0.01 * scale / budget:
                yield "do not assume epsilon = constant / noise: ask the function."
            elif abs(noise - epsilon(budget)) < 0.01 * noise:
                yield "this is the epsilon at noise = budget; the inverse is wanted."
            elif epsilon(noise) > 1.0001 * budget:
                spent = epsilon(noise)
                yield f"epsilon({noise:.3f}) = {spent:.2f} is over the budget of {budget:g}."
            elif noise > 1.02 * right:
                yield f"{noise:.2f} is within the budget, but {right:.2f} would be enough."

    return check("17.2", faults)


def exercise_17_3(
    sum_of_those_left: Callable[[list[Tensor | None], Callable[[int, int], Tensor]], Tensor],
) -> Verdict:
    """sum_of_those_left(masked, secret) -> the sum without the client whose upload is None."""

    def faults() -> Iterator[str]:
        n, gone = 5, 2
        draw = generator(0, "data")
        secrets = {
            (k, j): torch.randint(-(2**40), 2**40, (3,), generator=draw)
            for k in range(n)
            for j in range(k + 1, n)
        }
        own = torch.randint(-50, 50, (n, 3), generator=draw)
        sign = lambda k, j: 1 if k < j else -1  # noqa: E731
        pair = lambda k, j: secrets[min(k, j), max(k, j)]  # noqa: E731
        masked = [
            own[k] + sum(sign(k, j) * pair(k, j) for j in range(n) if j != k) for k in range(n)
        ]
        left = [None if k == gone else m for k, m in enumerate(masked)]
        asked = []

        def secret(k: int, j: int) -> Tensor:
            asked.append((k, j))
            return pair(k, j)

        found = call(sum_of_those_left, left, secret)
        if isinstance(found, Tensor):
            found = found.double()
        right = sum(own[k] for k in range(n) if k != gone).double()
        rest = sum(sign(k, gone) * pair(k, gone) for k in range(n) if k != gone).double()
        same = partial(torch.equal, found)
        if not isinstance(found, Tensor) or found.shape != right.shape:
            yield "the sum is one tensor, of the shape of an upload."
        if same(right + rest):
            yield "the masks towards the client that is gone are still in this sum."
        if same(right + 2 * rest):
            yield "the sign: what was added has to be taken off."
        if any(gone not in (k, j) for k, j in asked):
            yield "ask for secrets of the client that is gone alone: others unmask those who stay."
        if not same(right):
            yield "this is not the sum of the test case."

    return check("17.3", faults)
