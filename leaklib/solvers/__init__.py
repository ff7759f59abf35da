"""Minimise hundreds of unrelated problems at once.

`solver(objective, z, steps=2000, tolerance=0.0, progress=False) -> Solution`, where
`objective(z, index)` gives the values (A,) of the problems numbered `index` (A,) at z (A, ...), a
tensor or a tuple of them.  Problem p only reads z[p], so one backward pass gives each its gradient.
It leaves after so many `steps` (evaluations), at its `tolerance`, and when it is not finite.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._errors import positive, require
from .._words import Word
from .frequencies import in_frequencies
from .history import Pairs
from .run import Objective, Points, Run, Solution

__all__ = ["lbfgs", "lbfgs_torch", "adam", "sign_adam", "Solution", "Points", "Objective"]


class Solver(Word):
    """The base of the solvers, which say what happens in a `Run`."""

    def act(
        self, objective: Objective, z: Points,
        *, steps: int = 2000, tolerance: Tensor | float = 0.0, progress: bool = False,
    ) -> Solution:  # fmt: skip
        return self.minimise(Run(objective, z, steps, tolerance, progress))

    minimise: Callable[[Run], Solution]  # evaluates until the run is over


@dataclass(frozen=True, repr=False)
class TorchLBFGS(Solver):
    """`torch.optim.LBFGS(lr=1)` as the papers use it, followed problem by problem: no safeguard.

    z <- z - H grad f, whatever the objective then does.  The papers' 300 calls of 20 iterations are
    6,000 steps.  A problem leaves at torch's thresholds too.  history: how many pairs H is made of.

    >>> away = lambda z, index: (z - 1).square().sum(-1)
    >>> lbfgs_torch(away, torch.zeros(2, 3), steps=50).z.round(decimals=3)[0]
    tensor([1., 1., 1.])
    """

    history: int = 100
    safeguard = False
    called = "lbfgs_torch"

    def minimise(self, run: Run) -> Solution:
        x, pairs = run.start, Pairs(run.start, min(self.history, run.steps))  # (A, n)
        f, g = run.evaluate(x)
        # torch's thresholds are absolute; but a message may have a tiny gradient
        unit = g.abs().amax(-1).clamp(max=1) if self.safeguard else torch.ones_like(f)
        d, t = -g, _first_step(g, unit)
        stuck = ~f.isfinite()
        while True:
            slope = (g * d).sum(-1)
            flat = ~(g.abs().amax(-1) > 1e-7 * unit)
            if not self.safeguard:
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
            if self.safeguard:
                # f(z + t d) <= f(z) + 1e-4 t <grad f, d>
                ok = f_new <= f + 1e-4 * t * slope
            else:
                ok = torch.ones_like(f, dtype=torch.bool)
            # without positive curvature -H grad f would not lead downhill
            y = g_new - g
            scale = s.norm(dim=-1) * y.norm(dim=-1) if self.safeguard else 1
            d_new = pairs.direction(s, y, ok & ((s * y).sum(-1) > 1e-10 * scale), g_new)
            # a refused step shrinks to the minimum of the parabola through f, slope and f_new
            parabola = -slope * t.square() / (2 * (f_new - f - t * slope))
            shrunk = parabola.nan_to_num(0.0).clamp(t / 10, t / 2)
            t = torch.where(ok, 1.0, shrunk)
            f = torch.where(ok, f_new, f)
            x, g, d = (
                torch.where(ok[:, None], new, old)
                for new, old in ((x + s, x), (g_new, g), (d_new, d))
            )
            stuck = ~f.isfinite()
            if self.safeguard:
                # no step helps: forget the pairs and go downhill; leave when that does not help
                lost = ((g * d).sum(-1) >= 0) | (t * d.abs().amax(-1) < 1e-9)
                stuck |= lost & (pairs.pushed == 0)
                lost &= pairs.pushed > 0
                if lost.any():
                    pairs.forget(lost)
                d = torch.where(lost[:, None], -g, d)
                t = torch.where(lost, _first_step(g, unit), t)


@dataclass(frozen=True, repr=False)
class LBFGS(TorchLBFGS):
    """L-BFGS with each problem's step safeguarded; pictures are searched by their frequencies.

    A step z + t d must pass Armijo's test, f(z + t d) <= f(z) + 1e-4 t <grad f, d>; else t shrinks,
    for this problem only.  A problem also leaves when its gradient vanishes (below 1e-7 everywhere,
    or 1e-7 of the first where that was below 1), or when no step helps any more.
    history: as in `lbfgs_torch`.
    whiten: a z of shape (P, B, C, H, W) holds pictures, and the search is for the v in
    x = start + T' diag(s) v, T the discrete cosine transform.  s^4 is the spectrum of what has to
    be found: of pictures, 1 / (1 + |f|^2) at the frequency f and 0.09 of it for the differences of
    three colours, plus that of the start's own noise.  From a grey start it halves the evaluations.
    Source: Nocedal & Wright 2006, Algorithms 7.4 and 3.1; Field 1987 (the spectrum of pictures).

    >>> away = lambda z, index: (z - 1).square().sum(-1)
    >>> lbfgs(away, torch.zeros(2, 3), steps=50).z.round(decimals=3)[0]
    tensor([1., 1., 1.])
    """

    whiten: bool = True
    safeguard = True
    called = "lbfgs"

    def act(self, objective: Objective, z: Points, **given: Any) -> Solution:
        if not self.whiten:
            return super().act(objective, z, **given)
        return in_frequencies(super().act, objective, z, **given)


@dataclass(frozen=True, repr=False)
class Adam(Solver):
    """Adam on every problem.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  z <- z - lr m^ / (sqrt(v^) + eps)

    lr > 0 (ValueError otherwise); betas (b1, b2).  Source: Kingma & Ba 2015, Algorithm 1.

    >>> away = lambda z, index: (z - 1).square().sum(-1)
    >>> adam(away, torch.zeros(2, 3), steps=500).z.round(decimals=3)[0]
    tensor([1., 1., 1.])
    """

    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    called = "adam"

    def __post_init__(self) -> None:
        positive("lr", self.lr, "a learning rate")

    def minimise(self, run: Run) -> Solution:
        x = self.inside(run.start, run)
        m, v = torch.zeros_like(x), torch.zeros_like(x)
        b1, b2 = self.betas
        while run.goes_on():
            f, g = run.evaluate(x)
            stay = run.leave(run.solved(f) | ~f.isfinite())
            x, g, m, v = x[stay], self.seen(g[stay]), m[stay], v[stay]
            t = run.count
            # m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g.square()
            # z <- z - lr m^ / (sqrt(v^) + eps),  m^ = m / (1 - b1^t),  v^ = v / (1 - b2^t)
            step = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + self.eps)
            x = self.inside(x - self.rate(t, run.steps) * step, run)
        return run.solution()

    def rate(self, t: int, steps: int) -> float:
        return self.lr

    def seen(self, g: Tensor) -> Tensor:
        return g

    def inside(self, x: Tensor, run: Run) -> Tensor:
        return x


@dataclass(frozen=True, repr=False)
class SignAdam(Adam):
    """Adam that is told only the sign of each derivative, and keeps pictures inside a box.

    g <- sign(grad f), then as in `adam`, then, of pictures, x <- min(max(x, low), high).  The
    learning rate is divided by ten after 3/8, 5/8 and 7/8 of the steps.

    box: (low, high) for parts of z with shape (P, B, C, H, W), which are pictures, and for their
    start; None leaves them free.  Raises ValueError unless low < high.
    Source: Geiping et al. 2020; published code, with 4,800 or 24,000 steps.

    >>> away = lambda z, index: (z - 1).square().sum(-1)
    >>> sign_adam(away, torch.zeros(2, 3), steps=500).z.round(decimals=2)[0]
    tensor([1., 1., 1.])
    """

    box: tuple[float, float] | None = (0.0, 1.0)
    called = "sign_adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        right = self.box is None or self.box[0] < self.box[1]
        require(right, "box", self.box, "(low, high) with low < high, or None")

    def rate(self, t: int, steps: int) -> float:
        return self.lr * 0.1 ** sum(t > steps * eighths // 8 for eighths in (3, 5, 7))

    def seen(self, g: Tensor) -> Tensor:
        return g.sign()

    def inside(self, x: Tensor, run: Run) -> Tensor:
        return x if self.box is None else torch.where(run.pictures, x.clamp(*self.box), x)


def _first_step(g: Tensor, unit: Tensor) -> Tensor:
    """min(1 / unit, 1 / ||g||_1) along -g; with unit = 1 the first step of torch.optim.LBFGS."""
    return torch.minimum(1 / g.abs().sum(-1), 1 / unit)


lbfgs = LBFGS()
lbfgs_torch = TorchLBFGS()
adam = Adam()
sign_adam = SignAdam()
