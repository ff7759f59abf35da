"""The steps of L-BFGS and of Adam, taken by all problems of a run together."""

from collections.abc import Callable

import torch
from torch import Tensor

from .history import Pairs
from .run import Run, Solution


def adam_steps(
    run: Run,
    rate: Callable[[int], float],
    betas: tuple[float, float],
    eps: float,
    seen: Callable[[Tensor], Tensor] = lambda g: g,
    project: Callable[[Tensor], Tensor] = lambda x: x,
) -> Solution:
    """Adam with the learning rate `rate(t)`, of the gradient as `seen`, inside what it projects to.

    All problems step together; t counts from 1.
    """
    x = project(run.start)
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    while run.goes_on():
        f, g = run.evaluate(x)
        stay = run.leave(run.solved(f) | ~f.isfinite())
        x, g, m, v = x[stay], seen(g[stay]), m[stay], v[stay]
        t = run.count
        # m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g.square()
        # z <- z - lr m^ / (sqrt(v^) + eps),  m^ = m / (1 - b1^t),  v^ = v / (1 - b2^t)
        x = x - rate(t) * (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + eps)
        x = project(x)
    return run.solution()


def lbfgs_steps(run: Run, history: int, safeguard: bool) -> Solution:
    """L-BFGS with so many pairs, its steps tested one by one with `safeguard`, else as torch's."""
    x, pairs = run.start, Pairs(run.start, min(history, run.steps))  # (A, n)
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
