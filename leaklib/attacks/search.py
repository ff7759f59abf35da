"""What the attacks share: one search for all problems of a leak, and what it returns."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import one_hot

from .. import distances, solvers
from .._errors import bad
from ..chain import gradients
from ..client import check_leak, gradient, logits_shape
from ..leak import Leak, Tensors, stack

STARTS = {
    "half": lambda size, generator: torch.full(size, 0.5),
    "zeros": lambda size, generator: torch.zeros(size),
    "uniform": lambda size, generator: torch.rand(size, generator=generator),
    "normal": lambda size, generator: torch.randn(size, generator=generator),
}


CONVERGED = 1e-7
"""An attack has converged when its distance is this small against that of a zero gradient."""

STOP = 1e-9
"""A problem is solved, and stops, when its objective is this small against the same."""

GREY = 1e3
"""And against so many times the distance of a grey image, where that is less: some networks send
nearly the same message for every image, so that any image would look matched."""

Given = dict[str, Tensors]


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
    unknowns    {name: (V,)} what else was searched for: "k" of `attacks.dlm`, "alpha" of
                `attacks.surrogate`, or (V, n); and unknown_snapshots {name: {evaluations: (V,)}}
    """

    images: Tensor
    labels: Tensor
    objective: Tensor
    converged: Tensor
    trace: Tensor
    evaluations: Tensor
    snapshots: dict[int, Tensor]
    unknowns: Mapping[str, Tensor] = MappingProxyType({})
    unknown_snapshots: Mapping[str, dict[int, Tensor]] = MappingProxyType({})


def check(model: nn.Module, leak: Leak, shape: Sequence[int]) -> int:
    """Number of classes of the model, once leak and shape fit it."""
    check_leak(model, leak)
    if len(shape) < 2 or min(shape) < 1:
        raise bad("shape", tuple(shape), "(B, C, H, W) with every number positive")
    if shape[0] != leak.batch_size:
        raise bad("shape", f"a batch of {shape[0]}", f"the leak's batch size {leak.batch_size}")
    return logits_shape(model, shape, like=next(iter(leak.weights.values())))[-1]


def given_labels(labels: Tensor, V: int, B: int, classes: int) -> Tensor:
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        raise bad("labels", repr(labels), "class numbers, torch.int64") from None
    if labels.dtype != torch.int64:
        raise bad("labels", labels.dtype, "class numbers, torch.int64")
    try:
        labels = labels.expand(V, B)
    except RuntimeError:
        raise bad("labels", f"shape {tuple(labels.shape)}", f"({V}, {B})") from None
    if labels.min() < -1 or labels.max() >= classes:
        raise bad("labels", f"{labels.min()} to {labels.max()}", f"0..{classes - 1}, or -1")
    return labels


def check_apart(start: str | Tensor, labels: Tensor) -> None:
    """Raise ValueError for two images (V, B) that begin alike with one label: they stay alike."""
    repeated = (labels.sort(1).values.diff(dim=1) == 0).any()
    if repeated and not torch.is_tensor(start) and start in ("half", "zeros"):
        came = f"{start!r} for a batch in which a label occurs twice, so that images stay alike"
        raise bad("start", came, '"uniform", "normal", or images that differ')


def first_points(start, V, R, shape, like, seed, classes) -> tuple[Tensor, ...]:
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
    return (x, u) if classes else (x,)


def of_victims(
    evaluate: Callable[[solvers.Points, Given], Tensor], given: Given, R: int
) -> solvers.Objective:
    """`evaluate(z, rows)` with the rows of `given` that each problem reads, R to a victim."""
    rows: dict = {}

    def objective(z: solvers.Points, index: Tensor) -> Tensor:
        # the same index object comes back until a problem leaves: slice the weights only then
        if rows.get("index") is not index:
            rows.update(index=index, given=_each(lambda t: t[index // R], given))
        return evaluate(z, rows["given"])

    return objective


def batched(problem: Callable) -> Callable:
    """`problem(*args)` of one problem as a function of many: every tensor in args gains an axis.

    By vmap; what it cannot batch is evaluated in a loop, which is said once.
    """
    loop = False

    def evaluate(*args):
        nonlocal loop
        P = len(_first(args))
        if P > 1 and not loop:
            try:
                return vmap(problem)(*args)
            except RuntimeError as error:
                loop = True
                warnings.warn(
                    f"this network cannot be batched by vmap, so its problems run one after "
                    f"another ({str(error).splitlines()[0]})",
                    stacklevel=2,
                )
        return torch.stack([problem(*_each(lambda t: t[i], args)) for i in range(P)])  # noqa: B023

    return evaluate


def _each(fn: Callable[[Tensor], Tensor], tree):
    """fn of every tensor in tuples and dicts."""
    if isinstance(tree, dict):
        return {name: _each(fn, part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_each(fn, part) for part in tree)
    return fn(tree)


def _first(tree) -> Tensor:
    """The first tensor in tuples and dicts."""
    while not torch.is_tensor(tree):
        tree = next(iter(tree.values() if isinstance(tree, dict) else tree))
    return tree


def match(
    model: nn.Module,
    leak: Leak,
    shape: Sequence[int],
    *,
    distance: Callable[[Tensors, Tensors], Tensor],
    measure: Callable[[Tensors, Tensors], Tensor] | None = None,
    predict: Callable[..., Tensors] | None = None,
    sent: Callable[[Tensors, Tensors], Tensors] | None = None,
    unknowns: Mapping[str, float | Tensor] = MappingProxyType({}),
    scale_free: bool = False,
    labels: Tensor | None,
    start: str | Tensor,
    prior: Callable[[Tensor], Tensor] | None,
    defend: Callable[[Tensors, Leak], Tensors] | None,
    solver: Callable[..., solvers.Solution],
    steps: int,
    restarts: int,
    seed: int,
    progress: bool,
) -> Reconstruction:
    """The images x', labels y' where none are given, and numbers c, that give what was sent.

    min over x', y', c of  distance(defend(predict(g, given, x', y', c)), sent(h, c)) + prior(x').

    predict: None is g(W, x', y'), and sent: None is h; c {name: (n,)} starts at `unknowns`, each a
    number, n = 1, or a tensor (V, n).
    measure tells whether the two agree; None is `distance`, which then also says when a problem is
    solved.  scale_free: the size of a gradient is not matched.  The other arguments are those of
    `attacks.dlg`.
    """
    classes = check(model, leak, shape)
    leaks = leak if leak.victims is not None else stack([leak])
    V, R, h = leaks.victims, restarts, leaks.direction
    joint = labels is None
    told = lambda value: value[:, 0] if value.shape[1] == 1 else value  # noqa: E731
    x, *u = first_points(start, V, R, shape, next(iter(h.values())), seed, classes if joint else 0)
    firsts = (torch.as_tensor(first).to(x) for first in unknowns.values())
    c = [(f if f.ndim else f.expand(V, 1)).repeat_interleave(R, 0) for f in firsts]  # (V R, n)
    # what one problem reads: its own weights, message and labels; class 0 stands in for -1
    given = dict(W=leaks.weights, buffers=leaks.buffers, update=leaks.update, h=h, q={})
    if not joint:
        labels = given_labels(labels, V, shape[0], classes).to(x.device)
        check_apart(start, labels)
        given["q"] = {"q": one_hot(labels.clamp(min=0), classes).to(x)}

    read = _reader(joint, list(unknowns))
    layers = gradients.layers(model, h, shape) if predict is None else None
    predict = predict or (lambda g, given, x, q, c: g(given["W"], x, q, given["buffers"]))
    by = partial(_distances, gradient(model), read, layers, predict, sent, leak, defend)
    gaps = by(distance)
    agree = gaps if measure is None else by(measure)

    objective = gaps
    if prior is not None:
        penalties = batched(prior)
        objective = lambda z, given: gaps(z, given) + penalties(z[0])  # noqa: E731

    zero = {name: torch.zeros_like(tensor) for name, tensor in h.items()}
    scale = vmap(measure or distance)(zero, h)  # (V,)
    if not joint:
        # fmin, for a network that overflows at grey says nothing of its scale
        grey = (torch.full_like(x[:V], 0.5), *(first[::R] for first in c))
        with torch.no_grad():
            scale = scale.fmin(GREY * agree(grey, given))
    # with a prior the objective has no known floor, so that nothing says when it is reached
    known = prior is None and measure is None
    floor = STOP * scale if known else torch.full_like(scale, -math.inf)
    found = solver(
        of_victims(objective, given, R), (x, *u, *c),
        steps=steps, tolerance=floor.repeat_interleave(R), progress=progress,
    )  # fmt: skip

    kept = torch.arange(V, device=x.device) * R + found.value.reshape(V, R).argmin(1)
    best = _each(lambda t: t[kept], found.z)
    snapshots = {count: _each(lambda t: t[kept], z) for count, z in found.snapshots.items()}
    images, q, c = read(best, given)
    with torch.no_grad():
        converged = agree(best, given) < CONVERGED * scale
    if joint:
        labels = q.argmax(-1)
        if scale_free:
            # p - y' = s (p - y) fits for every s > 0: only where y' lies from p is known
            forward = batched(lambda W, buffers, x: functional_call(model, (W, buffers), (x,)))
            labels = (q - forward(leaks.weights, leaks.buffers, images).softmax(-1)).argmax(-1)
    else:
        converged &= (labels >= 0).all(1)
    return Reconstruction(
        images=images,
        labels=labels,
        objective=found.value[kept],
        converged=converged,
        trace=found.trace[kept],
        evaluations=found.evaluations.reshape(V, R).sum(1),
        snapshots={count: z[0] for count, z in snapshots.items()},
        unknowns={name: told(value) for name, value in c.items()},
        unknown_snapshots={
            name: {count: told(read(z, given)[2][name]) for count, z in snapshots.items()}
            for name in c
        },
    )


def _reader(joint: bool, names: Sequence[str]) -> Callable:
    """read(z, given) -> x', the probabilities of y', and the other unknowns {name: (..., 1)}."""

    def read(z: tuple[Tensor, ...], given: Given) -> tuple[Tensor, Tensor, Tensors]:
        x, *rest = z
        q = rest.pop(0).softmax(-1) if joint else given["q"]["q"]
        return x, q, dict(zip(names, rest))

    return read


def _distances(
    g: Callable[..., Tensors],
    read: Callable,
    layers: dict[str, nn.Module] | None,
    predict: Callable[..., Tensors],
    sent: Callable[[Tensors, Tensors], Tensors] | None,
    leak: Leak,
    defend: Callable[[Tensors, Leak], Tensors] | None,
    distance: Callable[[Tensors, Tensors], Tensor],
) -> Callable[[tuple[Tensor, ...], Given], Tensor]:
    """evaluate(z, given) -> distance(defend(predict(…)), sent(h, c)) of each problem (P,)."""
    plain = distance is distances.l2 and defend is None and sent is None

    def apart(guess: Tensors, given: Given, c: Tensors) -> Tensor:
        if defend is not None:
            seen = Leak(given["W"], given["update"], leak.kind, given["buffers"], leak.batch_size)
            guess = defend(guess, seen)
        return distance(guess, given["h"] if sent is None else sent(given["h"], c))

    def problem(z: tuple[Tensor, ...], given: Given) -> Tensor:
        x, q, c = read(z, given)
        return apart(predict(g, given, x, q, c), given, c)

    if layers is None:
        return batched(problem)
    every = batched(apart)

    def chained(z: tuple[Tensor, ...], given: Given) -> Tensor:
        x, q, c = read(z, given)
        how = gradients.squared(given["h"])
        if not plain:
            how = gradients.by_autograd(lambda G, *c_: every(G, given, dict(zip(c, c_))))
        return gradients.value(layers, given["W"], x, q, how, tuple(c.values()))

    return chained
