"""The search that runs an `Attack`: all problems of a leak at once, V victims times R restarts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import _loss, _network, distances
from .._batching import batched, each, first
from .._errors import require
from ..chain import gradients
from ..client import gradient
from ..leak import Leak, Tensors, as_stack
from ..solvers import Objective
from .begin import check, first_points, first_unknowns, is_class_numbers, targets_of
from .predict import single_step

if TYPE_CHECKING:
    from .attack import Attack

CONVERGED = 1e-7
"""An attack has converged when its distance is this small against that of a zero gradient, or of
`GREY` grey images where that is less: to some networks any image would look matched."""
STOP = 1e-9  # a problem stops when its objective is this small against the same
GREY = 1e3


class Reconstruction(NamedTuple):
    """What an attack returns for V victims with B images each.

    unknowns {name: (V,) or (V, n)} is what else was searched for, such as "k" of `attacks.dlm`, and
    unknown_snapshots {name: {evaluations: the same}} where it stood.
    """

    images: Tensor  # (V, B, C, H, W) the best iterate by objective; pixels are not clamped
    labels: Tensor  # (V, B) class numbers, -1 where the rule could not tell; or (V, B, ...) targets
    objective: Tensor  # (V,) the objective of those images
    converged: Tensor  # (V,) see `CONVERGED`; a wrong image can match what a `defend` leaves
    trace: Tensor  # (V, T) at each evaluation of the restart kept, NaN once it has ended
    evaluations: Tensor  # (V,) evaluations spent, all restarts together
    snapshots: dict[int, Tensor]  # the kept restart after 1, 2, 5, 10, …: (V, B, C, H, W)
    unknowns: Mapping[str, Tensor] = MappingProxyType({})
    unknown_snapshots: Mapping[str, dict[int, Tensor]] = MappingProxyType({})


class Problem(NamedTuple):
    """What one problem reads, or P of them, stacked: its leak with its direction h, and targets y,
    of class numbers their probabilities (B, C), and (B, 0) where those are searched."""

    W: Tensors
    buffers: Tensors
    update: Tensors
    h: Tensors
    y: Tensor


Point = tuple[Tensor, ...]  # what is searched: x', the logits of y' unless given, the unknowns c
Guess = tuple[Tensor, Tensor, Tensors]  # x', y' as the loss takes it, and {name: (n,)} of c
Evaluate = Callable[[Point, Problem], Tensor]


def match(
    attack: "Attack", model: nn.Module, leak: Leak, shape: Sequence[int], seed: int, progress: bool
) -> Reconstruction:
    """The images x', labels y' and other unknowns c that minimise the attack's sentence."""
    output = check(attack, model, leak, shape)
    leaks = as_stack(leak)
    h, like = leaks.direction, first(leaks.update)
    V, R, classes = len(like), attack.restarts, output.shape[-1]
    labels, y = targets_of(attack, model, leak, V, output)
    x, u = first_points(attack, shape, like, seed, classes, y)
    c = {n: begin.repeat_interleave(R, 0) for n, begin in first_unknowns(attack, leaks, x).items()}
    others = (*([u] if labels is None else []), *c.values())
    problems = Problem(leaks.weights, leaks.buffers, leaks.update, h, y)  # (V, …)

    def read(z: Point, problem: Problem) -> Guess:
        x, *rest = z
        y = rest.pop(0).softmax(-1) if labels is None else problem.y
        return x, y, dict(zip(c, rest))

    gap, agree = distances_of(attack, model, leak, shape, read)
    objective = gap
    if attack.prior is not None:
        penalty = batched(attack.prior)
        objective = lambda z, problem: gap(z, problem) + penalty(z[0])  # noqa: E731
    # (V,) the distance of a zero gradient, against which others are small or not
    zero = batched(attack.measure or attack.distance)(each(torch.zeros_like, h), h)
    grey = torch.full_like(x[::R], 0.5)

    @torch.no_grad()
    def scale(*others: Tensor) -> Tensor:
        # fmin, for a network that overflows at grey says nothing of its scale
        return zero.fmin(GREY * agree((grey, *others), problems))

    # with a prior the objective has no known floor, so that nothing says when it is reached
    known = attack.prior is None and attack.measure is None
    small = zero if labels is None else scale(*(begin[::R] for begin in others))
    floor = STOP * small if known else torch.full_like(zero, -math.inf)
    found = attack.solver(
        of_victims(objective, problems, R), (x, *others),
        steps=attack.steps, tolerance=floor.repeat_interleave(R), progress=progress,
    )  # fmt: skip
    came = f"{attack.start!r}, from where no evaluation gave a number"
    require(found.value.isfinite().any(), "start", came, 'another, such as "uniform"')

    kept = torch.arange(V, device=x.device) * R + found.value.reshape(V, R).argmin(1)  # (V,)
    best = each(lambda t: t[kept], found.z)
    images, y, c_best = read(best, problems)
    stood = {n: read(each(lambda t: t[kept], z), problems) for n, z in found.snapshots.items()}
    with torch.no_grad():
        converged = agree(best, problems) < CONVERGED * scale(*best[1:])
    if labels is None:
        labels = y.argmax(-1)
        if attack.scale_free:
            # p - y' = s (p - y) fits for every s > 0: only where y' lies from p is known
            network = batched(_network.function(model))
            p = network(problems.W, problems.buffers, images).softmax(-1)  # (V, B, classes)
            labels = (y - p).argmax(-1)
    elif is_class_numbers(labels):
        converged &= (labels >= 0).all(1)
    flat = lambda value: value[:, 0] if value.shape[1] == 1 else value  # noqa: E731
    return Reconstruction(
        images, labels, found.value[kept], converged,
        trace=found.trace[kept],
        evaluations=found.evaluations.reshape(V, R).sum(1),
        snapshots={n: x for n, (x, _, _) in stood.items()},
        unknowns={name: flat(value) for name, value in c_best.items()},
        unknown_snapshots={name: {n: flat(s[2][name]) for n, s in stood.items()} for name in c},
    )  # fmt: skip


def distances_of(
    attack: "Attack", model: nn.Module, leak: Leak, shape: Sequence[int],
    read: Callable[[Point, Problem], Guess],
) -> tuple[Evaluate, Evaluate]:  # fmt: skip
    """evaluate(z, problems) -> (P,): the attack's distance, and the one that says `converged`."""
    g, names = gradient(model, attack.loss), list(leak.update)
    is_chain = attack.predict is single_step and _loss.is_cross_entropy(attack.loss)
    layers = gradients.layers(model, names, shape) if is_chain else None

    def leak_of(p: Problem) -> Leak:
        return replace(leak, weights=p.W, buffers=p.buffers, update=p.update, victims=None)

    def by(distance: distances.Distance) -> Evaluate:
        def apart(G: Tensors, problem: Problem, c: Tensors) -> Tensor:
            if attack.defend is not None:
                G = attack.defend(G, leak_of(problem))
            return distance(G, problem.h if attack.sent is None else attack.sent(problem.h, c))

        def one(z: Point, problem: Problem) -> Tensor:
            x, y, c = read(z, problem)
            return apart(attack.predict(g, leak_of(problem), x, y, c), problem, c)

        if (chain := layers) is None:
            return batched(one)
        of_each = batched(apart)
        is_squared = distance is distances.l2 and attack.defend is None and attack.sent is None

        def chained(z: Point, problems: Problem) -> Tensor:
            x, y, c = read(z, problems)
            apart = lambda G, *values: of_each(G, problems, dict(zip(c, values)))  # noqa: E731
            compare = gradients.squared(problems.h) if is_squared else gradients.by_autograd(apart)
            return gradients.value(chain, problems.W, x, y, compare, tuple(c.values()))

        return chained

    gap = by(attack.distance)
    return gap, gap if attack.measure is None else by(attack.measure)


def of_victims(evaluate: Evaluate, problems: Problem, R: int) -> Objective:
    """`evaluate(z, problems)` of the problems numbered `index`, R of them to a victim."""
    rows: dict = {}

    def objective(z: Any, index: Tensor) -> Tensor:
        # the same index object comes back until a problem leaves: slice the weights only then
        if rows.get("index") is not index:
            rows.update(index=index, problems=each(lambda t: t[index // R], problems))
        return evaluate(z, rows["problems"])

    return objective
