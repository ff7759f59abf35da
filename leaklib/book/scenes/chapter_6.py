"""Chapter 6: from fully connected to convolution."""

from __future__ import annotations

from functools import cache

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import analytic, attacks, client, data, defenses, metrics, models
from ...leak import stack
from .. import plots, results
from ..plots import COLORS, STYLE, Picture
from ._shared import MANY_STEPS

PIXELS = (16, 24, 32)
WIDTHS = (4, 6, 8, 9, 10, 12)
CLEAR_TO_NOISY = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
CLAIM = 5.0  # Mu 2023, abstract: a mean squared error of about this


def count_and_solve(pixels: int = 32, width: int = 12) -> Picture:
    """The cat from a LeNet of this width: what has to be found in each layer, and what was."""
    plan = analytic.plan(models.cats_dogs(size=pixels, width=width), (1, 3, pixels, pixels))
    steps = {step.layer: step for step in plan.steps[::-1] if step.outputs}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.5))
        count, private, found = figure.subplots(1, 3, width_ratios=(2.4, 1, 1))
        y = np.arange(len(steps))
        bars = {
            "unknowns": [step.unknowns for step in steps.values()],
            "equations that differ": [_differ(step) for step in steps.values()],
        }
        for k, (name, values) in enumerate(bars.items()):
            style = dict(color=COLORS[k], hatch="//" if k else None, edgecolor="white")
            count.barh(y + 0.38 * k - 0.19, values, height=0.36, label=name, **style)
        count.set(yticks=y, yticklabels=list(steps))
        count.invert_yaxis()
        count.grid(axis="y", visible=False)
        count.legend(loc="upper center", bbox_to_anchor=(0.45, 1.17), ncols=2, fontsize=8)
        count.tick_params(labelsize=8)
        count.xaxis.set_major_formatter("{x:,.0f}")
        truth = _cat(pixels)
        plots._show(private, truth[0])
        private.set_title("private", fontsize=9)
        if plan.cause is None:
            out, said = _solved(pixels, width)
            plots._show(found, out.images[0, 0])
        else:
            found.set(xticks=[], yticks=[], facecolor="#eeeeee")
            found.set_aspect("equal", adjustable="box")
            found.spines[:].set_visible(False)
            said = f"refused: {plan.cause}"
        found.set_title("solved" if plan.cause is None else "refused", fontsize=9)
        figure.subplots_adjust(wspace=0.12)
    counted = ", ".join(f"{n} {s.unknowns:,} against {_differ(s):,}" for n, s in steps.items())
    return Picture(
        figure,
        caption=f"{pixels} pixels, {width} channels: {said}.",
        alt=f"Unknowns against equations that differ: {counted}. {pixels} pixels: {said}.",
    )


def _differ(step: analytic.Equations) -> int:
    return step.outputs + step.weights - step.repeated


@cache
def _solved(pixels: int, width: int) -> tuple[analytic.Inversion, str]:
    x, model = _cat(pixels), models.cats_dogs(size=pixels, width=width)
    out = analytic.invert_network(
        model, client.share_gradient(model, x, torch.tensor([0])), x.shape
    )
    db, expected = metrics.psnr(out.images[0], x).item(), -10 * out.expected_mse.log10().item()
    return out, f"solved: {db:.0f} dB (it expected {expected:.0f})"


@cache
def _cat(pixels: int) -> Tensor:
    return data.load("photos", size=pixels)[0][:1]


def solved_or_matched(noise: float = 0.0) -> Picture:
    """Three digits by the recursion and by iDLG, when the client adds noise to its gradient."""
    images, solved, matched = _both()
    i = CLEAR_TO_NOISY.index(noise)
    mine = slice(3 * i, 3 * i + 3)
    expected = -10 * solved.expected_mse[mine].log10().mean()
    return plots.images(
        {"private": images, "recursion": solved.images[mine], "matching": matched.images[mine]},
        caption=f"Noise of {noise:g} times the gradient's root mean square, of which neither "
        f"attacker knows. The recursion expects {expected:.0f} dB of itself, in the mean.",
    )


@cache
def _both() -> tuple[Tensor, analytic.Inversion, attacks.Reconstruction]:
    """Three digits, and both attacks on them at every noise, one noise after the other."""
    images, numbers = data.load("digits", 3, size=16, seed=3)
    leaks = [
        client.share_gradient(
            models.lenet(1, 16, seed=i), images[i : i + 1], numbers[i : i + 1],
            defense=defenses.gaussian(noise, relative=True), seed=i,
        )
        for noise in CLEAR_TO_NOISY
        for i in range(3)
    ]  # fmt: skip
    model, leak, shape = models.lenet(1, 16), stack(leaks), (1, 1, 16, 16)
    solved = analytic.invert_network(model, leak, shape)
    return images, solved, attacks.idlg(model, leak, shape, steps=MANY_STEPS)


def cats_and_dogs() -> results.Table:
    """The saved experiment `cats_dogs`: errors of pixels from 0 to 255, for each attack."""
    result = results.load("cats_dogs")
    rows = []
    for name, arm in results.finished(result)["cats_dogs"].items():
        error = sorted(arm["error_255"])
        below = results.shares({name: [e < CLAIM for e in error]})[0]
        labels = "–" if name.startswith("control") else f"{np.mean(arm['label_right']):.0%}"
        interval = f"{below.share:.0%} ({below.low:.0%} to {below.high:.0%})"
        rows.append([name, f"{np.median(error):.2g}", f"{error[-1]:.2g}", interval, labels])
    n, size = result["settings"]["images"], result["settings"]["size"]
    header = ["attack", "median error", "worst", f"below {CLAIM:g} (95 %)", "labels right"]
    return results.Table(
        header,
        rows,
        caption=f"{n} cats and dogs of {size} x {size} pixels, each with its own networks: mean "
        "squared error of pixels from 0 to 255.",
    )
