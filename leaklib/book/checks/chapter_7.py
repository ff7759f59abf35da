"""Chapter 7: deeper and trained networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...leak import Tensors
from ._verdict import Verdict, check, close, random, tensor


def exercise_7_1(message_size: Callable[[Tensor, int, Tensor], Tensor]) -> Verdict:
    """message_size(p, label, a) -> the length of dl/dV = (p - y) a'."""

    def faults() -> Iterator[str]:
        p, label, a = random(4).softmax(0), 2, random(6, seed=1)
        y = torch.eye(4, dtype=torch.float64)[label]
        found = tensor(message_size, p, label, a)
        right = (p - y).norm() * a.norm()
        same = partial(close, found)
        if found.numel() != 1:
            yield "a length is one number."
        if same(right.square()):
            yield "this is the square of the length."
        if same(p.norm() * a.norm()):
            yield "the error is p - y: one is taken from the label's entry."
        if same((p - y).norm()):
            yield "this is the length of dl/db; each of its entries is multiplied by all features."
        if same((1 - p[label]) * a.norm()):
            yield "this is the label's row alone; the others are in the message too."
        if not same(right):
            yield f"the length of the test case is {right:.4f}, not {float(found):.4f}."

    return check("7.1", faults)


def exercise_7_2(cosine: Callable[[Tensors, Tensors], Tensor]) -> Verdict:
    """cosine(g, h) -> 1 - <g, h> / (||g|| ||h||), all parameters together."""

    def faults() -> Iterator[str]:
        g = {"V": random(3, 4), "b": random(3, seed=1)}
        h = {"V": random(3, 4, seed=2), "b": 5 * random(3, seed=3)}
        found = tensor(cosine, g, h)
        whole = [torch.cat([t.flatten() for t in d.values()]) for d in (g, h)]
        of = lambda u, v: 1 - u @ v / (u.norm() * v.norm())  # noqa: E731
        right = of(*whole)
        each = torch.stack([of(g[n].flatten(), h[n].flatten()) for n in g])
        same = partial(close, found)
        if found.numel() != 1:
            yield "the distance is one number."
        if same(1 - right):
            yield "this is the cosine, largest where the two agree; a distance is smallest there."
        if same(each.mean()) or same(each.sum()):
            yield "an angle for each tensor: put all parameters into one vector first."
        if same(1 - whole[0] @ whole[1]):
            yield "divide by both lengths; as it is, the size of the message counts."
        if not same(right):
            yield f"the distance of the test case is {right:.4f}, not {float(found):.4f}."

    return check("7.2", faults)


def exercise_7_3(sign_step: Callable[[Tensor, Tensor, float], Tensor]) -> Verdict:
    """sign_step(x, derivative, lr) -> one step downhill by signs, inside [0, 1]."""

    def faults() -> Iterator[str]:
        x = torch.tensor([0.5, 0.5, 0.5, 0.95, 0.02], dtype=torch.float64)
        derivative = torch.tensor([3.0, -1e-6, 0.0, -7.0, 2.0], dtype=torch.float64)
        found = tensor(sign_step, x, derivative, 0.1)
        right = (x - 0.1 * derivative.sign()).clamp(0, 1)
        same = partial(close, found)
        if found.shape != x.shape:
            yield f"a step gives an image of the same shape; yours has {tuple(found.shape)}."
        if found.min() < 0 or found.max() > 1:
            yield "a pixel has left [0, 1]: put it back after the step."
        if same((x + 0.1 * derivative.sign()).clamp(0, 1)):
            yield "this goes uphill: subtract."
        if same((x - 0.1 * derivative).clamp(0, 1)):
            yield "this takes the derivative itself; the second pixel has a tiny one and must move."
        if found[2] != 0.5:
            yield "where the derivative is zero the pixel stays."
        if not same(right):
            yield f"the test case leads to {right.tolist()}, not {found.tolist()}."

    return check("7.3", faults)
