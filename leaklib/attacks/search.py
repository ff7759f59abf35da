"""The search that runs an `Attack`: all problems of a leak at once, V victims times R restarts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot

from .. import distances, random
from .._batching import batched, each, first
from .._errors import bad, require
from ..chain import gradients
from ..client import check_leak, gradient, logits_shape
from ..leak import Leak, Tensors, as_stack
from ..solvers import Objective
from .predict import single_step

if TYPE_CHECKING:
    from .attack import Attack

CONVERGED = 1e-7
"""An attack has converged when its distance is this small against that of a zero gradient, or of
`GREY` grey images where that is less: to some networks any image would look matched."""
STOP = 1e-9  # a problem stops when its objective is this small against the same
GREY = 1e3
KINDS = ("gradient", "weights")
STARTS: dict[str, Callable[..., Tensor]] = {
    "half": lambda size, generator: torch.full(size, 0.5),
    "zeros": lambda size, generator: torch.zeros(size),
    "uniform": lambda size, generator: torch.rand(size, generator=generator),
    "normal": lambda size, generator: torch.randn(size, generator=generator),
}


class Reconstruction(NamedTuple):
    """What an attack returns for V victims with B images each.

    unknowns {name: (V,) or (V, n)} is what else was searched for, such as "k" of `attacks.dlm`, and
    unknown_snapshots {name: {evaluations: the same}} where it stood.
    """

    images: Tensor  # (V, B, C, H, W) the best iterate by objective; pixels are not clamped
    labels: Tensor  # (V, B) class numbers, -1 where the rule could not tell
    objective: Tensor  # (V,) the objective of those images
    converged: Tensor  # (V,) see `CONVERGED`; a wrong image can match what a `defend` leaves
    trace: Tensor  # (V, T) at each evaluation of the restart kept, NaN once it has ended
    evaluations: Tensor  # (V,) evaluations spent, all restarts together
    snapshots: dict[int, Tensor]  # the kept restart after 1, 2, 5, 10, …: (V, B, C, H, W)
    unknowns: Mapping[str, Tensor] = MappingProxyType({})
    unknown_snapshots: Mapping[str, dict[int, Tensor]] = MappingProxyType({})


class Problem(NamedTuple):
    """What one problem reads, or P of them, stacked: its leak with its direction h, and the labels'
    probabilities q (B, classes), (B, 0) where they are searched."""

    W: Tensors
    buffers: Tensors
    update: Tensors
    h: Tensors
    q: Tensor


Point = tuple[Tensor, ...]  # what is searched: x', the logits of y' unless given, the unknowns c
Guess = tuple[Tensor, Tensor, Tensors]  # x', the probabilities of y', and {name: (n,)} of c
Evaluate = Callable[[Point, Problem], Tensor]


def match(
    attack: "Attack", model: nn.Module, leak: Leak, shape: Sequence[int], seed: int, progress: bool
) -> Reconstruction:
    """The images x', labels y' and other unknowns c that minimise the attack's sentence."""
    classes = check(model, leak, shape, attack.reads)
    leaks = as_stack(leak)
    h, like = leaks.direction, first(leaks.update)
    V, R = len(like), attack.restarts
    labels = labels_of(attack, model, leak, V, classes)
    x, u = first_points(attack, V, shape, like, seed, classes, labels is None)
    c = {n: begin.repeat_interleave(R, 0) for n, begin in first_unknowns(attack, leaks, x).items()}
    q = x.new_zeros(V, shape[0], 0)
    if labels is not None:
        q = one_hot(labels.clamp(min=0), classes).to(x)  # class 0 stands in for -1
    problems = Problem(leaks.weights, leaks.buffers, leaks.update, h, q)  # (V, …)

    def read(z: Point, problem: Problem) -> Guess:
        x, *rest = z
        q = rest.pop(0).softmax(-1) if labels is None else problem.q
        return x, q, dict(zip(c, rest))

    gap, agree = distances_of(attack, model, leak, shape, read)
    objective = gap
    if attack.prior is not None:
        penalty = batched(attack.prior)
        objective = lambda z, problem: gap(z, problem) + penalty(z[0])  # noqa: E731
    # (V,) the distance of a zero gradient, against which others are small or not
    scale = batched(attack.measure or attack.distance)(each(torch.zeros_like, h), h)
    if labels is not None:
        # fmin, for a network that overflows at grey says nothing of its scale
        grey = (torch.full_like(x[::R], 0.5), *(begin[::R] for begin in c.values()))
        with torch.no_grad():
            scale = scale.fmin(GREY * agree(grey, problems))
    # with a prior the objective has no known floor, so that nothing says when it is reached
    known = attack.prior is None and attack.measure is None
    floor = STOP * scale if known else torch.full_like(scale, -math.inf)
    found = attack.solver(
        of_victims(objective, problems, R),
        (x, *([u] if labels is None else []), *c.values()),
        steps=attack.steps, tolerance=floor.repeat_interleave(R), progress=progress,
    )  # fmt: skip

    kept = torch.arange(V, device=x.device) * R + found.value.reshape(V, R).argmin(1)  # (V,)
    best = each(lambda t: t[kept], found.z)
    images, q, c_best = read(best, problems)
    stood = {n: read(each(lambda t: t[kept], z), problems) for n, z in found.snapshots.items()}
    with torch.no_grad():
        converged = agree(best, problems) < CONVERGED * scale
    if labels is None:
        labels = q.argmax(-1)
        if attack.scale_free:
            # p - y' = s (p - y) fits for every s > 0: only where y' lies from p is known
            forward = batched(lambda W, buffers, x: functional_call(model, (W, buffers), (x,)))
            p = forward(problems.W, problems.buffers, images).softmax(-1)  # (V, B, classes)
            labels = (q - p).argmax(-1)
    else:
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


def check(model: nn.Module, leak: Leak, shape: Sequence[int], kinds: Sequence[str] = KINDS) -> int:
    """Number of classes of the model, once leak and shape fit it."""
    check_leak(model, leak)
    named = {"gradient": "a gradient", "weights": "weights, as client.share_weights sends them"}
    wanted = " or ".join(named[kind] for kind in kinds)
    require(leak.kind in kinds, "leak", named[leak.kind], wanted)
    is_shape = len(shape) > 1 and min(shape) > 0
    require(is_shape, "shape", tuple(shape), "(B, C, H, W) with every number positive")
    B = leak.batch_size
    require(shape[0] == B, "shape", f"a batch of {shape[0]}", f"the leak's batch size {B}")
    return logits_shape(model, shape, like=first(leak.weights))[-1]


def labels_of(
    attack: "Attack", model: nn.Module, leak: Leak, V: int, classes: int
) -> Tensor | None:
    """The class numbers (V, B) that are given or read; None where they are searched."""
    if isinstance(attack.labels, str):
        return None
    given: Any = attack.labels
    given = given(leak, model, None) if callable(given) and not torch.is_tensor(given) else given
    try:
        labels = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise bad("labels", repr(given), "class numbers, torch.int64") from None
    require(labels.dtype == torch.int64, "labels", labels.dtype, "class numbers, torch.int64")
    try:
        labels = labels.expand(V, leak.batch_size)
    except RuntimeError:
        raise bad("labels", f"shape {tuple(labels.shape)}", f"({V}, {leak.batch_size})") from None
    low, high = int(labels.min()), int(labels.max())
    require(-1 <= low <= high < classes, "labels", f"{low} to {high}", f"0..{classes - 1}, or -1")
    is_one = isinstance(attack.start, str) and attack.start in ("half", "zeros")
    if is_one and (labels.sort(1).values.diff(dim=1) == 0).any():
        came = f"{attack.start!r} for images of one batch with one label, which would stay alike"
        raise bad("start", came, '"uniform", "normal", or images that differ')
    return labels.to(first(leak.weights).device)


def first_points(
    attack: "Attack", V: int, shape: Sequence[int], like: Tensor, seed: int, classes: int,
    joint: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The first images (V R, B, C, H, W), and the logits u' ~ N(0, 1) of joint labels (V R, B, C).

    Restart after restart, so that more restarts begin with those that fewer have.
    """
    start, R = attack.start, attack.restarts
    images, logits = (random.generator(seed, purpose) for purpose in ("start", "joint labels"))
    if torch.is_tensor(start):
        try:
            x = start.to(like).expand(V, R, *shape)
        except RuntimeError:
            wanted = f"images like {(V, R, *shape)}"
            raise bad("start", f"shape {tuple(start.shape)}", wanted) from None
    elif R > 1 and start in ("half", "zeros") and not joint:
        raise bad("restarts", R, f'1, or start="uniform" or "normal": every {start!r} is the same')
    else:
        x = torch.stack([STARTS[start]((V, *shape), images).to(like) for _ in range(R)], 1)
    u = [torch.randn(V, shape[0], classes, generator=logits).to(like) for _ in range(R)]
    return x.flatten(0, 1), torch.stack(u, 1).flatten(0, 1)  # (V, R, …) -> (V R, …)


def first_unknowns(attack: "Attack", leaks: Leak, like: Tensor) -> Tensors:
    """Where each of the other unknowns begins, {name: (V, n)}."""
    begins = attack.searched.items()
    firsts = {n: begin(leaks) if callable(begin) else begin for n, begin in begins}
    firsts = {n: torch.as_tensor(first).to(like) for n, first in firsts.items()}
    return {n: t if t.ndim else t.expand(leaks.victims or 1, 1) for n, t in firsts.items()}


def distances_of(
    attack: "Attack", model: nn.Module, leak: Leak, shape: Sequence[int],
    read: Callable[[Point, Problem], Guess],
) -> tuple[Evaluate, Evaluate]:  # fmt: skip
    """evaluate(z, problems) -> (P,): the attack's distance, and the one that says `converged`."""
    g, names = gradient(model), list(leak.update)
    layers = gradients.layers(model, names, shape) if attack.predict is single_step else None

    def leak_of(p: Problem) -> Leak:
        return replace(leak, weights=p.W, buffers=p.buffers, update=p.update, victims=None)

    def by(distance: distances.Distance) -> Evaluate:
        def apart(G: Tensors, problem: Problem, c: Tensors) -> Tensor:
            if attack.defend is not None:
                G = attack.defend(G, leak_of(problem))
            return distance(G, problem.h if attack.sent is None else attack.sent(problem.h, c))

        def one(z: Point, problem: Problem) -> Tensor:
            x, q, c = read(z, problem)
            return apart(attack.predict(g, leak_of(problem), x, q, c), problem, c)

        if (chain := layers) is None:
            return batched(one)
        of_each = batched(apart)
        is_squared = distance is distances.l2 and attack.defend is None and attack.sent is None

        def chained(z: Point, problems: Problem) -> Tensor:
            x, q, c = read(z, problems)
            apart = lambda G, *values: of_each(G, problems, dict(zip(c, values)))  # noqa: E731
            compare = gradients.squared(problems.h) if is_squared else gradients.by_autograd(apart)
            return gradients.value(chain, problems.W, x, q, compare, tuple(c.values()))

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
