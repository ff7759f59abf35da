"""Chapter 6: from fully connected to convolution."""

from __future__ import annotations

from functools import cache

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ... import analytic, attacks, client, data, defenses, metrics, models
from ...leak import stack
from .. import plots, results
from ..plots import COLORS, STYLE, Picture
from ._shared import MANY_STEPS, lenets, messages

PIXELS = (16, 24, 32)
WIDTHS = (4, 6, 8, 9, 10, 12)
CLEAR_TO_NOISY = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
CLAIM = 5.0  # Mu 2023, abstract: a mean squared error of about this
DIFFER = "equations that differ"


def count_and_solve(pixels: int = 32, width: int = 12) -> Picture:
    """The cat from a LeNet of this width: what has to be found in each layer, and what was.

    The data are "unknowns" and "differ" (of the equations) {layer: number}, "cause", which is what
    stops the recursion or None, and then "psnr" and "expected" in dB.
    """
    plan = analytic.plan(models.cats_dogs(size=pixels, width=width), (1, 3, pixels, pixels))
    steps = {step.layer: step for step in plan.steps[::-1] if step.outputs}
    numbers = {
        "unknowns": {name: step.unknowns for name, step in steps.items()},
        "differ": {name: step.differ for name, step in steps.items()},
        "cause": plan.cause,
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.5))
        counts, private, found = figure.subplots(1, 3, width_ratios=(2.4, 1, 1))
        _bars(counts, numbers)
        plots.draw(private, _cat(pixels)[0])
        private.set_title("private", fontsize=9)
        if plan.cause is None:
            image, numbers["psnr"], numbers["expected"] = _solved(pixels, width)
            verdict = f"solved: {numbers['psnr']:.0f} dB (it expected {numbers['expected']:.0f})"
            plots.draw(found, image)
        else:
            verdict = f"refused: {plan.cause}"
            found.set(xticks=[], yticks=[], facecolor="#eeeeee")
            found.set_aspect("equal", adjustable="box")
            found.spines[:].set_visible(False)
        found.set_title("solved" if plan.cause is None else "refused", fontsize=9)
        figure.subplots_adjust(wspace=0.12)
    counted = ", ".join(f"{n} {s.unknowns:,} against {s.differ:,}" for n, s in steps.items())
    return Picture(
        figure,
        caption=f"{pixels} pixels, {width} channels: {verdict}.",
        alt=f"Unknowns against equations that differ: {counted}. {pixels} pixels: {verdict}.",
        data=numbers,
    )


def _bars(axis: Axes, numbers: plots.Data) -> None:
    """Two bars a layer: its unknowns, and its equations that differ."""
    y = np.arange(len(numbers["unknowns"]))
    for k, (key, label) in enumerate({"unknowns": "unknowns", "differ": DIFFER}.items()):
        style = dict(color=COLORS[k], hatch="//" if k else None, edgecolor="white")
        axis.barh(y + 0.38 * k - 0.19, numbers[key].values(), height=0.36, label=label, **style)
    axis.set(yticks=y, yticklabels=list(numbers["unknowns"]))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, 1.17), ncols=2, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_formatter("{x:,.0f}")


@cache
def _solved(pixels: int, width: int) -> tuple[Tensor, float, float]:
    """The cat as the recursion finds it (3, H, W), its PSNR, and the PSNR that it expected."""
    x, model = _cat(pixels), models.cats_dogs(size=pixels, width=width)
    leak = client.share_gradient(model, x, torch.tensor([0]))
    out = analytic.invert_network(model, leak, x.shape)
    image, expected = out.images[0], -10 * out.expected_mse.log10()
    return image[0], metrics.psnr(image, x).item(), expected.item()


@cache
def _cat(pixels: int) -> Tensor:
    return data.load("photos", size=pixels)[0][:1]


def solved_or_matched(noise: float = 0.0) -> Picture:
    """Three digits by the recursion and by iDLG, when the client adds noise to its gradient.

    data["expected"] is the PSNR that the recursion expects of itself.
    """
    images, solved, matched = _both()
    i = CLEAR_TO_NOISY.index(noise)
    mine = slice(3 * i, 3 * i + 3)
    expected = float(-10 * solved.expected_mse[mine].log10().mean())
    return plots.images(
        {"private": images, "recursion": solved.images[mine], "matching": matched.images[mine]},
        caption=f"Noise of {noise:g} times the gradient's root mean square, of which neither "
        f"attacker knows. On average, the recursion expects {expected:.0f} dB of itself.",
        data={"expected": expected},
    )


@cache
def _both() -> tuple[Tensor, analytic.Inversion, attacks.Reconstruction]:
    """Three digits, and both attacks on them at every noise, one noise after another."""
    images, numbers = data.load("digits", 3, size=16, seed=3)
    leaks = [
        leak
        for noise in CLEAR_TO_NOISY
        for leak in messages(
            client.share_gradient, lenets(1, 16), images, numbers,
            defense=defenses.gaussian(noise, relative=True),
        )
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
