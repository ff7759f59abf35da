"""Chapter 14: random gradient masking."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...leak import Tensors
from ...random import generator
from ._verdict import Verdict, call, check, close, random, tensor


def _gradient(seed: int) -> Tensors:
    return {"V": random(4, 5, seed=seed), "b": random(4, seed=seed + 1)}


def _masked(g: Tensors, seed: int, p: float) -> Tensors:
    draw = generator(seed, "mask")
    return {name: d * (torch.rand(d.shape, generator=draw) >= p) for name, d in g.items()}


def exercise_14_1(distance: Callable[[Tensors, Tensors], Tensor]) -> Verdict:
    """distance(g, h) -> sum of (g_i - h_i)^2 over the entries that were sent, h_i != 0."""

    def faults() -> Iterator[str]:
        g, h = _gradient(0), _masked(_gradient(2), seed=0, p=0.5)
        g["V"][0] = 0
        found = tensor(distance, g, h)
        over = lambda counts: sum(  # noqa: E731
            ((g[n] - h[n]).square() * counts(n)).sum() for n in h
        )
        right = over(lambda n: h[n] != 0)
        sent = sum(int((t != 0).sum()) for t in h.values())
        same = partial(close, found)
        if found.numel() != 1:
            yield "the distance is one number for all tensors."
        if same(over(lambda n: 1)):
            yield "this is DLG's distance: it counts the hidden entries, too."
        if same(over(lambda n: g[n] != 0)):
            yield "h says which entries were sent, not g."
        if same(over(lambda n: (h[n] != 0) & (g[n] != 0))):
            yield "an entry of g that is zero counts as well, where h was sent."
        if same(over(lambda n: h[n] == 0)):
            yield "these are the hidden entries; the others were sent."
        if same(right / sent) or same(right.sqrt()):
            yield "the sum of the squares is wanted, without a mean or a root."
        if not same(right):
            yield f"the distance of the test case is {right:.4f}, not {float(found):.4f}."

    return check("14.1", faults)


def exercise_14_2(union: Callable[[list[Tensors]], Tensors]) -> Verdict:
    """union(messages) -> every entry that was sent in any of them, and 0 elsewhere."""

    def faults() -> Iterator[str]:
        g = _gradient(4)
        messages = [_masked(g, seed, p=0.6) for seed in range(3)]
        kept = [{n: d.clone() for n, d in m.items()} for m in messages]
        found = call(union, messages)
        if not isinstance(found, dict) or set(found) != set(g):
            yield "return a dictionary {name: tensor} with the names of the messages."
        seen = {n: torch.stack([m[n] != 0 for m in kept]) for n in g}
        added = {n: sum(m[n] for m in kept) for n in g}
        same = partial(close, found)
        if same(added):
            yield "an entry that came twice was added twice."
        if same({n: t / len(kept) for n, t in added.items()}):
            yield "a zero says that an entry was hidden, not that it is 0: leave it out."
        if same(kept[0]) or same(kept[-1]):
            yield "this is one message; the others show more."
        if same({n: g[n] * seen[n].all(0) for n in g}):
            yield "one round is enough: these entries were sent in every round."
        if not same({n: g[n] * seen[n].any(0) for n in g}):
            yield "not every entry that was sent has its value, or one that was hidden has one."
        if any(not torch.equal(m[n], k[n]) for m, k in zip(messages, kept, strict=True) for n in g):
            yield "the messages themselves were changed; work on a copy."

    return check("14.2", faults)


def exercise_14_3(rounds_needed: Callable[[float, float], float]) -> Verdict:
    """rounds_needed(p, share) -> the smallest whole r with 1 - p^r >= share."""

    def faults() -> Iterator[str]:
        cases = [(0.5, 0.9), (0.9, 0.5), (0.98, 0.3), (0.3, 0.99), (0.9, 0.05)]
        found = [float(call(rounds_needed, p, s)) for p, s in cases]
        exact = [math.log(1 - s) / math.log(p) for p, s in cases]
        same = partial(close, found)
        if same(exact):
            yield "a number of rounds is whole: round up."
        if same([math.floor(r) for r in exact]):
            yield "rounding down stops one round too early."
        if same([math.ceil(s / (1 - p)) for p, s in cases]):
            yield "rounds overlap: the share does not grow by 1 - p each time."
        if same([math.ceil(math.log(s) / math.log(p)) for p, s in cases]):
            yield "p^r is what is still hidden: it has to fall to 1 - share."
        if same([math.ceil(math.log(1 - s) / math.log(1 - p)) for p, s in cases]):
            yield "an entry is hidden with probability p, not 1 - p."
        for (p, s), r, right in zip(cases, found, exact, strict=True):
            if not math.isclose(r, math.ceil(right)):
                rounds = f"{math.ceil(right)} rounds, not {r:g}"
                yield f"for p = {p} and a share of {s} it takes {rounds}."

    return check("14.3", faults)
