"""Chapter 1: federated learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from ... import client, models
from ...leak import Leak, Tensors
from ._verdict import Verdict, call, check, random


def exercise_1_1(
    average: Callable[[list[Tensors], list[int]], Tensors],
) -> Verdict:
    """average(updates, sizes) -> the mean of the updates, weighted by the clients' sizes."""

    def faults() -> Iterator[str]:
        updates = [{"a": random(2, 3, seed=k), "b": random(3, seed=9 + k)} for k in range(3)]
        sizes = [10, 1, 5]
        mean = call(average, updates, sizes)
        if not isinstance(mean, dict) or set(mean) != {"a", "b"}:
            yield "return a dictionary with the same names as each update."
        total = {n: sum(s * u[n] for s, u in zip(sizes, updates, strict=True)) for n in "ab"}
        if torch.allclose(mean["a"], sum(u["a"] for u in updates) / 3):
            yield "all clients count the same here; one with more images must count for more."
        if torch.allclose(mean["a"], total["a"]):
            yield "this is the weighted sum; divide by the number of all images."
        if not all(torch.allclose(mean[n], total[n] / sum(sizes)) for n in "ab"):
            yield "the mean is not sum_k (n_k / n) update_k."

    return check("1.1", faults)


def exercise_1_2(gradient_of: Callable[[Leak, float], Tensors]) -> Verdict:
    """gradient_of(leak, lr) -> the gradient behind one local step of SGD."""

    def faults() -> Iterator[str]:
        model = models.mlp(size=4, hidden=(5,), classes=3).double()
        x, y = random(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
        g = client.share_gradient(model, x, y).update
        found = call(gradient_of, client.share_weights(model, x, y, lr=0.05), 0.05)
        ratio = float((found["fc.bias"] * g["fc.bias"]).sum() / g["fc.bias"].square().sum())
        if abs(ratio + 1) < 1e-6:
            yield "the sign is wrong: SGD subtracts lr times the gradient."
        if abs(ratio - 0.05) < 1e-6:
            yield "this is W_t - W_(t+1), which is lr times the gradient: divide by lr."
        if not all(torch.allclose(found[n], g[n]) for n in g):
            yield "this is not (W_t - W_(t+1)) / lr."

    return check("1.2", faults)


def exercise_1_3(equations_per_unknown: Callable[[Leak, tuple[int, ...]], float]) -> Verdict:
    """equations_per_unknown(leak, shape) -> numbers sent per number that is private."""

    def faults() -> Iterator[str]:
        shape = (3, 1, 4, 4)
        model = models.mlp(size=4, hidden=(5,), classes=3)
        leak = client.share_gradient(model, torch.zeros(shape), torch.tensor([0, 1, 2]))
        ratio = float(call(equations_per_unknown, leak, shape))
        sent = sum(d.numel() for d in leak.update.values())
        if abs(ratio - sent / 16) < 1e-9:
            yield "the batch has three images, and all of them are unknown."
        if abs(ratio - len(leak.update) / 48) < 1e-9:
            yield "this counts tensors; count the numbers in them."
        if abs(ratio - 48 / sent) < 1e-9:
            yield "upside down: numbers sent, divided by numbers unknown."
        if abs(ratio - sent / 48) > 1e-9:
            yield f"{sent} numbers are sent and 48 pixels are unknown."

    return check("1.3", faults)
