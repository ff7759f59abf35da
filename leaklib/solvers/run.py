"""The bookkeeping of many problems at once, whatever steps they take."""

from collections.abc import Callable
from typing import NamedTuple

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
