"""Minimise hundreds of unrelated problems at once.

`solver(objective, z, steps=2000, tolerance=0.0, progress=False) -> Solution`, where
`objective(z, index)` gives the values (A,) of the problems numbered `index` (A,) at z (A, ...).
Problem p only reads z[p], so one backward pass gives every problem its own gradient.  z (P, ...) is
a tensor or a tuple of tensors, such as images and labels.  `steps` bounds the evaluations of a
problem; a problem that reaches its `tolerance` (a number, or one for each), or that no step helps
any more, leaves the batch and costs nothing from then on.

A solver's settings are its fields: `solvers.adam(lr=0.01)` is Adam with another learning rate.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._errors import bad, positive
from .._words import Word
from .descent import adam_steps, lbfgs_steps
from .frequencies import in_frequencies
from .run import Objective, Points, Run, Solution

__all__ = ["lbfgs", "lbfgs_torch", "adam", "sign_adam", "Solver", "Solution", "Points", "Objective"]


class Solver(Word):
    """The base of the solvers: a `Word` whose subclasses say what happens in a `Run`."""

    def act(
        self,
        objective: Objective,
        z: Points,
        *,
        steps: int = 2000,
        tolerance: Tensor | float = 0.0,
        progress: bool = False,
    ) -> Solution:
        return self.minimise(Run(objective, z, steps, tolerance, progress))

    def minimise(self, run: Run) -> Solution:
        """Evaluate until the run is over, and return its solution."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class LBFGS(Solver):
    """L-BFGS with each problem's step safeguarded; pictures are searched by their frequencies.

    A step z + t d must pass Armijo's test, f(z + t d) <= f(z) + 1e-4 t <grad f, d>; else t shrinks,
    for this problem only.  A problem leaves at its tolerance, when its gradient vanishes (below
    1e-7 everywhere, or 1e-7 of the first where that was below 1), or when no step helps any more.

    history: how many pairs of steps and gradients are kept for each problem.
    whiten: a z of shape (P, B, C, H, W) holds pictures, and the search is for the v in
    x = start + T' diag(s) v, T the discrete cosine transform.  s^4 is the spectrum of what has to
    be found: of pictures, 1 / (1 + |f|^2) at the frequency f and 0.09 of it for the differences of
    three colours, plus that of the start's own noise.  So s is half way to white, and the few
    coefficients that carry most of a picture are found first.  From a grey start it takes about
    half the evaluations.  The minima, and their values, are those of `objective`.
    Source: Nocedal & Wright 2006, Algorithms 7.4 and 3.1; Field 1987 (the spectrum of pictures).

    >>> away = lambda z, index: (z - 1).square().sum(-1)
    >>> lbfgs(away, torch.zeros(2, 3), steps=50).z.round(decimals=3)[0]
    tensor([1., 1., 1.])
    """

    history: int = 100
    whiten: bool = True
    __name__ = "lbfgs"

    def act(self, objective: Objective, z: Points, **given: Any) -> Solution:
        if not self.whiten:
            return super().act(objective, z, **given)
        return in_frequencies(super().act, objective, z, **given)

    def minimise(self, run: Run) -> Solution:
        return lbfgs_steps(run, self.history, safeguard=True)


@dataclass(frozen=True, repr=False)
class TorchLBFGS(Solver):
    """`torch.optim.LBFGS(lr=1)` as the papers use it, followed problem by problem: no safeguard.

    z <- z - H grad f, whatever the objective then does.  One step is one inner iteration of torch,
    so the papers' 300 calls of 20 iterations are 6,000 steps.  A problem leaves at its tolerance,
    at torch's own thresholds (gradient 1e-7, slope 1e-9), and when its objective is not finite.
    history: as in `lbfgs`.
    Source: torch.optim.LBFGS; Zhu et al. 2019, code.

    >>> away = lambda z, index: (z - 1).square().sum(-1)
    >>> lbfgs_torch(away, torch.zeros(2, 3), steps=50).z.round(decimals=3)[0]
    tensor([1., 1., 1.])
    """

    history: int = 100
    __name__ = "lbfgs_torch"

    def minimise(self, run: Run) -> Solution:
        return lbfgs_steps(run, self.history, safeguard=False)


@dataclass(frozen=True, repr=False)
class Adam(Solver):
    """Adam on every problem; a problem leaves at `tolerance` or when it is no longer finite.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  z <- z - lr m^ / (sqrt(v^) + eps)

    lr: the learning rate.  betas: (b1, b2).  eps: what keeps the quotient finite.
    Source: Kingma & Ba 2015, Algorithm 1.

    >>> away = lambda z, index: (z - 1).square().sum(-1)
    >>> adam(away, torch.zeros(2, 3), steps=500).z.round(decimals=3)[0]
    tensor([1., 1., 1.])
    """

    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    __name__ = "adam"

    def __post_init__(self) -> None:
        positive("lr", self.lr, "a learning rate")

    def minimise(self, run: Run) -> Solution:
        return adam_steps(run, lambda t: self.lr, self.betas, self.eps)


@dataclass(frozen=True, repr=False)
class SignAdam(Adam):
    """Adam that is told only the sign of each derivative, and keeps pictures inside a box.

    g <- sign(grad f), then z <- z - lr m^ / (sqrt(v^) + eps) as in `adam`, then, of pictures,
    x <- min(max(x, low), high).  The learning rate is divided by ten after 3/8, 5/8 and 7/8 of the
    steps.

    lr, betas, eps: as in `adam`.  box: (low, high); parts of z with shape (P, B, C, H, W) are
    pictures, and their start is moved into the box too.  None leaves them free.
    Raises ValueError unless lr > 0 and low < high.
    Source: Geiping et al. 2020; published code, with 4,800 or 24,000 steps.

    >>> away = lambda z, index: (z - 1).square().sum(-1)
    >>> sign_adam(away, torch.zeros(2, 3), steps=500).z.round(decimals=2)[0]
    tensor([1., 1., 1.])
    """

    box: tuple[float, float] | None = (0.0, 1.0)
    __name__ = "sign_adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.box is not None and not self.box[0] < self.box[1]:
            raise bad("box", self.box, "(low, high) with low < high, or None")

    def minimise(self, run: Run) -> Solution:
        drops = [run.steps * eighths // 8 for eighths in (3, 5, 7)]

        def rate(t: int) -> float:
            return self.lr * 0.1 ** sum(t > drop for drop in drops)

        if self.box is None:
            return adam_steps(run, rate, self.betas, self.eps, seen=torch.sign)
        everywhere = run.start.new_tensor([[-torch.inf], [torch.inf]])
        box = run.start.new_tensor(self.box)[:, None]
        low, high = torch.where(run.pictures(), box, everywhere)  # (n,) each
        return adam_steps(
            run, rate, self.betas, self.eps, seen=torch.sign, project=lambda x: x.clamp(low, high)
        )


lbfgs = LBFGS()
lbfgs_torch = TorchLBFGS()
adam = Adam()
sign_adam = SignAdam()
