"""Chapter 5: iDLG."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from ... import attacks, client, data, defenses, models, solvers
from ...leak import Leak, stack
from ..plots import Picture
from ._shared import DIGIT, defended, messages, rebuilt

PRUNED = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
STEPS = 250


def pruned_gradient(pruned: float = 0.5) -> Picture:
    """Three digits rebuilt by iDLG when the client sends only each tensor's largest entries."""
    images, found = defended(attacks.idlg, defenses.prune, PRUNED)
    return rebuilt(
        images,
        found[PRUNED.index(pruned)],
        caption=f"{pruned:.0%} of the entries set to zero, of which the attacker knows nothing",
    )


def idlg_start(start: str = "normal", solver: str = "published") -> Picture:
    """The digits of `arm`, rebuilt by iDLG from this start with this solver."""
    images, _, out = arm("idlg", start, solver)
    caption = f"iDLG, {start} start, {solver} solver, at most {STEPS} evaluations"
    return rebuilt(images, out.images, caption)


@cache
def arm(attack: str, start: str, solver: str) -> tuple[Tensor, Tensor, attacks.Reconstruction]:
    """One arm of a paired comparison: (digits (10, 1, 28, 28), labels (10,), reconstruction).

    attack "dlg" or "idlg"; start as in `attacks.dlg`; solver "published" or "safeguarded".
    """
    images, numbers = data.load("digits", 10, seed=2)
    run = {"dlg": attacks.dlg, "idlg": attacks.idlg}[attack]
    by = {"published": solvers.lbfgs_torch, "safeguarded": solvers.lbfgs(whiten=False)}[solver]
    out = run(models.lenet(1, 28), digit_leaks(), DIGIT, start=start, solver=by, steps=STEPS)
    return images, numbers, out


@cache
def digit_leaks() -> Leak:
    """The gradients behind `arm`: ten digits, each on a network of its own."""
    images, numbers = data.load("digits", 10, seed=2)
    nets = [models.lenet(1, 28, seed=i) for i in range(len(images))]
    return stack(messages(client.share_gradient, nets, images, numbers))
