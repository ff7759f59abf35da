"""Each paper's attack, composed of the same few pieces.

    find z that minimises  distance(defend(g(W, z, y)), leak) + prior(z),
    from a start, with a solver, with labels y from a label rule.

An attack runs on all the problems of a leak at once: V victims times R restarts.  It sees the
architecture and the leak; the restart that it keeps is the one whose objective is smallest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import distances, priors, solvers
from .. import labels as label_rules
from .._errors import bad
from ..leak import Leak, Tensors, some, stack
from . import local, search

Reconstruction = search.Reconstruction
CONVERGED, STOP, GREY, STARTS = (
    search.CONVERGED, search.STOP, search.GREY, search.STARTS
)  # fmt: skip
Local, single_step, surrogate, simulated = (
    local.Local, local.single_step, local.surrogate, local.simulated
)  # fmt: skip


def dlg(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    labels: Tensor | None = None,
    start: str | Tensor = "half",
    distance: Callable[[Tensors, Tensors], Tensor] = distances.l2,
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
    return search.match(
        model, leak, shape, labels=labels, start=start, distance=distance, prior=prior,
        defend=defend, solver=solver, steps=steps, restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip


def idlg(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    labels: Tensor | None = None,
    start: str | Tensor = "half",
    distance: Callable[[Tensors, Tensors], Tensor] = distances.l2,
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
        search.check(model, leak, shape)
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
    distance: Callable[[Tensors, Tensors], Tensor] = distances.cosine,
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

    tv: the weight of `priors.total_variation`, 0 or more.  With it the objective ends where its
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
        prior=(lambda x: tv * priors.total_variation(x)) if tv > 0 else None,
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


def dlm(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    k: float = 200.0,
    labels: Tensor | None = None,
    start: str | Tensor = "half",
    distance: Callable[[Tensors, Tensors], Tensor] = distances.l2,
    prior: Callable[[Tensor], Tensor] | None = None,
    defend: Callable[[Tensors, Leak], Tensors] | None = None,
    solver: Callable[..., solvers.Solution] = solvers.lbfgs,
    steps: int = 2000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Reconstruction:
    """Deep leakage from model: DLG on weights, where k stands for what the learning rate hides.

    min over x', u', k of distance(g(W_t, x', softmax(u')), k (W_t - W_{t+1})) + prior(x'),
    k from its first value; after one step of SGD at the rate lr the private image has k = 1 / lr.

    There is another minimum that says nothing: g -> 0 with k -> 0, an image of which the network is
    sure.  `converged` is not fooled by it: it asks that the two have one direction.
    With a soft label y' = p + s (y - p) every s in (0, 1] fits as well, with k = s / lr; so labels
    are read as argmax (y' - p), where p is what the network says of x'.
    The result holds k in `unknowns["k"]` (V,), and along the way in `unknown_snapshots["k"]`.
    Arguments, result and errors otherwise as in `dlg`; k must be finite.
    The paper's own: `start="normal", solver=solvers.lbfgs_torch`, k from 60 to 240.
    Source: Zhao, Luo & Ding 2022, published code (DLM.py).
    """
    if not math.isfinite(k):
        raise bad("k", k, "a finite number to start from")
    return search.match(
        model, leak, shape,
        distance=distance, sent=lambda h, c: {name: c["k"] * tensor for name, tensor in h.items()},
        measure=distances.cosine, unknowns={"k": k}, scale_free=True,
        labels=labels, start=start, prior=prior, defend=defend, solver=solver, steps=steps,
        restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip


def dlm_projected(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    labels: Tensor | None = None,
    start: str | Tensor = "half",
    prior: Callable[[Tensor], Tensor] | None = None,
    defend: Callable[[Tensors, Leak], Tensors] | None = None,
    solver: Callable[..., solvers.Solution] = solvers.lbfgs,
    steps: int = 2000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Reconstruction:
    """DLM with the best k at every evaluation, in closed form: k is not searched for.

    min over x', u' of min_k ||g - k h||^2 = ||g||^2 (1 - cos^2(g, h)),  k = <g, h> / ||h||^2,
    with g = g(W_t, x', softmax(u')) and h = leak.direction.  So the minimum at g = 0 is bare.

    Arguments, result and errors otherwise as in `dlm`.
    Source: the objective of Zhao, Luo & Ding 2022; Golub & Pereyra 1973 (variable projection).
    """
    return search.match(
        model, leak, shape, distance=distances.projected, measure=distances.cosine,
        scale_free=True,
        labels=labels, start=start, prior=prior, defend=defend, solver=solver, steps=steps,
        restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip


def dlm_plus(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    labels: Tensor | Literal["joint"] | None = None,
    start: str | Tensor = "half",
    distance: Callable[[Tensors, Tensors], Tensor] = distances.mean_norm,
    prior: Callable[[Tensor], Tensor] | None = None,
    defend: Callable[[Tensors, Leak], Tensors] | None = None,
    solver: Callable[..., solvers.Solution] = solvers.lbfgs,
    steps: int = 2000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Reconstruction:
    """DLM+: match directions, so that the client's learning rate cancels and no k is needed.

    min over x' of sum_l || g_l / n(g) - h_l / n(h) ||^2 + prior(x'),  n(.) the mean norm of a
    tensor,  g = g(W_t, x', y'),  h = leak.direction.

    labels: None reads the label of one image off h (`labels.idlg`), and searches those of a batch
    as `dlg` does; "joint" searches it for one image too, as the paper's code for defences does; or
    class numbers (V, B) or (B,).  distance: of `objectives`, `cosine` normalises by the whole norm
    and `each_norm` every tensor by its own.
    At learning rates so small that rounding keeps the distance up, `converged` is false of right
    images too.  Arguments, result and errors otherwise as in `dlg`.
    The paper's own: `start="normal", solver=solvers.lbfgs_torch`, with the true label.
    Source: Zhao, Luo & Ding 2022, published code (DLM_plus.py, dlm_defense.py).
    """
    return _scale_free(
        model, leak, shape, labels, distance=distance, start=start, prior=prior, defend=defend,
        solver=solver, steps=steps, restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip


def fedavg(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    local: Local = surrogate(),  # noqa: B008
    labels: Tensor | Literal["joint"] | None = None,
    start: str | Tensor = "half",
    distance: Callable[[Tensors, Tensors], Tensor] = distances.cosine,
    prior: Callable[[Tensor], Tensor] | None = None,
    defend: Callable[[Tensors, Leak], Tensors] | None = None,
    solver: Callable[..., solvers.Solution] = solvers.lbfgs,
    steps: int = 2000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Reconstruction:
    """Images out of weights after many local steps, by what the attacker takes those to be.

    min over x' of distance(local's prediction from W_t, W_{t+1}, x', y'; W_t - W_{t+1}) + prior(x')

    local: `single_step()`, `surrogate()` or `simulated(lr, steps=…)`.  labels as in `dlm_plus`;
    `labels.counts` reads those of a batch, given lr and steps.  The result holds the surrogate's
    alpha in `unknowns["alpha"]`.  Arguments, result and errors otherwise as in `dlg`; raises
    ValueError for a leaked gradient, too.
    """
    if leak.kind != "weights":
        raise bad("leak", "a gradient", "weights, as client.share_weights sends them")
    return _scale_free(
        model, leak, shape, labels, distance=distance, predict=local.predict,
        unknowns=local.unknowns, start=start, prior=prior, defend=defend, solver=solver,
        steps=steps, restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip


def _scale_free(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    labels: Tensor | Literal["joint"] | None,
    **settings: object,
) -> Reconstruction:
    """`search.match` with labels as `dlm_plus` takes them."""
    if labels is None and leak.batch_size == 1:
        search.check(model, leak, shape)
        labels = label_rules.idlg(leak)
    joint = labels is None or (isinstance(labels, str) and labels == "joint")
    return search.match(
        model, leak, shape, labels=None if joint else labels, scale_free=True, **settings
    )
