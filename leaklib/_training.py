"""A client's local training: one loop for the client, and for an attacker who simulates it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from ._errors import bad
from ._leak import Tensors
from ._numbers import root

Optimizer = Literal["sgd", "momentum", "adam"]
OPTIMIZERS = ("sgd", "momentum", "adam")


def check_training(optimizer: Optimizer = "sgd", **settings: float | None) -> None:
    """Raise ValueError for an unknown optimizer, and for settings that are given and not positive.

    The settings are a learning rate and numbers of steps.
    """
    if optimizer not in OPTIMIZERS:
        raise bad("optimizer", repr(optimizer), f"one of {', '.join(OPTIMIZERS)}")
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise bad(name, value, "a positive number")


def local_training(
    g: Callable[[Tensors, Tensor], Tensors],
    W: Tensors,
    batches: Iterable[Tensor],
    *,
    lr: float,
    optimizer: Optimizer = "sgd",
) -> Tensors:
    """The weights after a step for each of the `batches`, with the gradient g(W, batch).

        "sgd"       W <- W - lr g
        "momentum"  v <- 0.9 v + g;  W <- W - lr v
        "adam"      m <- 0.9 m + 0.1 g;  v <- 0.999 v + 0.001 g^2;
                    W <- W - lr m^ / (sqrt(v^) + 1e-8),  m^ = m / (1 - 0.9^t), v^ likewise

    As `torch.optim` has them, but of tensors that can be differentiated, so that an attacker can
    run the same steps on its guess.  Raises ValueError for another optimizer.
    """
    check_training(optimizer)
    zero = {name: torch.zeros_like(tensor) for name, tensor in W.items()}
    m, v = zero, zero
    for t, batch in enumerate(batches, start=1):
        step = g(W, batch)
        if optimizer == "momentum":
            # v <- 0.9 v + g
            step = v = {name: 0.9 * v[name] + d for name, d in step.items()}
        elif optimizer == "adam":
            # m <- 0.9 m + 0.1 g;  v <- 0.999 v + 0.001 g^2
            m = {name: 0.9 * m[name] + 0.1 * d for name, d in step.items()}
            v = {name: 0.999 * v[name] + 0.001 * d.square() for name, d in step.items()}
            # m^ / (sqrt(v^) + 1e-8)
            step = {
                name: m[name] / (1 - 0.9**t) / (root(v[name] / (1 - 0.999**t)) + 1e-8) for name in W
            }
        W = {name: W[name] - lr * d for name, d in step.items()}
    return W


def minibatches(n: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """`steps` index sets of `size` of n images, reshuffled at each pass (none left out)."""
    generator = torch.Generator().manual_seed(seed)
    queue: list[Tensor] = []
    for _ in range(steps):
        if not queue:
            order = torch.arange(n) if size == n else torch.randperm(n, generator=generator)
            queue = list(order.split(size))
        yield queue.pop(0)
