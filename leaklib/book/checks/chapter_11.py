"""Chapter 11: many local steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...leak import Tensors
from ._verdict import Verdict, call, check, close, random, tensor


def exercise_11_1(
    epoch: Callable[[Callable, Tensors, list, float], Tensors],
) -> Verdict:
    """epoch(g, W, batches, lr) -> the weights after one step of SGD on each of the batches."""

    def faults() -> Iterator[str]:
        first = {"V": random(2, 2), "b": random(2, seed=1)}
        batches = [random(2, seed=seed) for seed in (2, 3, 4)]
        lr = 0.1

        def g(W: Tensors, x: Tensor) -> Tensors:
            slope = (W["V"] @ x + W["b"]).tanh()
            return {"V": torch.outer(slope, x), "b": slope}

        def walk(W: Tensors, rate: float, kept: float, at_start: bool = False) -> Tensors:
            # v <- kept v + g;  W <- W - rate v
            v = {n: torch.zeros_like(t) for n, t in W.items()}
            for x in batches:
                step = g(first if at_start else W, x)
                v = {n: kept * v[n] + d for n, d in step.items()}
                W = {n: W[n] - rate * v[n] for n in W}
            return W

        W = {name: t.clone() for name, t in first.items()}
        found = call(epoch, g, W, batches, lr)
        if not isinstance(found, dict) or set(found) != set(first):
            yield "return a dictionary of weights with the names of W."
        same = partial(close, found)
        right = walk(first, lr, 0.0)
        if same({n: first[n] - right[n] for n in first}):
            yield "this is how far the weights have moved; return the weights."
        if same(walk(first, lr, 1.0)):
            yield "gradients pile up: each step must use the gradient of its own batch alone."
        if same(walk(first, -lr, 0.0)):
            yield "this goes uphill: subtract."
        if same(walk(first, lr, 0.0, at_start=True)):
            yield "every gradient is taken at W_t; from the second step on the client is elsewhere."
        if same({n: first[n] - lr * d for n, d in g(first, batches[0]).items()}):
            yield "only one step: there is one for each batch."
        if not same(right):
            yield "these are not the weights after the three batches of the test case."
        if any(not torch.equal(W[n], first[n]) for n in first):
            yield "W_t was overwritten: make new tensors, for the attacker needs both ends."

    return check("11.1", faults)


def exercise_11_2(surrogate: Callable[[Tensors, Tensors, float], Tensors]) -> Verdict:
    """surrogate(before, after, alpha) -> (1 - alpha) W_t + alpha W_{t+1}."""

    def faults() -> Iterator[str]:
        before = {"V": random(2, 3), "b": random(2, seed=1)}
        after = {"V": random(2, 3, seed=2), "b": random(2, seed=3)}
        alpha = 0.2
        found = call(surrogate, before, after, alpha)
        if not isinstance(found, dict) or set(found) != set(before):
            yield "return a dictionary of weights with the names of W."
        mixed = lambda a, b: {n: a * before[n] + b * after[n] for n in before}  # noqa: E731
        same = partial(close, found)
        if same(mixed(alpha, 1 - alpha)):
            yield "the ends are swapped: alpha = 0 is W_t, where the client began."
        if same(mixed(1 + alpha, -alpha)):
            yield "this walks away from W_{t+1}: W_t - W_{t+1} points back to the start."
        if same(mixed(1.0, alpha)) or same(mixed(alpha, alpha)):
            yield "the two shares must add up to one."
        if same(mixed(0.5, 0.5)):
            yield "this is the middle, whatever alpha is."
        if not same(mixed(1 - alpha, alpha)):
            yield "not (1 - alpha) W_t + alpha W_{t+1} in every tensor."

    return check("11.2", faults)


def exercise_11_3(counts: Callable[[Tensor, Tensor, Tensor, int, float, int], Tensor]) -> Verdict:
    """counts(p_before, p_after, moved, B, lr, steps) -> how many images of each class."""

    def faults() -> Iterator[str]:
        n = torch.tensor([5.0, 0.0, 2.0, 1.0], dtype=torch.float64)
        before, after = (random(4, seed=seed).softmax(0) for seed in (0, 1))
        B, lr, steps = 8, 0.05, 5
        alpha = (steps - 1) / (2 * steps)
        p = (1 - alpha) * before + alpha * after
        moved = lr * steps * (p - n / B)
        found = tensor(counts, before, after, moved, B, lr, steps)
        if found.shape != n.shape:
            yield f"one number for each of the 4 classes; yours has shape {tuple(found.shape)}."
        whole = lambda t: torch.equal(found.round(), t.round())  # noqa: E731
        if whole(B * (p - moved / lr)):
            yield "moved is the sum over all steps: divide by lr and by their number."
        if whole(B * (p - moved)) or whole(B * (p - moved / steps)):
            yield "moved carries the learning rate: divide by it."
        if whole(B * (p + moved / (lr * steps))):
            yield "the sign: b_t - b_{t+1} is along the gradient, which is mean p - n / B."
        if torch.allclose(found, n / B):
            yield "these are shares, which sum to one: multiply by B."
        for name, there in (("before", before), ("after", after)):
            if torch.allclose(found, B * (there - moved / (lr * steps))):
                yield f"this takes p {name} the training for the p along the way."
        if torch.allclose(found, B * ((before + after) / 2 - moved / (lr * steps))):
            yield "the client never took a gradient at its end: after counts for less than before."
        if not torch.allclose(found, n, atol=1e-4):
            yield f"the counts of the test case are {n.tolist()}, not {found.tolist()}."

    return check("11.3", faults)
