"""What an attacker does who knows the defence, though not its random numbers.

Most of it is one argument of an attack, `defend(gradient, leak) -> gradient`, applied to the
attacker's own gradient of one problem before it is compared.  (A defence that draws nothing, such
as `defenses.clip(1.0)`, can be that argument itself.)  What is known of noise is a `distance`, what
is believed of images a `prior`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import vmap

from . import distances
from ._errors import bad
from ._numbers import inverse, norm
from .client import check_leak, gradient
from .defenses import noise_factors, spacing_of
from .leak import Leak, Tensors, stack

Defend = Callable[[Tensors, Leak], Tensors]


def entries_sent(gradient: Tensors, leak: Leak) -> Tensors:
    """Compare only the entries that were sent: the others, exact zeros of the leak, become zero.

    g_i [h_i != 0].  Against `random_mask`, `prune` and `soteria`: what they hide can be seen.
    Source: Balunovic et al. 2022, published code.
    """
    return {n: torch.where(leak.direction[n] != 0, g, 0.0) for n, g in gradient.items()}


def scale_free(gradient: Tensors, leak: Leak) -> Tensors:
    """Compare directions: the guess's gradient gets the length of what was sent, g ||h|| / ||g||.

    Against `clip`, which leaves the direction as it is.  A zero stays zero.
    """
    # ||h|| / ||g||
    scale = norm(leak.direction) * inverse(norm(gradient))
    return {name: scale * g for name, g in gradient.items()}


def within_cells(bits: int) -> Defend:
    """Compare only as finely as `quantize(bits)` told: nothing within half a level counts.

        g + min(max(h - g, -delta/2), delta/2),  delta = max |h| / (2^(bits - 1) - 1)

    for each tensor, so that the squared distance of the result from h is that of g from the cell
    of numbers that are rounded to h.  Raises ValueError unless 2 <= bits <= 16.
    """
    spacing = spacing_of(bits)

    def defend(gradient: Tensors, leak: Leak) -> Tensors:
        moved = {}
        for name, h in leak.direction.items():
            delta = spacing(h)
            apart = h - gradient[name]
            moved[name] = gradient[name] + torch.minimum(
                torch.maximum(apart, -delta / 2), delta / 2
            )
        return moved

    return defend


def left_out(*names: str) -> Defend:
    """Leave some tensors out of the comparison: the guess's are replaced by what was sent.

    Against `soteria`, with the name of the weight that it changed.
    Source: Balunovic et al. 2022, published code.
    """
    return lambda gradient, leak: {**gradient, **{name: leak.direction[name] for name in names}}


def noisy_weights(bound: float = 0.2) -> Defend:
    """Weigh tensors by how much `weights_noise` hides them, at the best common scale.

        h_l + (s g_l - h_l) / f_l,  s = sum_l <g_l, h_l> / f_l^2 / sum_l ||g_l||^2 / f_l^2

    f_l as in `defenses.weights_noise`, of the weights W_t, which nearly are W_{t+1}.  So the
    squared distance from h is that of s g, each tensor in units of its noise, and no learning rate
    has to be known.
    """

    def defend(gradient: Tensors, leak: Leak) -> Tensors:
        f = noise_factors(leak.weights, bound)
        h = leak.direction
        inner = sum((g * h[n]).sum() / f[n] ** 2 for n, g in gradient.items())
        squared = sum(g.square().sum() / f[n] ** 2 for n, g in gradient.items())
        # s = <g, h> / <g, g>
        s = inner * inverse(squared)
        return {n: h[n] + (s * g - h[n]) / f[n] for n, g in gradient.items()}

    return defend


def without_zeros(leak: Leak) -> Leak:
    """The leak of weights in which those that came as zero count as not sent: h_i = 0 there.

    Against `weights_sparsify`, together with `entries_sent`.  Raises ValueError for a gradient.
    """
    if leak.kind != "weights":
        raise bad("leak", "a gradient", "weights")
    W = leak.weights
    return replace(leak, update={n: torch.where(w != 0, w, W[n]) for n, w in leak.update.items()})


def likeliest(
    model: nn.Module,
    leak: Leak,
    images: Tensor,
    labels: Tensor,
    defend: Callable[..., Tensors] | None = None,
) -> Tensor:
    """Which of N known images is behind the leak: the one whose gradient is nearest, (V,) int64.

    argmin_j ||defend(g(W, x_j, y_j)) - h||^2;  images (N, C, H, W), labels (N,) of one image each.
    Under normal noise, and with each image as probable as any other, no attack is right more often
    (Neyman & Pearson).  For `dp_sgd(C, …)`: defend=defenses.clip(C).
    Raises ValueError when the leak does not fit the model, and for a batch of more than one image.
    """
    check_leak(model, leak)
    if leak.batch_size != 1:
        raise bad("leak", f"a batch of {leak.batch_size}", "one image")
    g = gradient(model)
    leaks = leak if leak.victims is not None else stack([leak])

    def distance(given: dict[str, Tensors], x: Tensor, y: Tensor) -> Tensor:
        guess = g(given["W"], x[None], y[None], given["buffers"])
        if defend is not None:
            seen = Leak(given["W"], given["update"], leak.kind, given["buffers"])
            guess = defend(guess, seen)
        return distances.l2(guess, given["h"])

    given = dict(W=leaks.weights, update=leaks.update, buffers=leaks.buffers, h=leaks.direction)
    every = vmap(vmap(distance, (None, 0, 0)), (0, None, None))
    return every(given, images, labels).argmin(1)
