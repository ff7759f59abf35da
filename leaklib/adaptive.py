"""What an attacker does who knows the defence, though not its random numbers.

Most of it is one word of an attack, `defend(gradient, leak) -> gradient`, of the attacker's own
gradient before it is compared.  (`defenses.clip(1.0)`, which draws nothing, can be that word.)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from . import distances
from ._batching import batched, first
from ._errors import require
from ._numbers import inverse, norm, total
from ._words import Word
from .client import check_leak, gradient
from .defenses import noise_factors, spacing_of
from .leak import Leak, Tensors, as_stack

__all__ = ["entries_sent", "scale_free", "within_cells", "left_out", "noisy_weights",
           "without_zeros", "likeliest"]  # fmt: skip
Defend = Callable[[Tensors, Leak], Tensors]


def entries_sent(gradient: Tensors, leak: Leak) -> Tensors:
    """Compare what was sent, g_i [h_i != 0]: against masks and pruning (Balunovic et al. 2022)."""
    return {n: torch.where(leak.direction[n] != 0, g, 0.0) for n, g in gradient.items()}


def scale_free(gradient: Tensors, leak: Leak) -> Tensors:
    """Compare directions, g ||h|| / ||g||: against `clip`, which keeps them.  A zero stays zero."""
    scale = norm(leak.direction) * inverse(norm(gradient))
    return {name: scale * g for name, g in gradient.items()}


@dataclass(frozen=True, repr=False)
class within_cells(Word):
    """Compare only as finely as `quantize(bits)` told: g's distance from the cell around h.

    g + min(max(h - g, -delta/2), delta/2),  delta of `defenses.spacing_of(bits)`.
    """

    bits: int

    def __post_init__(self) -> None:
        spacing_of(self.bits)

    def act(self, gradient: Tensors, leak: Leak) -> Tensors:
        half = {name: spacing_of(self.bits)(h) / 2 for name, h in leak.direction.items()}
        apart = {name: h - gradient[name] for name, h in leak.direction.items()}
        return {n: gradient[n] + apart[n].maximum(-half[n]).minimum(half[n]) for n in half}


@dataclass(frozen=True, repr=False, init=False)
class left_out(Word):
    """Leave tensors out of the comparison, such as `soteria`'s weight (Balunovic et al. 2022)."""

    names: tuple[str, ...]

    def __init__(self, *names: str):
        object.__setattr__(self, "names", names)

    def __repr__(self) -> str:
        return f"left_out{self.names!r}"

    def act(self, gradient: Tensors, leak: Leak) -> Tensors:
        return {**gradient, **{name: leak.direction[name] for name in self.names}}


@dataclass(frozen=True, repr=False)
class noisy_weights(Word):
    """Weigh tensors by how much `weights_noise` hides them, at the best common scale.

        h_l + (s g_l - h_l) / f_l,  s = sum_l <g_l, h_l> / f_l^2 / sum_l ||g_l||^2 / f_l^2

    f_l of `defenses.noise_factors(W_t, bound)`.  No learning rate has to be known.
    """

    bound: float = 0.2

    def act(self, gradient: Tensors, leak: Leak) -> Tensors:
        f, h = noise_factors(leak.weights, self.bound), leak.direction
        inner = total((g * h[n]).sum() / f[n] ** 2 for n, g in gradient.items())
        squared = total(g.square().sum() / f[n] ** 2 for n, g in gradient.items())
        # s = <g, h> / <g, g>
        s = inner * inverse(squared)
        return {n: h[n] + (s * g - h[n]) / f[n] for n, g in gradient.items()}


def without_zeros(leak: Leak) -> Leak:
    """Weights whose zeros count as not sent, for `entries_sent`; ValueError for gradients."""
    require(leak.kind == "weights", "leak", "a gradient", "weights")
    W = leak.weights
    return replace(leak, update={n: torch.where(w != 0, w, W[n]) for n, w in leak.update.items()})


def likeliest(
    model: nn.Module, leak: Leak, images: Tensor, labels: Tensor, defend: Defend | None = None
) -> Tensor:
    """Which of N images is behind the leak (V,), int64: argmin_j ||defend(g(W, x_j, y_j)) - h||^2.

    images (N, C, H, W), labels (N,).  Under normal noise, and with images of equal probability, no
    attack is right more often (Neyman & Pearson).  defend: as an attack takes it; `clip(C)` for
    `dp_sgd(C, …)`.  ValueError for a leak that does not fit the model, and for a batch.
    """
    check_leak(model, leak)
    require(leak.batch_size == 1, "leak", f"a batch of {leak.batch_size}", "one image")
    leaks = as_stack(leak)

    def distance(W: Tensors, update: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> Tensor:
        seen = replace(leak, weights=W, update=update, buffers=buffers, victims=None)
        guess = gradient(model)(W, x[None], y[None], buffers)
        return distances.l2(guess if defend is None else defend(guess, seen), seen.direction)

    of_victims, V = batched(distance), len(first(leaks.weights))
    apart = [
        of_victims(leaks.weights, leaks.update, leaks.buffers, *(t.expand(V, *t.shape) for t in xy))
        for xy in zip(images, labels)  # one image at a time, so that V gradients are held, not V N
    ]
    return torch.stack(apart).argmin(0)
