"""What an attacker takes a client's local training to be: the `local` of `attacks.fedavg`."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import cycle, islice
from typing import NamedTuple

import torch

from .._errors import bad
from ..client import Optimizer, check_training, local_training
from ..leak import Tensors


class Local(NamedTuple):
    """What an attacker takes a client's local training to be: `single_step`, `surrogate`, …

    predict(g, given, x', q, c) -> the direction {name: tensor} that the guess would send, of one
    problem; given["W"] and given["update"] are W_t and W_{t+1}, given["buffers"] the buffers, and
    c {name: (1,)} the attacker's own unknowns, which start at `unknowns` {name: number}.
    None predicts g(W_t, x', q).
    """

    predict: Callable[..., Tensors] | None
    unknowns: dict[str, float]


def single_step() -> Local:
    """As if the client had made one step: W_t - W_{t+1} is along g(W_t, x', y').

    What DLM and DLM+ do, however many steps there were.
    """
    return Local(None, {})


def surrogate(alpha: float = 0.5) -> Local:
    """As if the client had made one step from somewhere on its way: along g(W~, x', y') at

    W~ = (1 - alpha) W_t + alpha W_{t+1}, where alpha is searched beside the image, from its first
    value.  Neither the learning rate nor the number of steps has to be known.
    Raises ValueError for alpha that is not finite.
    Source: Zhu, Yao & Blaschko 2023 (SME), published code.
    """
    if not math.isfinite(alpha):
        raise bad("alpha", alpha, "a finite number, 0 at W_t and 1 at W_{t+1}")

    def predict(g, given, x, q, c):
        # W~ = (1 - alpha) W_t + alpha W_{t+1}
        W, after = given["W"], given["update"]
        between = {name: W[name] + c["alpha"] * (after[name] - W[name]) for name in W}
        return g(between, x, q, given["buffers"])

    return Local(predict, {"alpha": alpha})


def simulated(
    lr: float,
    *,
    steps: int = 1,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Optimizer = "sgd",
) -> Local:
    """Run the client's own steps on the guess, and differentiate through all of them.

    W_0 = W_t;  W_{j+1} = the client's step from W_j on (x', y');  the direction is W_t - W_steps.

    The arguments are those of `client.share_weights`, and have to be known.  With mini-batches the
    guess is cut in its own order: in one epoch that is no loss, for a guess has no order, but its
    labels then have to come in the client's; in later ones it is, for the client reshuffles.  Time
    and memory grow with the number of steps.
    Raises ValueError as `client.share_weights` does.
    Source: Geiping et al. 2020 and Dimitrov et al. 2022, published code.
    """
    check_training(optimizer, lr=lr, steps=steps, epochs=epochs, batch_size=batch_size)

    def predict(g, given, x, q, c):
        W, rows = given["W"], torch.arange(len(x)).split(min(batch_size or len(x), len(x)))
        count = steps if epochs is None else epochs * len(rows)
        W_t1 = local_training(
            lambda W, rows: g(W, x[rows], q[rows], given["buffers"]),
            W, islice(cycle(rows), count), lr=lr, optimizer=optimizer,
        )  # fmt: skip
        return {name: W[name] - W_t1[name] for name in W}

    return Local(predict, {})
