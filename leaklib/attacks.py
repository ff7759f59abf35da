"""Each paper's attack, composed of the same few pieces.

    find z that minimises  distance(defend(g(W, z, y)), leak) + prior(z),
    from a start, with a solver, with labels y from a label rule.

An attack runs on all the problems of a leak at once: V victims times R restarts.  It sees the
architecture and the leak; the restart that it keeps is the one whose objective is smallest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import one_hot

from . import _chain, _matching, objectives, solvers
from . import labels as label_rules
from ._errors import bad
from .client import Leak, Tensors, gradient, some, stack

CONVERGED = 1e-7
"""An attack has converged when its distance is this small against that of a zero gradient."""

STOP = 1e-9
"""A problem is solved, and stops, when its objective is this small against the same."""

GREY = 1e3
"""And against so many times the distance of a grey image, where that is less: some networks send
nearly the same message for every image, so that any image would look matched."""

STARTS = _matching.STARTS


class Reconstruction(NamedTuple):
    """What an attack returns for V victims with B images each.

    images      (V, B, C, H, W) the best iterate by objective; pixels are not clamped
    labels      (V, B) class numbers, -1 where the rule could not tell
    objective   (V,) the objective of those images
    converged   (V,) whether the distance is below `CONVERGED` times that of a zero gradient, or of
                a grey image (see `GREY`) where labels are given; with a `defend` that discards
                much, a wrong image can match what is left
    trace       (V, T) the objective at each evaluation of the restart kept, NaN once it has ended
    evaluations (V,) evaluations spent, all restarts together
    snapshots   {evaluations: (V, B, C, H, W)} where the kept restart stood after 1, 2, 5, 10, …
    """

    images: Tensor
    labels: Tensor
    objective: Tensor
    converged: Tensor
    trace: Tensor
    evaluations: Tensor
    snapshots: dict[int, Tensor]


def dlg(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    labels: Tensor | None = None,
    start: str | Tensor = "half",
    distance: Callable[[Tensors, Tensors], Tensor] = objectives.l2,
    prior: Callable[[Tensor], Tensor] | None = None,
    defend: Callable[[Tensors, Leak], Tensors] | None = None,
    solver: Callable[..., solvers.Solution] = solvers.lbfgs,
    steps: int = 2000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Reconstruction:
    """Deep leakage from gradients: find images and soft labels that give the leaked gradient.

    min over x', u' of distance(g(W, x', softmax(u')), leak.direction) + prior(x'), u' ~ N(0, 1).

    shape (B, C, H, W) of one victim's batch.  labels (V, B) or (B,) fixes the labels instead.
    start: "half" (0.5), "zeros", "uniform" on [0, 1], "normal", or images that broadcast to
    (V, R, B, C, H, W).  A paper's own: `start="normal", solver=solvers.lbfgs_torch`.
    A solver is called as those of `solvers`, with z = x' (V R, B, C, H, W), or z = (x', u').
    Raises ValueError when leak, shape, labels or start do not fit the model, and where two images
    of a batch begin alike with the same label.
    Source: Zhu et al. 2019, Algorithm 1; published code.
    """
    classes = _matching.check(model, leak, shape)
    leaks = leak if leak.victims is not None else stack([leak])
    V, R, B, h = leaks.victims, restarts, shape[0], leaks.direction
    like = next(iter(h.values()))
    joint = labels is None
    images = lambda z: z[0] if joint else z  # noqa: E731
    z = _matching.first_points(start, V, R, shape, like, seed, classes if joint else 0)
    if not joint:
        labels = _matching.given_labels(labels, V, B, classes).to(like.device)
        _matching.check_apart(start, labels)
    # what one problem reads: its own weights, message and labels; class 0 stands in for -1
    given = dict(W=leaks.weights, buffers=leaks.buffers, update=leaks.update, h=h)
    given["q"] = {} if joint else {"q": one_hot(labels.clamp(min=0), classes).to(like)}
    g = gradient(model)

    def gap(z: solvers.Points, given: dict[str, Tensors]) -> Tensor:
        """distance(defend(g(W, x', y')), h) of one problem; z is x', or (x', u')."""
        x, q = _matching.images_and_labels(z, given)
        guess = g(given["W"], x, q, given["buffers"])
        if defend is not None:
            seen = Leak(given["W"], given["update"], leak.kind, given["buffers"], leak.batch_size)
            guess = defend(guess, seen)
        return distance(guess, given["h"])

    chain = None
    if distance is objectives.l2 and defend is None:
        chain = _chain.layers(model, h, shape)
    gaps = _matching.batched(gap) if chain is None else partial(_matching.chained, chain)
    penalties = _matching.batched(lambda x, _: prior(x))

    def objective(z: solvers.Points, given: dict[str, Tensors]) -> Tensor:
        if prior is None:
            return gaps(z, given)
        return gaps(z, given) + penalties(images(z), {})

    zero = {name: torch.zeros_like(tensor) for name, tensor in h.items()}
    scale = vmap(distance)(zero, h)  # (V,)
    if not joint:
        # fmin, for a network that overflows at grey says nothing of its scale
        with torch.no_grad():
            scale = scale.fmin(GREY * gaps(torch.full_like(z[:V], 0.5), given))
    # with a prior the objective has no known floor, so that nothing says when it is reached
    floor = STOP * scale if prior is None else torch.full_like(scale, -math.inf)
    found = solver(
        _matching.of_victims(objective, given, R),
        z,
        steps=steps,
        tolerance=floor.repeat_interleave(R),
        progress=progress,
    )
    kept = torch.arange(V, device=like.device) * R + found.value.reshape(V, R).argmin(1)
    best = tuple(part[kept] for part in found.z) if joint else found.z[kept]
    with torch.no_grad():
        converged = gaps(best, given) < CONVERGED * scale
    if joint:
        labels = best[1].argmax(-1)
    else:
        converged &= (labels >= 0).all(1)
    return Reconstruction(
        images=images(best),
        labels=labels,
        objective=found.value[kept],
        converged=converged,
        trace=found.trace[kept],
        evaluations=found.evaluations.reshape(V, R).sum(1),
        snapshots={count: images(z)[kept] for count, z in found.snapshots.items()},
    )


def idlg(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    labels: Tensor | None = None,
    start: str | Tensor = "half",
    distance: Callable[[Tensors, Tensors], Tensor] = objectives.l2,
    prior: Callable[[Tensor], Tensor] | None = None,
    defend: Callable[[Tensors, Leak], Tensors] | None = None,
    solver: Callable[..., solvers.Solution] = solvers.lbfgs,
    steps: int = 2000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Reconstruction:
    """Improved DLG: read the label off the last layer, then find the image alone.

    y = labels.idlg(leak);  min over x' of distance(g(W, x', y), leak.direction) + prior(x').

    Arguments, result and errors as in `dlg`.  Where the label cannot be told it is returned as -1
    and the attack, run with class 0, is never marked converged.
    Source: Zhao, Mopuri & Bilen 2020, Algorithm 1.
    """
    if labels is None:
        _matching.check(model, leak, shape)
        labels = label_rules.idlg(leak)
    return dlg(
        model, leak, shape, labels=labels,
        start=start, distance=distance, prior=prior, defend=defend, solver=solver, steps=steps,
        restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip


def invert_gradients(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    labels: Tensor | None = None,
    start: str | Tensor = "uniform",
    distance: Callable[[Tensors, Tensors], Tensor] = objectives.cosine,
    tv: float = 0.1,
    defend: Callable[[Tensors, Leak], Tensors] | None = None,
    solver: Callable[..., solvers.Solution] = solvers.sign_adam,
    steps: int = 2000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Reconstruction:
    """Inverting Gradients: match the direction of the gradient alone, with a smooth picture.

    y = labels.idlg(leak);  min over x' in [0, 1] of
        1 - <g, h> / (||g|| ||h||) + tv TV(x'),   g = g(W, x', y),  h = leak.direction.

    tv: the weight of `objectives.total_variation`, 0 or more.  With it the objective ends where its
    two terms balance, so that a result is hardly ever marked converged.
    Arguments, result and errors otherwise as in `idlg`: a batch of more than one image needs its
    `labels` (`labels.counts` reads how many there are of each class).
    The paper's own: `start="normal"`, for pixels of mean 0 and variance 1; `steps=4800` or 24,000.
    Source: Geiping et al. 2020, eq. 4; published code (tv 0.1).
    """
    if not 0 <= tv < math.inf:
        raise bad("tv", tv, "a weight of 0 or more")
    return idlg(
        model, leak, shape, labels=labels,
        start=start, distance=distance, defend=defend, solver=solver, steps=steps,
        prior=(lambda x: tv * objectives.total_variation(x)) if tv > 0 else None,
        restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip


def dlg_fb(
    model: nn.Module,
    leaks: Leak | Sequence[Leak],
    shape: Sequence[int],
    *,
    alpha: float = 0.5,
    wave: int = 1,
    attack: Callable[..., Reconstruction] = idlg,
    success: Callable[[Reconstruction], Tensor] = lambda out: out.converged,
    labels: Tensor | None = None,
    start: str | Tensor = "normal",
    seed: int = 0,
    **settings: object,
) -> Reconstruction:
    """DLG with feedback blending: attack one leak after another, each from what the last ones gave.

        m <- x^ after the first success,  m <- alpha m + (1 - alpha) x^ after each later one,

    and the next attack starts at x' = m.  A failure leaves m as it was; until there is a success,
    attacks begin at `start`: a name as in `dlg`, drawn anew for each leak, or images that broadcast
    to (V, B, C, H, W).

    leaks: V leaks, or a stack, in the order in which they are attacked.  wave: how many are
    attacked at once; all of a wave start at the same m, and are blended in their order.
    attack: `idlg` or `dlg`; labels (V, B) and `settings` go to it.  success(out) (V,) says which
    attacks are blended: it sees what an attacker sees, never the private image.
    Returns the result of all V.  Raises ValueError for alpha outside [0, 1) and wave < 1, and as
    `dlg` does.
    Source: Leite et al. 2024, published code (which waits for three successes of random starts, and
    counts a success by its objective).
    """
    if not 0 <= alpha < 1:
        raise bad("alpha", alpha, "0 <= alpha < 1")
    if not wave >= 1:
        raise bad("wave", wave, "at least 1")
    leaks = leaks if isinstance(leaks, Leak) else stack(leaks)
    if leaks.victims is None:
        raise bad("leaks", "one Leak", "several, or a stack of them")
    m, outs = None, []
    for first in range(0, leaks.victims, wave):
        rows = slice(first, first + wave)
        begin = start[rows, None] if torch.is_tensor(start) and start.ndim > 4 else start
        out = attack(
            model, some(leaks, rows), shape,
            labels=None if labels is None else labels[rows],
            start=begin if m is None else m,
            seed=seed + first,
            **settings,
        )  # fmt: skip
        for x in out.images[success(out)]:
            # m <- alpha m + (1 - alpha) x^
            m = x if m is None else alpha * m + (1 - alpha) * x
        outs.append(out)
    return _joined(outs)


def _joined(outs: Sequence[Reconstruction]) -> Reconstruction:
    """The results of several attacks, one after the other, as one of all their victims."""
    T = max(out.trace.shape[1] for out in outs)
    traces = [F.pad(out.trace, (0, T - out.trace.shape[1]), value=torch.nan) for out in outs]
    counts = sorted({count for out in outs for count in out.snapshots})
    joined = {
        name: torch.cat([getattr(out, name) for out in outs])
        for name in ("images", "labels", "objective", "converged", "evaluations")
    }
    return Reconstruction(
        **joined,
        trace=torch.cat(traces),
        # an attack that was over by then stands where it ended
        snapshots={
            count: torch.cat([out.snapshots.get(count, out.images) for out in outs])
            for count in counts
        },
    )
