"""The page "Paper vs here": saved experiments."""

from __future__ import annotations

from .. import results
from ..plots import Picture

RECOVERED = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2)
SETS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "faces": "faces"}


def starts_and_solvers(threshold: float = 1e-3) -> Picture:
    """The saved experiment `idlg`: images that iDLG recovers from each start with both solvers.

    threshold: the mean squared error below which an image counts as recovered.
    """
    panels = {
        SETS[name]: {
            solver: results.shares(
                {
                    start: results.recovered(arms[f"iDLG, {start}, {solver}"], threshold)
                    for start in ("normal", "uniform", "half", "zeros")
                }
            )
            for solver in ("published", "safeguarded")
        }
        for name, arms in results.finished(results.load("idlg")).items()
    }
    return results.figure(
        panels,
        xlabel="start",
        ylabel=f"images with MSE < {threshold:g}",
        caption=f"iDLG from four starts, with the published solver and with the safeguarded one: "
        f"images whose mean squared error is below {threshold:g}, with Wilson's 95 % intervals.",
    )
