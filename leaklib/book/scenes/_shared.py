"""What several chapters' pictures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from ... import client, data, metrics, models
from ...leak import stack

DIGIT = (1, 1, 28, 28)
MANY_STEPS = 400


class Tried(NamedTuple):
    """A defence, strengths from weak to strong, and what the attacker who knows it changes."""

    make: Callable[[float], client.Defense]
    strengths: tuple[float, ...]
    knowing: Callable[[float], dict]


def photographs(names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Photographs (N, 3, 32, 32) by their names in `data.PICTURES`, and their labels (N,)."""
    images, labels = data.load("photos")
    rows = [data.PICTURES.index(name) for name in names]
    return images[rows], labels[rows]


def defended(
    attack: Callable, defense: Callable, levels: tuple[float, ...], **settings: bool
) -> tuple[Tensor, Tensor]:
    """Three digits, and what an attack makes of them at each strength of a defence."""
    images, numbers = data.load("digits", 3, seed=3)
    leaks = [
        client.share_gradient(
            models.lenet(1, 28, seed=i), images[i : i + 1], numbers[i : i + 1],
            defense=defense(level, **settings), seed=i,
        )
        for level in levels
        for i in range(len(images))
    ]  # fmt: skip
    out = attack(models.lenet(1, 28), stack(leaks), DIGIT, steps=MANY_STEPS)
    return images, out.images.reshape(len(levels), *images.shape)


def recovered(images: Tensor, truth: Tensor) -> str:
    threshold = 1e-3
    share = metrics.success_rate(images, truth, threshold)
    return f"{share:.0%} recovered (MSE below {threshold:g})"


def listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if numbers else "none"
