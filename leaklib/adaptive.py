"""What an attacker does who knows the defence, though not its random numbers.

Most of it is one argument of an attack, `defend(gradient, leak) -> gradient`, applied to the
attacker's own gradient of one problem before it is compared.  (A defence that draws nothing, such
as `defenses.clip(1.0)`, can be that argument itself.)  What is known of noise is a `distance`, what
is believed of images a `prior`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import vmap

from . import _matching, objectives, solvers
from . import keylock as locks
from . import labels as label_rules
from ._errors import bad
from ._numbers import inverse, norm
from .client import Leak, Tensors, check_leak, gradient, stack
from .defenses import noise_factors, spacing_of

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


def likelihood(sigma: float) -> Callable[[Tensors, Tensors], Tensor]:
    """A distance: minus the logarithm of how likely normal noise makes what was sent.

        sum_l ||g_l - h_l||_F^2 / (2 sigma^2), up to a constant

    With `smooth` as the prior the attack finds the most probable image.
    Raises ValueError unless sigma is positive.  Source: Balunovic et al. 2022.
    """
    if not sigma > 0:
        raise bad("sigma", sigma, "a positive standard deviation")
    return lambda g, h: objectives.l2(g, h) / (2 * sigma**2)


def smooth(scale: float = 0.3) -> Callable[[Tensor], Tensor]:
    """A prior: minus the logarithm of how probable an image is whose differences are Laplace's.

        sum |x_{i+1,j} - x_ij| / scale + sum |x_{i,j+1} - x_ij| / scale, up to a constant

    x (..., H, W).  Total variation, with a weight that says what is believed: `scale` is the mean
    difference of neighbours.  Neighbouring differences are not independent, so that more than the
    mean that one measures (about 0.1 of photographs) serves best.
    Raises ValueError unless scale is positive.
    """
    if not scale > 0:
        raise bad("scale", scale, "a positive mean difference of neighbouring pixels")

    def prior(x: Tensor) -> Tensor:
        down = (x[..., 1:, :] - x[..., :-1, :]).abs().sum()
        right = (x[..., :, 1:] - x[..., :, :-1]).abs().sum()
        return (down + right) / scale

    return prior


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
        return objectives.l2(guess, given["h"])

    given = dict(W=leaks.weights, update=leaks.update, buffers=leaks.buffers, h=leaks.direction)
    every = vmap(vmap(distance, (None, 0, 0)), (0, None, None))
    return every(given, images, labels).argmin(1)


def keylock(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    search: Literal["gains", "key"] = "gains",
    gate: str = "relu",
    lock: str = "lock",
    labels: Tensor | None = None,
    start: str | Tensor = "half",
    distance: Callable[[Tensors, Tensors], Tensor] = objectives.l2,
    prior: Callable[[Tensor], Tensor] | None = None,
    defend: Defend | None = None,
    solver: Callable[..., solvers.Solution] = solvers.lbfgs,
    steps: int = 2000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> _matching.Reconstruction:
    """Images from behind a lock: its gains and shifts are unknowns beside the image.

    y = labels.idlg(leak);  min over x', gamma, beta of distance(g(W, x', y; gamma, beta), h)

    model: what `keylock.opened` gives, and leak: what `keylock.shared` gives, with the first guess
    of gamma and beta by `keylock.guessed`.  Nothing private is known.  search="key": the attacker
    of the published test, who owns the two maps (`keylock.shared(…, maps=True)`), searches the key
    from 1/2 everywhere, gamma = s(A k + a), beta = s(B k + b) with the gate s.
    The result holds `unknowns["gamma"]` and `["beta"]` (V, O), or `["key"]` (V, L).  With the true
    gains in `keylock.guessed`, `attacks.idlg` is the positive control.
    Arguments, result and errors otherwise as in `attacks.idlg`; raises ValueError for a leak that
    lacks the guess, or the maps, and for another `search` or gate.
    """
    if search not in ("gains", "key"):
        raise bad("search", repr(search), '"gains" or "key"')
    _matching.check(model, leak, shape)
    names = {part: f"{lock}.{part}" for part in ("gamma", "beta")}
    maps = {part: f"{lock}.{part}" for part in locks.MAPS}
    if search == "key":
        if gate not in locks.GATES:
            raise bad("gate", repr(gate), f"one of {', '.join(locks.GATES)}")
        missing = [name for name in maps.values() if name not in leak.buffers]
        if missing:
            raise bad("leak.buffers", f"no {missing[0]!r}", "keylock.shared(…, maps=True)")
        lead = leak.victims or 1
        length = leak.buffers[maps["gain.weight"]].shape[-1]
        unknowns = {"key": torch.full((lead, length), 0.5)}
    else:
        guess = {part: leak.buffers[name] for part, name in names.items()}
        unknowns = {p: b if leak.victims is not None else b[None] for p, b in guess.items()}

    def gains(given: dict[str, Tensors], c: Tensors) -> Tensors:
        if search == "gains":
            return {name: c[part] for part, name in names.items()}
        held = {part: given["buffers"][name] for part, name in maps.items()}
        return dict(zip(names.values(), locks.gains(held, c["key"], gate)))

    def without_maps(buffers: Tensors) -> Tensors:
        return {name: b for name, b in buffers.items() if name not in maps.values()}

    if labels is None:
        labels = label_rules.idlg(leak)
    return _matching.match(
        model, leak, shape, distance=distance, unknowns=unknowns,
        predict=lambda g, given, x, q, c: g(
            given["W"], x, q, {**without_maps(given["buffers"]), **gains(given, c)}
        ),
        labels=labels, start=start, prior=prior, defend=defend, solver=solver, steps=steps,
        restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip
