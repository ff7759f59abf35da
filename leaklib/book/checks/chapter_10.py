"""Chapter 10: DLM+, a scale that cancels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...leak import Tensors
from ._verdict import Verdict, check, close, random, tensor


def _message(seed: int) -> Tensors:
    return {"V": 3 * random(4, 5, seed=seed), "b": random(4, seed=seed + 1)}


def _flat(G: Tensors) -> Tensor:
    return torch.cat([t.flatten() for t in G.values()])


def exercise_10_1(n: Callable[[Tensors], Tensor]) -> Verdict:
    """n(G) -> the mean of the norms of the tensors of G."""

    def faults() -> Iterator[str]:
        G = _message(0)
        found = tensor(n, G)
        norms = torch.stack([t.norm() for t in G.values()])
        same = partial(close, found)
        if found.numel() != 1:
            yield "n is one number for all tensors."
        if same(_flat(G).norm()):
            yield "this is the norm of the whole; DLM+ takes one norm for each tensor first."
        if same(norms.sum()):
            yield "this is the sum of the norms: divide by the number of tensors."
        if same(norms.square().mean()) or same(norms.square().mean().sqrt()):
            yield "the mean is of the norms, not of their squares."
        if same(norms.sum() / _flat(G).numel()):
            yield "divide by the number of tensors, not of their entries."
        if not same(norms.mean()):
            yield f"n of the test case is {norms.mean():.3f}, not {float(found):.3f}."

    return check("10.1", faults)


def exercise_10_2(distance: Callable[[Tensors, Tensors], Tensor]) -> Verdict:
    """distance(g, D) -> the distance of DLM+."""

    def faults() -> Iterator[str]:
        g, D = _message(0), _message(2)
        found = tensor(distance, g, D)
        mean = lambda G: torch.stack([t.norm() for t in G.values()]).mean()  # noqa: E731
        over = lambda G, n: {name: t / n for name, t in G.items()}  # noqa: E731
        apart = lambda a, b: (_flat(a) - _flat(b)).square().sum()  # noqa: E731
        right = apart(over(g, mean(g)), over(D, mean(D)))
        whole = apart(over(g, _flat(g).norm()), over(D, _flat(D).norm()))
        each = sum((g[n] / g[n].norm() - D[n] / D[n].norm()).square().sum() for n in g)
        same = partial(close, found)
        if found.numel() != 1:
            yield "the distance is one number."
        if same(apart(over(g, mean(g)), D)) or same(apart(g, over(D, mean(D)))):
            yield "only one side is divided; the scale of the other still counts."
        if same(apart(over(g, mean(D)), over(D, mean(D)))):
            yield "each side is divided by its own n."
        if same(apart(g, D)):
            yield "this is the distance of DLG: nothing is divided."
        if same(whole) or same(whole / 2):
            yield "this divides by the norm of the whole, and is the cosine."
        if same(each):
            yield "this divides each tensor by its own norm; n is one number for a side."
        if same(right.sqrt()):
            yield "the square is missing."
        if not same(right):
            yield f"the distance of the test case is {right:.4f}, not {float(found):.4f}."

    return check("10.2", faults)


def exercise_10_3(smallest_rate: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """smallest_rate(w, g) -> the learning rate above which w - lr g differs from w in float32."""

    def faults() -> Iterator[str]:
        w = torch.tensor([0.3, -0.4, 0.47, 0.5])
        g = torch.tensor([0.02, 0.5, -0.1, 0.3])
        found = tensor(smallest_rate, w, g)
        towards = torch.nextafter(w, -g.sign() * torch.inf)
        right = ((towards - w).abs() / 2 / g.abs()).double()
        eps = torch.finfo(torch.float32).eps
        same = partial(close, found, rtol=1e-3)
        if found.shape != w.shape:
            yield "one rate for each weight: the result has the shape of w."
        if (found < 0).any():
            yield "a learning rate is positive; the sign of g says only which way w moves."
        if same(2 * right):
            yield "rounding is to the nearest number: half a gap is enough to move."
        if same(eps / g.abs()) or same(eps / 2 / g.abs()):
            yield "eps is the gap at 1; these weights are smaller, and so are their gaps."
        if same(eps * w.abs() / g.abs()) or same(eps * w.abs() / 2 / g.abs()):
            yield "the gap does not follow |w|: it is the same from 0.25 to 0.5, then doubles."
        if same(right * torch.tensor([1, 1, 1, 2])):
            yield "w = 0.5 moves down, and below a power of two the gap is half of that above."
        if not same(right):
            rates = ", ".join(f"{r:.2e}" for r in right)
            yield f"the rates of the test case are {rates}."

    return check("10.3", faults)
