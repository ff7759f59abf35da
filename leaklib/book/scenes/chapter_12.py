"""Chapter 12: noise, clipping and differential privacy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ... import attacks, client, defenses, distances, metrics, models, priors, privacy
from ...leak import stack
from .. import plots
from ..plots import COLORS, STYLE, Picture
from ._shared import photographs

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
        leaks = stack(
            client.share_gradient(
                model, images[i : i + 1], numbers[i : i + 1],
                defense=defenses.gaussian(sigma), seed=i,
            )
            for i in range(len(images))
        )  # fmt: skip
        told = {}
        if attacker != "naive":
            told = dict(distance=distances.likelihood(sigma), prior=priors.smooth(SCALE))
        out = attacks.dlg(
            model,
            leaks,
            (1, *images.shape[1:]),
            labels=numbers[:, None],
            steps=STOPS[-1],
            **told,
        )
        for stop in STOPS:
            seen[stop].append(out.snapshots.get(stop, out.images)[:, 0])
    return {stop: torch.stack(batches) for stop, batches in seen.items()}


def under_noise(sigma: float = 3e-2, evaluations: int = STOPS[-1]) -> Picture:
    """Three photographs out of noisy gradients, by two attackers who stop after so many steps."""
    _, images, _ = portraits()
    rows = {name: through_noise(name)[evaluations][SIGMAS.index(sigma)] for name in KNOWING}
    scores = (f"{name} {float(metrics.ssim(x, images).median()):.2f}" for name, x in rows.items())
    return plots.images(
        {"private": images, **rows},
        caption=f"Noise of standard deviation {sigma:g}, {evaluations} evaluations. "
        f"Median SSIM: {', '.join(scores)}.",
    )


def under_the_bound(
    measured: Mapping[str, tuple[float, Mapping[float, int]]], draws: int
) -> Picture:
    """How often an attacker names the right image, and the most that `dp_sgd` lets anyone do so.

    measured {name: (prior, {noise: how often right, of `draws`})}; one message each.
    """
    said = []
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6))
        axis = figure.subplots()
        for (name, (prior, counts)), color, marker in zip(
            measured.items(), COLORS, MARKERS, strict=False
        ):
            noises = list(counts)
            fine = np.geomspace(min(noises), max(noises), 100)
            bound = [privacy.reconstruction_bound(prior, float(noise)) for noise in fine]
            axis.plot(fine, bound, color=color, linewidth=1.2, label=f"{name}: bound")
            shares = np.array([count / draws for count in counts.values()])
            low, high = zip(*(metrics.wilson(count, draws) for count in counts.values()))
            axis.errorbar(
                noises, shares, np.clip([shares - low, high - shares], 0, None), color=color,
                marker=marker, markersize=5, capsize=2.5, linestyle="none",
                label=f"{name}: measured",
            )  # fmt: skip
            axis.axhline(prior, color=color, linewidth=1, linestyle=":")
            said.append(f"{name}, from {shares[0]:.0%} to {shares[-1]:.0%}")
        axis.set(
            xscale="log",
            xlabel="noise, in units of C",
            ylabel="how often it is right",
        )
        axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
        axis.set_xticks(noises, [f"{noise:g}" for noise in noises])
        axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.legend()
    return Picture(
        figure,
        caption=f"Points: {draws:,} messages each, with 95 % intervals. Lines: the bound. Dotted: "
        "a guess without any message.",
        alt=f"Shares of right answers at noise {min(noises):g} to {max(noises):g}, "
        f"each with its bound above: {'; '.join(said)}.",
    )
