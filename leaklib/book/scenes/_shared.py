"""What several chapters' pictures share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor, nn

from ... import client, data, metrics, models
from ...leak import Leak, stack
from .. import plots
from ..plots import Picture

DIGIT = (1, 1, 28, 28)
MANY_STEPS = 400
RECOVERED_BELOW = 1e-3  # of the mean squared error


class Tried(NamedTuple):
    """A defence, strengths from weak to strong, and what an attacker who knows it changes."""

    make: Callable[[float], client.Defense]
    strengths: tuple[float, ...]
    knowing: Callable[[float], dict]


def photographs(names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Photographs (N, 3, 32, 32) by their names in `data.PICTURES`, and their labels (N,)."""
    images, labels = data.load("photos")
    rows = [data.PICTURES.index(name) for name in names]
    return images[rows], labels[rows]


def lenets(channels: int, size: int, **settings: Any) -> list[nn.Module]:
    """Three LeNets, of the seeds 0, 1 and 2."""
    return [models.lenet(channels, size, seed=i, **settings) for i in range(3)]


def messages(
    share: Callable[..., Leak],
    nets: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    **settings: Any,
) -> list[Leak]:
    """What a client for each image sends, from a network of its own: a leak each.

    share is `client.share_gradient` or `client.share_weights`, which is given the settings.
    """
    return [
        share(net, images[i : i + 1], labels[i : i + 1], seed=i, **settings)
        for i, net in enumerate(nets)
    ]


@cache
def defended(
    attack: Callable, defense: Callable, levels: tuple[float, ...], **settings: bool
) -> tuple[Tensor, Tensor]:
    """Three digits, and what an attack makes of them at each strength of a defence."""
    images, numbers = data.load("digits", 3, seed=3)
    leaks = [
        leak
        for level in levels
        for leak in messages(
            client.share_gradient, lenets(1, 28), images, numbers,
            defense=defense(level, **settings),
        )
    ]  # fmt: skip
    out = attack(models.lenet(1, 28), stack(leaks), DIGIT, steps=MANY_STEPS)
    return images, out.images.reshape(len(levels), *images.shape)


def rebuilt(truth: Tensor, images: Tensor, caption: str) -> Picture:
    """Private images above what an attack made of them; data["recovered"] is the share it has.

    The caption ends with that share.
    """
    share = metrics.success_rate(images, truth, RECOVERED_BELOW)
    return plots.images(
        {"private": truth, "rebuilt": images},
        caption=f"{caption}: {share:.0%} recovered (MSE below {RECOVERED_BELOW:g}).",
        data={"recovered": share},
    )


def listed(numbers: Sequence[int]) -> str:
    """1, 2, 3; "none" where there is no number."""
    return ", ".join(map(str, numbers)) or "none"


def scored(scores: Mapping[str, float]) -> str:
    """Names and SSIM as a caption tells them: naive 0.12, adaptive 0.93."""
    return ", ".join(f"{name} {score:z.2f}" for name, score in scores.items())
