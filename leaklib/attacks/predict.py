"""What an attacker takes the client's steps to be: the word `predict` of an attack.

`predict(g, leak, x', q, c)` returns the direction that a guess would send: g is
`client.gradient(model)`, q (B, classes) the labels' probabilities, and c {name: (n,)} the other
unknowns, whose beginnings stand in its `unknowns`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from .._errors import require
from .._words import Word
from ..client import Optimizer, check_training, local_training
from ..leak import Leak, Tensors

Gradient = Callable[..., Tensors]


def single_step(g: Gradient, leak: Leak, x: Tensor, q: Tensor, c: Tensors) -> Tensors:
    """As if the client had made one step, along g(W_t, x', y'): what attacks usually assume."""
    return g(leak.weights, x, q, leak.buffers)


@dataclass(frozen=True, repr=False)
class surrogate(Word):
    """As if the client had made one step from somewhere on its way: along g(W~, x', y') at

        W~ = (1 - alpha) W_t + alpha W_{t+1}

    alpha: where its search begins, a finite number (ValueError otherwise).  Neither the learning
    rate nor the number of steps has to be known.  Source: Zhu, Yao & Blaschko 2023 (SME), code.
    """

    alpha: float = 0.5
    formula = r"g(\tilde W, x', y)"

    def __post_init__(self) -> None:
        finite = math.isfinite(self.alpha)
        require(finite, "alpha", self.alpha, "a finite number, 0 at W_t and 1 at W_{t+1}")

    @property
    def unknowns(self) -> dict[str, float]:
        return {"alpha": self.alpha}

    def act(self, g: Gradient, leak: Leak, x: Tensor, q: Tensor, c: Tensors) -> Tensors:
        W, after = leak.weights, leak.update
        # W~ = (1 - alpha) W_t + alpha W_{t+1}
        between = {name: W[name] + c["alpha"] * (after[name] - W[name]) for name in W}
        return g(between, x, q, leak.buffers)


@dataclass(frozen=True, repr=False)
class simulated(Word):
    """Run the client's own steps on the guess, and differentiate through all of them.

        W_0 = W_t;  W_{j+1} = the client's step from W_j on (x', y');  the direction is W_t - W_T

    The settings are those of `client.share_weights`, as are the errors, and have to be known.  With
    mini-batches the guess is cut in its own order: no loss in one epoch, if its labels come in the
    client's; in later ones the client reshuffles.  Time and memory grow with the number of steps.
    Source: Geiping et al. 2020 and Dimitrov et al. 2022, published code.
    """

    lr: float
    steps: int = 1
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: Optimizer = "sgd"
    formula = r"W_t - W_T(x', y)"

    def __post_init__(self) -> None:
        numbers = dict(lr=self.lr, steps=self.steps, epochs=self.epochs, batch_size=self.batch_size)
        check_training(self.optimizer, **numbers)

    def act(self, g: Gradient, leak: Leak, x: Tensor, q: Tensor, c: Tensors) -> Tensors:
        W, size = leak.weights, min(self.batch_size or len(x), len(x))
        batches = torch.arange(len(x)).split(size)
        count = self.steps if self.epochs is None else self.epochs * len(batches)
        step = lambda W, rows: g(W, x[rows], q[rows], leak.buffers)  # noqa: E731
        queue = islice(cycle(batches), count)
        W_T = local_training(step, W, queue, lr=self.lr, optimizer=self.optimizer)
        return {name: W[name] - W_T[name] for name in W}
