"""Chapter 9: DLM, weights instead of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...leak import Tensors
from ._verdict import Verdict, call, check, close, random, tensor


def exercise_9_1(
    input_from_checkpoints: Callable[[Tensors, Tensors], Tensor],
) -> Verdict:
    """input_from_checkpoints(before, after) -> the input of a linear layer trained on one image."""

    def faults() -> Iterator[str]:
        x, moved = random(6).abs(), random(5, seed=1)
        moved[0], moved[3] = 0, 1e-17  # a unit that has not moved, one that moved by rounding
        before = {"weight": random(5, 6, seed=2), "bias": random(5, seed=3)}
        after = {
            "weight": before["weight"] - moved[:, None] * x,
            "bias": before["bias"] - moved,
        }
        after["bias"][3] = before["bias"][3] - 1e-10
        found = tensor(input_from_checkpoints, before, after)
        same = partial(close, found)
        if found.shape != x.shape:
            yield f"the input has shape (6,); yours has {tuple(found.shape)}."
        if not found.isfinite().all():
            yield "the bias of row 0 has not moved: 0 / 0. Take another row."
        if any(map(same, after["weight"] / after["bias"][:, None])):
            yield "this is a ratio of weights: subtract the checkpoints first."
        if same(-x):
            yield "one of the two differences has the wrong sign."
        if not torch.allclose(found, x, atol=1e-3):
            yield "not the input. Row 3 has hardly moved, so that its ratio is mostly rounding."

    return check("9.1", faults)


def exercise_9_2(best_k: Callable[[Tensors, Tensors], Tensor]) -> Verdict:
    """best_k(g, D) -> the k that minimises ||g - k D||^2."""

    def faults() -> Iterator[str]:
        g = {"V": random(3, 4), "b": random(3, seed=1)}
        D = {"V": 0.1 * random(3, 4, seed=2), "b": 0.2 * random(3, seed=3)}
        found = tensor(best_k, g, D)
        flat = [torch.cat([t.flatten() for t in d.values()]) for d in (g, D)]
        u, v = flat
        each = torch.stack([(g[n] * D[n]).sum() / D[n].square().sum() for n in g])
        same = partial(close, found)
        if found.numel() != 1:
            yield "k is one number for all parameters together."
        if same(u @ v / (u @ u)):
            yield "this multiplies g: k stands beside D, so divide by ||D||^2."
        if same((v @ v) / (u @ v)):
            yield "upside down: this would be a learning rate, 1 / k."
        if same(u.norm() / v.norm()):
            yield "a ratio of lengths fits only where g and D have one direction."
        if same(u @ v / v.norm()):
            yield "divide by the square of ||D||."
        if same(each.mean()) or same(each.sum()):
            yield "a k for each tensor: add up all parameters before you divide."
        if not same(u @ v / (v @ v)):
            yield f"the best k of the test case is {u @ v / (v @ v):.3f}, not {float(found):.3f}."

    return check("9.2", faults)


def exercise_9_3(
    means_something: Callable[[Tensors, float, Tensors], bool],
) -> Verdict:
    """means_something(g, k, D) -> whether a run of DLM that ended there has found the image."""

    def faults() -> Iterator[str]:
        g, other = ({"V": random(3, 4, seed=s), "b": random(3, seed=s + 1)} for s in (0, 2))
        times = lambda c, d: {name: c * t for name, t in d.items()}  # noqa: E731
        D = times(0.01, g)
        cases = [
            (g, 100.0, D, True, "the private image, g = k D: this is what you are looking for."),
            (other, 100.0, D, False, "g and D differ in direction, and the loss is large."),
            (times(1e-6, other), 1e-4, D, False,
             "a collapse: the loss is tiny because g is, and g does not point along D."),
            (times(1e-6, g), 1e-4, D, True,
             "g is small but points along D: a soft label has taken over the scale."),
            (g, 0.5, times(2.0, g), True, "k is small because the learning rate is 2."),
            (times(-1.0, g), -100.0, D, False, "g = k D with k < 0: it points the other way."),
            (times(0.0, g), 0.0, D, False, "g = 0 has no direction at all."),
        ]  # fmt: skip
        for guess, k, sent, right, why in cases:
            if bool(call(means_something, guess, k, sent)) != right:
                answer = "means something" if not right else "means nothing"
                yield f"you say that this {answer}: {why}"

    return check("9.3", faults)
