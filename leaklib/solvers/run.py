"""The bookkeeping of many problems at once, whatever steps they take."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .._errors import positive, require

Points = Tensor | tuple[Tensor, ...]
Objective = Callable[[Points, Tensor], Tensor]


class Solution(NamedTuple):
    """What a solver returns for P problems."""

    z: Points  # (P, ...) the best iterate of each, always finite, in the form of the start
    value: Tensor  # (P,) the objective there
    trace: Tensor  # (P, T) the objective at each evaluation, NaN once a problem has left
    evaluations: Tensor  # (P,) how often each problem's objective was evaluated
    snapshots: dict[int, Points]  # where they stood after 1, 2, 5, 10, … evaluations, (P, ...)


class Run:
    """The bookkeeping of a batch of problems: who is active, the best iterate, the trace."""

    def __init__(
        self, objective: Objective, z: Points, steps: int, tolerance: Tensor | float, progress: bool
    ):
        parts = z if isinstance(z, tuple) else (z,)
        P = len(parts[0])
        require(P > 0, "z", "no problem", "z of shape (P, ...) with P > 0")
        positive("steps", steps)
        self.objective, self.like, self.steps = objective, z, steps
        self.start = torch.cat([part.detach().flatten(1) for part in parts], 1)  # (P, n)
        self.tolerance = torch.as_tensor(tolerance).to(self.start).expand(P)
        self.active = torch.arange(P, device=self.start.device)
        self.now, self.best = self.start.clone(), self.start.clone()
        self.value = self.start.new_full((P,), float("inf"))
        self.evaluations = torch.zeros_like(self.active)
        self.trace, self.snapshots, self.count = [], {}, 0
        self.sizes = [part[0].numel() for part in parts]
        is_pixel = [part.new_full(part[0].shape, part.ndim == 5).flatten() for part in parts]
        self.pictures = torch.cat(is_pixel).bool()  # (n,), of parts (P, B, C, H, W)
        self.bar = tqdm(total=steps, disable=not progress, desc=f"{P} problems")

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values (A,) and gradients (A, n) of the active problems at x (A, n)."""
        x = x.detach().requires_grad_()
        values = self.objective(self._points(x), self.active)
        (g,) = torch.autograd.grad(values.sum(), x)
        self._record(x.detach(), values.detach())
        return values.detach(), g

    def solved(self, values: Tensor) -> Tensor:
        return values <= self.tolerance[self.active]

    def leave(self, done: Tensor) -> Tensor:
        """Take those marked `done` (A,) out of the batch; returns the rows that stay, the last ones
        in the gaps, so that few rows of the history have to be moved."""
        count = int((~done).sum())
        rows = torch.arange(count, device=done.device)
        rows[done[:count]] = count + (~done[count:]).nonzero()[:, 0]
        if count < len(done):
            self.active = self.active[rows]
            self.bar.set_postfix(active=count)
        return rows

    def goes_on(self) -> bool:
        return self.count < self.steps and len(self.active) > 0

    def solution(self) -> Solution:
        self.bar.close()
        stood = {count: self._points(flat) for count, flat in self.snapshots.items()}
        trace = torch.stack(self.trace, dim=1)  # (P, T)
        return Solution(self._points(self.best), self.value, trace, self.evaluations, stood)

    def _points(self, flat: Tensor) -> Points:
        """The rows (A, n) in the shapes of z, for A problems."""
        shaped = lambda flat, like: flat.reshape(len(flat), *like.shape[1:])  # noqa: E731
        parts = flat.split(self.sizes, 1) if isinstance(self.like, tuple) else flat
        return on_parts(shaped, parts, self.like)

    def _record(self, x: Tensor, values: Tensor) -> None:
        self.count += 1
        self.evaluations[self.active] += 1
        self.now[self.active] = x
        row = torch.full_like(self.value, float("nan"))
        row[self.active] = values
        self.trace.append(row)
        better = values < self.value[self.active]
        self.best[self.active[better]] = x[better]
        self.value[self.active[better]] = values[better]
        if str(self.count).rstrip("0") in ("1", "2", "5"):
            self.snapshots[self.count] = self.now.clone()
        self.bar.update()


def on_parts(fn: Callable[..., Tensor], *points: Points) -> Points:
    """fn of the tensors, or of the tensors of the tuples place by place."""
    return tuple(map(fn, *points)) if isinstance(points[0], tuple) else fn(*points)


def in_frequencies(
    minimise: Callable[..., Solution], objective: Objective, z: Points, **settings: Any
) -> Solution:
    """minimise(objective, z) in coordinates v, zero at z, in which pictures are nearly white."""
    s = on_parts(lambda start: scales(start) if start.ndim == 5 else start, z)

    def moved(start: Tensor, s: Tensor, v: Tensor) -> Tensor:
        return start + (picture(s * v) if v.ndim == 5 else v)

    def of_coordinates(v: Points, index: Tensor) -> Tensor:
        return objective(on_parts(lambda z, s, v: moved(z[index], s[index], v), z, s, v), index)

    found = minimise(of_coordinates, on_parts(torch.zeros_like, z), **settings)
    snapshots = {count: on_parts(moved, z, s, v) for count, v in found.snapshots.items()}
    return found._replace(z=on_parts(moved, z, s, found.z), snapshots=snapshots)


def scales(start: Tensor) -> Tensor:
    """s (P, 1, C, H, W) for every frequency of the pictures that start at (P, B, C, H, W)."""
    C, H, W = start.shape[-3:]
    down, right = (torch.arange(n).to(start) for n in (H, W))
    brightness = torch.tensor([1.0] + [0.09 if C == 3 else 1.0] * (C - 1)).to(start)
    pictures = brightness[:, None, None] / (1 + down[:, None].square() + right.square())
    fine = (cosines(H, start) @ start @ cosines(W, start).mT)[..., H // 2 :, W // 2 :]
    noise = fine.square().mean((1, 2, 3, 4)).clamp(max=1e3) / 10  # (P,)
    return (pictures + noise[:, None, None, None, None]) ** 0.25


def picture(coefficients: Tensor) -> Tensor:
    """Pictures (P, B, C, H, W) from those of the cosines over height, width and three colours."""
    C, H, W = coefficients.shape[-3:]
    x = cosines(H, coefficients).mT @ coefficients @ cosines(W, coefficients)
    if C != 3:
        return x
    return (cosines(3, x).mT @ x.flatten(-2)).reshape(x.shape)  # (3, 3) @ (P, B, 3, H W)


def cosines(n: int, like: Tensor) -> Tensor:
    """The orthogonal matrix (n, n) of the discrete cosine transform; row f has frequency f."""
    return _cosines_once(n, like.dtype, like.device)


@cache
def _cosines_once(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    place = torch.arange(n, dtype=dtype, device=device)
    rows = (math.pi / n * place[:, None] * (place + 0.5)).cos() * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows
