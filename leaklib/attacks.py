"""Each paper's attack, composed of the same few pieces.

    find z that minimises  distance(defend(g(W, z, y)), leak) + prior(z),
    from a start, with a solver, with labels y from a label rule.

An attack runs on all the problems of a leak at once: V victims times R restarts.  It sees the
architecture and the leak; the restart that it keeps is the one whose objective is smallest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import one_hot

from . import _chain, objectives, solvers
from . import labels as label_rules
from ._errors import bad
from .client import Leak, Tensors, check_leak, gradient, logits_shape, stack

CONVERGED = 1e-7
"""An attack has converged when its distance is this small against that of a zero gradient."""

STOP = 1e-9
"""A problem is solved, and stops, when its objective is this small against the same."""

STARTS = {
    "half": lambda size, generator: torch.full(size, 0.5),
    "zeros": lambda size, generator: torch.zeros(size),
    "uniform": lambda size, generator: torch.rand(size, generator=generator),
    "normal": lambda size, generator: torch.randn(size, generator=generator),
}


class Reconstruction(NamedTuple):
    """What an attack returns for V victims with B images each.

    images      (V, B, C, H, W) the best iterate by objective; pixels are not clamped
    labels      (V, B) class numbers, -1 where the rule could not tell
    objective   (V,) the objective of those images
    converged   (V,) whether the distance is below `CONVERGED` times that of a zero gradient; with a
                `defend` that discards much, a wrong image can match what is left
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
    Raises ValueError when leak, shape, labels or start do not fit the model.
    Source: Zhu et al. 2019, Algorithm 1; published code.
    """
    classes = _check(model, leak, shape)
    leaks = leak if leak.victims is not None else stack([leak])
    V, R, B, h = leaks.victims, restarts, shape[0], leaks.direction
    like = next(iter(h.values()))
    joint = labels is None
    images = lambda z: z[0] if joint else z  # noqa: E731
    z = _start(start, V, R, shape, like, seed, classes if joint else 0)
    if not joint:
        labels = _given_labels(labels, V, B, classes).to(like.device)
    # what one problem reads: its own weights, message and labels; class 0 stands in for -1
    given = dict(W=leaks.weights, buffers=leaks.buffers, update=leaks.update, h=h)
    given["q"] = {} if joint else {"q": one_hot(labels.clamp(min=0), classes).to(like)}
    g = gradient(model)

    def gap(z: solvers.Points, given: dict[str, Tensors]) -> Tensor:
        """distance(defend(g(W, x', y')), h) of one problem; z is x', or (x', u')."""
        x, q = _images_and_labels(z, given)
        guess = g(given["W"], x, q, given["buffers"])
        if defend is not None:
            seen = Leak(given["W"], given["update"], leak.kind, given["buffers"], leak.batch_size)
            guess = defend(guess, seen)
        return distance(guess, given["h"])

    chain = None
    if distance is objectives.l2 and defend is None:
        chain = _chain.layers(model, h, shape)
    gaps = _batched(gap) if chain is None else partial(_chained, chain)
    penalties = _batched(lambda x, _: prior(x))

    def objective(z: solvers.Points, given: dict[str, Tensors]) -> Tensor:
        if prior is None:
            return gaps(z, given)
        return gaps(z, given) + penalties(images(z), {})

    zero = {name: torch.zeros_like(tensor) for name, tensor in h.items()}
    scale = vmap(distance)(zero, h)  # (V,)
    # with a prior the objective has no known floor, so that nothing says when it is reached
    floor = STOP * scale if prior is None else torch.full_like(scale, -math.inf)
    found = solver(
        _objective(objective, given, R),
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
        _check(model, leak, shape)
        labels = label_rules.idlg(leak)
    return dlg(
        model, leak, shape, labels=labels,
        start=start, distance=distance, prior=prior, defend=defend, solver=solver, steps=steps,
        restarts=restarts, seed=seed, progress=progress,
    )  # fmt: skip


def _check(model: nn.Module, leak: Leak, shape: Sequence[int]) -> int:
    """Number of classes of the model, once leak and shape fit it."""
    check_leak(model, leak)
    if len(shape) < 2 or min(shape) < 1:
        raise bad("shape", tuple(shape), "(B, C, H, W) with every number positive")
    if shape[0] != leak.batch_size:
        raise bad("shape", f"a batch of {shape[0]}", f"the leak's batch size {leak.batch_size}")
    return logits_shape(model, shape, like=next(iter(leak.weights.values())))[-1]


def _given_labels(labels: Tensor, V: int, B: int, classes: int) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.dtype != torch.int64:
        raise bad("labels", labels.dtype, "class numbers, torch.int64")
    try:
        labels = labels.expand(V, B)
    except RuntimeError:
        raise bad("labels", f"shape {tuple(labels.shape)}", f"({V}, {B})") from None
    if labels.min() < -1 or labels.max() >= classes:
        raise bad("labels", f"{labels.min()} to {labels.max()}", f"0..{classes - 1}, or -1")
    return labels


def _start(start, V, R, shape, like, seed, classes) -> solvers.Points:
    """The first images (V R, B, C, H, W) and, of joint labels, their logits u' ~ N(0, 1).

    Restart after restart, so that more restarts begin with those that fewer have.
    """
    if R < 1:
        raise bad("restarts", R, "at least 1")
    if torch.is_tensor(start):
        try:
            given = start.to(like).expand(V, R, *shape)
        except RuntimeError:
            came, wanted = tuple(start.shape), (V, R, *shape)
            raise bad("start", f"shape {came}", f"images like {wanted}") from None
    elif start not in STARTS:
        raise bad("start", repr(start), f"a tensor of images, or one of {', '.join(STARTS)}")
    elif R > 1 and start in ("half", "zeros") and not classes:
        raise bad("restarts", R, f'1, or start="uniform" or "normal": every {start!r} is the same')
    generator = torch.Generator().manual_seed(seed)
    x, u = [], []
    for r in range(R):
        drawn = given[:, r] if torch.is_tensor(start) else STARTS[start]((V, *shape), generator)
        x.append(drawn.to(like))
        u.append(torch.randn(V, shape[0], classes, generator=generator).to(like))
    x, u = (torch.stack(drawn, 1).flatten(0, 1) for drawn in (x, u))  # (V R, …)
    return (x, u) if classes else x


def _images_and_labels(z: solvers.Points, given: dict[str, Tensors]) -> tuple[Tensor, Tensor]:
    """x' and the probabilities of y': those of u' where the labels are searched too."""
    return (z[0], z[1].softmax(-1)) if isinstance(z, tuple) else (z, given["q"]["q"])


def _objective(
    evaluate: Callable[[solvers.Points, dict[str, Tensors]], Tensor],
    given: dict[str, Tensors],
    R: int,
) -> solvers.Objective:
    """`evaluate(z, rows)` with the rows of `given` that each problem reads, R to a victim."""
    rows: dict = {}

    def objective(z: solvers.Points, index: Tensor) -> Tensor:
        # the same index object comes back until a problem leaves: slice the weights only then
        if rows.get("index") is not index:
            mine = {k: {n: t[index // R] for n, t in v.items()} for k, v in given.items()}
            rows.update(index=index, given=mine)
        return evaluate(z, rows["given"])

    return objective


def _chained(layers: dict[str, nn.Module], z: solvers.Points, given: dict[str, Tensors]) -> Tensor:
    """l2 between the guesses and what was sent, of a network that is a chain."""
    x, q = _images_and_labels(z, given)
    return _chain.distance(layers, given["W"], given["h"], x, q)


def _batched(problem: Callable) -> Callable[[solvers.Points, dict[str, Tensors]], Tensor]:
    """`problem(z, given)` of one problem as a function of many.

    By vmap; what it cannot batch is evaluated in a loop, which is said once.
    """
    loop = False

    def evaluate(z: solvers.Points, given: dict[str, Tensors]) -> Tensor:
        nonlocal loop
        P = len(z[0]) if isinstance(z, tuple) else len(z)
        if P > 1 and not loop:
            try:
                return vmap(problem)(z, given)
            except RuntimeError as error:
                loop = True
                warnings.warn(
                    f"this network cannot be batched by vmap, so its problems run one after "
                    f"another ({str(error).splitlines()[0]})",
                    stacklevel=2,
                )
        one = lambda i: {k: {n: t[i] for n, t in v.items()} for k, v in given.items()}  # noqa: E731
        at = lambda i: tuple(part[i] for part in z) if isinstance(z, tuple) else z[i]  # noqa: E731
        return torch.stack([problem(at(i), one(i)) for i in range(P)])

    return evaluate
