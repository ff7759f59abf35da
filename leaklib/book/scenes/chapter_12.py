"""Chapter 12: noise, clipping and differential privacy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from torch import Tensor, nn

from ... import attacks, client, defenses, distances, metrics, models, priors, privacy
from ...leak import stack
from .. import plots, results
from ..plots import COLORS, STYLE, Picture
from ..results.figure import reach
from ._shared import messages, photographs, scored

SIGMAS = (1e-3, 1e-2, 3e-2, 1e-1)
STOPS = (10, 20, 50, 100)
PORTRAITS = ("astronaut", "cat", "coffee")
KNOWING = ("naive", "knows the noise")
SCALE = 0.3  # of the prior: the best of five on the rocket, the temple and the flower
MARKERS = ("o", "s", "^")


@cache
def portraits() -> tuple[nn.Module, Tensor, Tensor]:
    """The network, three photographs (3, C, H, W) and their labels (3,)."""
    return models.lenet(classes=8, seed=0), *photographs(PORTRAITS)


@cache
def through_noise(attacker: str) -> dict[int, Tensor]:
    """What an attacker of `KNOWING` sees after so many evaluations: (sigmas, 3, C, H, W)."""
    model, images, numbers = portraits()
    seen = {stop: [] for stop in STOPS}
    for sigma in SIGMAS:
        defense = defenses.gaussian(sigma)
        sent = messages(client.share_gradient, [model] * 3, images, numbers, defense=defense)
        knows = {}
        if attacker != "naive":
            knows = dict(distance=distances.likelihood(sigma), prior=priors.smooth(SCALE))
        out = attacks.dlg(
            model, stack(sent), (1, *images.shape[1:]),
            labels=numbers[:, None], steps=STOPS[-1], **knows,
        )  # fmt: skip
        for stop in STOPS:
            seen[stop].append(out.snapshots.get(stop, out.images)[:, 0])
    return {stop: torch.stack(batches) for stop, batches in seen.items()}


def under_noise(sigma: float = 3e-2, evaluations: int = STOPS[-1]) -> Picture:
    """Three photographs out of noisy gradients, by two attackers who stop after so many steps.

    data["ssim"] is the median of each {attacker: number}.
    """
    _, images, _ = portraits()
    rows = {name: through_noise(name)[evaluations][SIGMAS.index(sigma)] for name in KNOWING}
    ssim = {name: float(metrics.ssim(x, images).median()) for name, x in rows.items()}
    return plots.images(
        {"private": images, **rows},
        caption=f"Noise of standard deviation {sigma:g}, {evaluations} evaluations. "
        f"Median SSIM: {scored(ssim)}.",
        data={"ssim": ssim},
    )


def under_the_bound(
    measured: Mapping[str, tuple[float, Mapping[float, int]]], draws: int
) -> Picture:
    """How often an attacker names the right image, and the most that `dp_sgd` lets anyone do so.

    measured {name: (prior, {noise: how often right, of `draws`})}; one message each.  The data are
    "shares" {name: [`results.Share`]}, named by their noise, and "bounds" {name: numbers}.
    """
    shares, bounds = {}, {}
    for name, (prior, counts) in measured.items():
        bounds[name] = [privacy.reconstruction_bound(prior, float(noise)) for noise in counts]
        shares[name] = [results.Share.of(f"{noise:g}", n, draws) for noise, n in counts.items()]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6))
        axis = figure.subplots()
        for (name, (prior, counts)), color, marker in zip(
            measured.items(), COLORS, MARKERS, strict=False
        ):
            noises, rows = list(counts), shares[name]
            fine = np.geomspace(min(noises), max(noises), 100)
            bound = [privacy.reconstruction_bound(prior, float(noise)) for noise in fine]
            axis.plot(fine, bound, color=color, linewidth=1.2, label=f"{name}: bound")
            axis.errorbar(
                noises, [s.share for s in rows], reach(rows), color=color, marker=marker,
                markersize=5, capsize=2.5, linestyle="none", label=f"{name}: measured",
            )  # fmt: skip
            axis.axhline(prior, color=color, linewidth=1, linestyle=":")
        axis.set(
            xscale="log",
            xlabel="noise, in units of C",
            ylabel="how often it is right",
        )
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        axis.set_xticks(noises, [f"{noise:g}" for noise in noises])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend()
    measurements = "; ".join(
        f"{name}, from {s[0].share:.0%} to {s[-1].share:.0%}" for name, s in shares.items()
    )
    return Picture(
        figure,
        caption=f"Points: {draws:,} messages each, with 95 % intervals. Lines: the bound. Dotted: "
        "a guess without any message.",
        alt=f"Shares of right answers at noise {min(noises):g} to {max(noises):g}, "
        f"each with its bound above: {measurements}.",
        data={"shares": shares, "bounds": bounds},
    )
