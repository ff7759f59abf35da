"""Minimise hundreds of unrelated problems at once.

`objective(z, index)` gives the values (A,) of the problems numbered `index` (A,) at z (A, ...);
problem p only reads z[p], so one backward pass gives every problem its own gradient.  z is a tensor
or a tuple of tensors, such as images and labels.  A problem that is solved, stuck or dead leaves
the batch and costs nothing from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .._errors import bad
from . import frequencies
from .history import Pairs

Points = Tensor | tuple[Tensor, ...]
Objective = Callable[[Points, Tensor], Tensor]


class Solution(NamedTuple):
    """What a solver returns for P problems.

    z           (P, ...) the best iterate of each problem by its objective, always finite; what
                the start was, a tensor or a tuple
    value       (P,) the objective there
    trace       (P, T) the objective at each evaluation, NaN once a problem has left
    evaluations (P,) how often each problem's objective was evaluated
    snapshots   {number of evaluations: (P, ...) where every problem stood then}, at 1, 2, 5, 10, …
    """

    z: Points
    value: Tensor
    trace: Tensor
    evaluations: Tensor
    snapshots: dict[int, Points]


def lbfgs(
    objective: Objective,
    z: Points,
    *,
    steps: int = 2000,
    tolerance: Tensor | float = 0.0,
    history: int = 100,
    whiten: bool = True,
    progress: bool = False,
) -> Solution:
    """L-BFGS with each problem's step safeguarded; pictures are searched by their frequencies.

    A step z + t d must pass Armijo's test, f(z + t d) <= f(z) + 1e-4 t <grad f, d>; else t shrinks,
    for this problem only.  z (P, ...) are the starts; `steps` bounds the evaluations of a problem.
    A problem leaves when its value is at most `tolerance` (a number, or one for each problem), when
    its gradient vanishes (below 1e-7 everywhere, or 1e-7 of the first where that was below 1), or
    when no step helps any more.

    whiten: a z of shape (P, B, C, H, W) holds pictures, and the search is for the v in
    x = start + T' diag(s) v, T the discrete cosine transform.  s^4 is the spectrum of what has to
    be found: of pictures, 1 / (1 + |f|^2) at the frequency f and 0.09 of it for the differences of
    three colours, plus that of the start's own noise.  So s is half way to white, and the few
    coefficients that carry most of a picture are found first.  From a grey start it takes about
    half the evaluations.  The minima, and their values, are those of `objective`.
    Source: Nocedal & Wright 2006, Algorithms 7.4 and 3.1; Field 1987 (the spectrum of pictures).
    """
    minimise = lambda f, z: _lbfgs(f, z, steps, tolerance, history, True, progress)  # noqa: E731
    return _in_frequencies(minimise, objective, z) if whiten else minimise(objective, z)


def lbfgs_torch(
    objective: Objective,
    z: Points,
    *,
    steps: int = 2000,
    tolerance: Tensor | float = 0.0,
    history: int = 100,
    progress: bool = False,
) -> Solution:
    """`torch.optim.LBFGS(lr=1)` as the papers use it, followed problem by problem: no safeguard.

    z <- z - H grad f, whatever the objective then does.  One step is one inner iteration of torch,
    so the papers' 300 calls of 20 iterations are 6,000 steps.  A problem leaves at its tolerance,
    at torch's own thresholds (gradient 1e-7, slope 1e-9), and when its objective is not finite.
    Source: torch.optim.LBFGS; Zhu et al. 2019, code.
    """
    return _lbfgs(objective, z, steps, tolerance, history, False, progress)


def adam(
    objective: Objective,
    z: Points,
    *,
    steps: int = 2000,
    tolerance: Tensor | float = 0.0,
    lr: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    progress: bool = False,
) -> Solution:
    """Adam on every problem; a problem leaves at `tolerance` or when it is no longer finite.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  z <- z - lr m^ / (sqrt(v^) + eps).
    Source: Kingma & Ba 2015, Algorithm 1.
    """
    run = _Run(objective, z, steps, tolerance, progress)
    return _adam(run, lambda t: lr, betas, eps)


def sign_adam(
    objective: Objective,
    z: Points,
    *,
    steps: int = 2000,
    tolerance: Tensor | float = 0.0,
    lr: float = 0.1,
    box: tuple[float, float] | None = (0.0, 1.0),
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    progress: bool = False,
) -> Solution:
    """Adam that is told only the sign of each derivative, and keeps pictures inside a box.

    g <- sign(grad f), then z <- z - lr m^ / (sqrt(v^) + eps) as in `adam`, then, of pictures,
    x <- min(max(x, low), high).  The learning rate is divided by ten after 3/8, 5/8 and 7/8 of the
    steps.  Parts of z with shape (P, B, C, H, W) are pictures; their start is moved into the box
    too, and box=None leaves them free.  Raises ValueError unless lr > 0 and low < high.
    Source: Geiping et al. 2020; published code, with 4,800 or 24,000 steps.
    """
    if not lr > 0:
        raise bad("lr", lr, "a positive number")
    if box is not None and not box[0] < box[1]:
        raise bad("box", box, "(low, high) with low < high, or None")
    run = _Run(objective, z, steps, tolerance, progress)
    drops = [steps * eighths // 8 for eighths in (3, 5, 7)]
    rate = lambda t: lr * 0.1 ** sum(t > drop for drop in drops)  # noqa: E731
    project = lambda x: x  # noqa: E731
    if box is not None:
        everywhere = run.start.new_tensor([[-torch.inf], [torch.inf]])
        low, high = torch.where(run.pictures(), run.start.new_tensor(box)[:, None], everywhere)
        project = lambda x: x.clamp(low, high)  # noqa: E731
    return _adam(run, rate, betas, eps, told=torch.sign, project=project)


def _adam(run, rate, betas, eps, told=lambda g: g, project=lambda x: x) -> Solution:
    x = project(run.start)
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    while run.goes_on():
        f, g = run.evaluate(x)
        stay = run.leave(run.solved(f) | ~f.isfinite())
        x, g, m, v = x[stay], told(g[stay]), m[stay], v[stay]
        t = run.count
        # m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g.square()
        # z <- z - lr m^ / (sqrt(v^) + eps),  m^ = m / (1 - b1^t),  v^ = v / (1 - b2^t)
        x = x - rate(t) * (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + eps)
        x = project(x)
    return run.solution()


def _lbfgs(objective, z, steps, tolerance, history, safeguard, progress) -> Solution:
    run = _Run(objective, z, steps, tolerance, progress)
    x, pairs = run.start, Pairs(run.start, min(history, steps))
    f, g = run.evaluate(x)
    # torch's thresholds are absolute; a message with a tiny gradient is a problem like any other
    unit = g.abs().amax(-1).clamp(max=1) if safeguard else torch.ones_like(f)
    d, t = -g, _first_step(g, unit)
    stuck = ~f.isfinite()
    while True:
        slope = (g * d).sum(-1)
        flat = ~(g.abs().amax(-1) > 1e-7 * unit)
        if not safeguard:
            flat |= slope > -1e-9
        stay = run.leave(run.solved(f) | flat | stuck)
        if len(stay) < len(x):
            x, f, g, d, t, slope, unit = (a[stay] for a in (x, f, g, d, t, slope, unit))
            pairs.keep(stay)
        if not run.goes_on():
            return run.solution()

        # z + t d
        s = t[:, None] * d
        f_new, g_new = run.evaluate(x + s)
        if safeguard:
            # f(z + t d) <= f(z) + 1e-4 t <grad f, d>
            ok = f_new <= f + 1e-4 * t * slope
        else:
            ok = torch.ones_like(f, dtype=torch.bool)
        # without positive curvature -H grad f would not lead downhill
        y = g_new - g
        scale = s.norm(dim=-1) * y.norm(dim=-1) if safeguard else 1
        d_new = pairs.direction(s, y, ok & ((s * y).sum(-1) > 1e-10 * scale), g_new)
        # a refused step shrinks to the minimum of the parabola through f, slope and f_new
        parabola = -slope * t.square() / (2 * (f_new - f - t * slope))
        shrunk = parabola.nan_to_num(0.0).clamp(t / 10, t / 2)
        t = torch.where(ok, 1.0, shrunk)
        f = torch.where(ok, f_new, f)
        x, g, d = (
            torch.where(ok[:, None], new, old) for new, old in ((x + s, x), (g_new, g), (d_new, d))
        )
        stuck = ~f.isfinite()
        if safeguard:
            # no step helps: forget the pairs and go downhill; leave when that does not help either
            lost = ((g * d).sum(-1) >= 0) | (t * d.abs().amax(-1) < 1e-9)
            stuck |= lost & (pairs.pushed == 0)
            lost &= pairs.pushed > 0
            if lost.any():
                pairs.forget(lost)
            d = torch.where(lost[:, None], -g, d)
            t = torch.where(lost, _first_step(g, unit), t)


def _first_step(g: Tensor, unit: Tensor) -> Tensor:
    """min(1 / unit, 1 / ||g||_1) along -g; with unit = 1 the first step of torch.optim.LBFGS."""
    return torch.minimum(1 / g.abs().sum(-1), 1 / unit)


def _each(fn: Callable[..., Tensor], *points: Points) -> Points:
    """fn of the tensors, or of the tensors of the tuples place by place."""
    return tuple(map(fn, *points)) if isinstance(points[0], tuple) else fn(*points)


def _in_frequencies(minimise, objective: Objective, z: Points) -> Solution:
    """minimise(objective, z) in coordinates v, zero at z, in which pictures are nearly white."""
    is_picture = lambda part: part.ndim == 5  # noqa: E731
    scales = _each(lambda start: frequencies.scales(start) if is_picture(start) else start, z)

    def moved(start: Tensor, s: Tensor, v: Tensor) -> Tensor:
        return start + (frequencies.picture(s * v) if is_picture(v) else v)

    found = minimise(
        lambda v, i: objective(_each(lambda z, s, v: moved(z[i], s[i], v), z, scales, v), i),
        _each(torch.zeros_like, z),
    )
    snapshots = {count: _each(moved, z, scales, v) for count, v in found.snapshots.items()}
    return found._replace(z=_each(moved, z, scales, found.z), snapshots=snapshots)


class _Run:
    """The bookkeeping of a batch of problems: who is active, the best iterate, the trace."""

    def __init__(self, objective, z, steps, tolerance, progress):
        parts = z if isinstance(z, tuple) else (z,)
        P = len(parts[0])
        if P == 0:
            raise bad("z", "no problem", "z of shape (P, ...) with P > 0")
        if not steps > 0:
            raise bad("steps", steps, "a positive number")
        self.objective, self.like, self.steps = objective, z, steps
        self.start = torch.cat([part.detach().flatten(1) for part in parts], 1)  # (P, n)
        self.tolerance = torch.as_tensor(tolerance).to(self.start).expand(P)
        self.active = torch.arange(P, device=self.start.device)
        self.now, self.best = self.start.clone(), self.start.clone()
        self.value = self.start.new_full((P,), float("inf"))
        self.evaluations = torch.zeros_like(self.active)
        self.trace, self.snapshots, self.count = [], {}, 0
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
        """Take the problems marked `done` (A,) out of the batch; returns the rows that stay.

        The last ones move into the gaps, so that few rows of the history have to be moved.
        """
        count = int((~done).sum())
        rows = torch.arange(count, device=done.device)
        rows[done[:count]] = count + (~done[count:]).nonzero()[:, 0]
        if count < len(done):
            self.active = self.active[rows]
            self.bar.set_postfix(active=count)
        return rows

    def pictures(self) -> Tensor:
        """Which of a problem's numbers (n,) are pixels: those of parts (P, B, C, H, W)."""
        parts = self.like if isinstance(self.like, tuple) else (self.like,)
        sizes = torch.tensor([part[0].numel() for part in parts])
        inside = torch.tensor([part.ndim == 5 for part in parts])
        return inside.repeat_interleave(sizes).to(self.start.device)

    def goes_on(self) -> bool:
        return self.count < self.steps and len(self.active) > 0

    def solution(self) -> Solution:
        self.bar.close()
        return Solution(
            self._points(self.best),
            self.value,
            torch.stack(self.trace, dim=1),
            self.evaluations,
            {count: self._points(flat) for count, flat in self.snapshots.items()},
        )

    def _points(self, flat: Tensor) -> Points:
        """The rows (A, n) in the shapes of z, for A problems."""
        shaped = lambda flat, like: flat.reshape(len(flat), *like.shape[1:])  # noqa: E731
        if not isinstance(self.like, tuple):
            return shaped(flat, self.like)
        sizes = [like[0].numel() for like in self.like]
        return _each(shaped, flat.split(sizes, 1), self.like)

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
