"""The page "Paper vs here": saved experiments."""

from __future__ import annotations

from statistics import median

from .. import plots, results
from ..plots import Picture
from .chapter_7 import decibels

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


def learning_rates(network: str = "LeNet") -> Picture:
    """The saved experiment `dlm`: images recovered against the learning rate, which is not told."""
    shown = (
        "DLG, leaklib",
        "DLM+, leaklib",
        "DLM from 140, leaklib",
        "DLM+, published",
        "DLM from 140, published",
    )
    cases = {
        case.removeprefix(f"{network}, lr "): arms
        for case, arms in results.finished(results.load("dlm")).items()
        if case.startswith(f"{network}, ")
    }
    panel = {
        arm: results.shares({lr: results.recovered(arms[arm], 1e-3) for lr, arms in cases.items()})
        for arm in shown
    }
    return results.figure(
        {network: panel},
        xlabel="the client's learning rate",
        ylabel="images with MSE < 0.001",
        join=True,
        caption=f"{network}: images recovered from weights after one step, by attack and learning "
        "rate. DLG is given the true gradient: nobody can hope for more.",
    )


def fading() -> list[str]:
    """The optimizers of the saved experiment `local_steps` that have every number of steps."""
    cases = [case.split(", ") for case in results.finished(results.load("local_steps"))]
    counts = {name: sum(name == other for other, _ in cases) for name, _ in cases}
    return [name for name, count in counts.items() if count == max(counts.values())]


def steps_fade(optimizer: str = "sgd") -> Picture:
    """The saved experiment `local_steps`: median PSNR against the number of local steps."""
    saved = results.load("local_steps")
    cases = {
        int(case.removesuffix(" steps").split(", ")[1]): arms
        for case, arms in results.finished(saved).items()
        if case.startswith(f"{optimizer}, ")
    }
    arms = saved["settings"]["arms"]
    lr = saved["settings"]["learning_rates"][optimizer]
    n = len(next(iter(cases.values()))[arms[0]]["mse"])
    return plots.lines(
        [str(steps) for steps in cases],
        {a: [median(decibels(c[a])) for c in cases.values()] for a in arms},
        xlabel="local steps",
        ylabel="PSNR in dB",
        ylim=(5, 38),
        caption=f"The median of {n} images after steps of {optimizer} at a learning rate of "
        f"{lr:g}, by what the attacker takes them to be.",
    )
