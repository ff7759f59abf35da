"""What the attacks share: their first points, and one objective for all problems of a leak."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap

from . import _chain, solvers
from ._errors import bad
from .client import Leak, Tensors, check_leak, logits_shape

STARTS = {
    "half": lambda size, generator: torch.full(size, 0.5),
    "zeros": lambda size, generator: torch.zeros(size),
    "uniform": lambda size, generator: torch.rand(size, generator=generator),
    "normal": lambda size, generator: torch.randn(size, generator=generator),
}


def check(model: nn.Module, leak: Leak, shape: Sequence[int]) -> int:
    """Number of classes of the model, once leak and shape fit it."""
    check_leak(model, leak)
    if len(shape) < 2 or min(shape) < 1:
        raise bad("shape", tuple(shape), "(B, C, H, W) with every number positive")
    if shape[0] != leak.batch_size:
        raise bad("shape", f"a batch of {shape[0]}", f"the leak's batch size {leak.batch_size}")
    return logits_shape(model, shape, like=next(iter(leak.weights.values())))[-1]


def given_labels(labels: Tensor, V: int, B: int, classes: int) -> Tensor:
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


def check_apart(start: str | Tensor, labels: Tensor) -> None:
    """Raise ValueError for two images (V, B) that begin alike with one label: they stay alike."""
    repeated = (labels.sort(1).values.diff(dim=1) == 0).any()
    if repeated and not torch.is_tensor(start) and start in ("half", "zeros"):
        came = f"{start!r} for a batch in which a label occurs twice, so that images stay alike"
        raise bad("start", came, '"uniform", "normal", or images that differ')


def first_points(start, V, R, shape, like, seed, classes) -> solvers.Points:
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


def images_and_labels(z: solvers.Points, given: dict[str, Tensors]) -> tuple[Tensor, Tensor]:
    """x' and the probabilities of y': those of u' where the labels are searched too."""
    return (z[0], z[1].softmax(-1)) if isinstance(z, tuple) else (z, given["q"]["q"])


def of_victims(
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


def chained(layers: dict[str, nn.Module], z: solvers.Points, given: dict[str, Tensors]) -> Tensor:
    """l2 between the guesses and what was sent, of a network that is a chain."""
    x, q = images_and_labels(z, given)
    return _chain.distance(layers, given["W"], given["h"], x, q)


def batched(problem: Callable) -> Callable[[solvers.Points, dict[str, Tensors]], Tensor]:
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
