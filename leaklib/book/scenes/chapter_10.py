"""Chapter 10: DLM+, a scale that cancels."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ... import attacks, client, data, distances, labels, models
from ...leak import Leak, stack
from .. import plots
from ..plots import Picture
from ._shared import lenets, messages

FACES = (11, 24, 32)  # of a hundred
TINY_RATES = (1e-1, 1e-3, 1e-5, 1e-6, 1e-7)
NORMS = {
    "mean of the norms": distances.mean_norm,
    "norm of the whole": distances.cosine,
    "each its own": distances.each_norm,
    "none, η known": distances.l2,
}
NORM_STEPS = 30


def divided(leak: Leak, lr: Tensor) -> Leak:
    """The leak of an attacker who knows the learning rate: (W_t - W_{t+1}) / eta, a gradient."""
    rates = {name: lr.reshape(-1, *[1] * (d.ndim - 1)) for name, d in leak.direction.items()}
    gradient = {name: d / rates[name] for name, d in leak.direction.items()}
    return Leak(leak.weights, gradient, "gradient", leak.buffers, leak.batch_size, leak.victims)


@cache
def sent_at_tiny_rates() -> tuple[Tensor, Leak]:
    """Three faces (3, 1, 25, 25), and the weights sent after a step on each, rate after rate."""
    faces, _ = data.load("faces")
    images = faces[list(FACES)]
    people, nets = torch.arange(len(images)), lenets(1, 25, classes=10)
    leaks = [
        leak
        for lr in TINY_RATES
        for leak in messages(client.share_weights, nets, images, people, lr=lr)
    ]
    return images, stack(leaks)


@cache
def by_norm(norm: str) -> attacks.Reconstruction:
    """Those leaks by DLM+ with one of the `NORMS`, or by DLG given the learning rate."""
    images, leaks = sent_at_tiny_rates()
    if norm == "none, η known":
        leaks = divided(leaks, torch.tensor(TINY_RATES).repeat_interleave(len(images)))
    return attacks.dlm_plus(
        models.lenet(1, 25, classes=10), leaks, (1, *images.shape[1:]),
        labels=labels.idlg(sent_at_tiny_rates()[1]), distance=NORMS[norm], steps=NORM_STEPS,
    )  # fmt: skip


def norm_and_rate(norm: str = "mean of the norms", lr: float = 1e-3) -> Picture:
    """Three faces out of weights after one step at this learning rate, by DLM+ with this norm.

    data["still"] is the share of the weights that the step leaves as they were.
    """
    images, leaks = sent_at_tiny_rates()
    first = TINY_RATES.index(lr) * len(images)
    mine = slice(first, first + len(images))
    moved = torch.cat([d[mine].flatten() for d in leaks.direction.values()]) != 0
    still = 1 - float(moved.float().mean())
    return plots.images(
        {"private": images, "rebuilt": by_norm(norm).images[mine]},
        caption=f"Norm: {norm}. Learning rate {lr:g}, at which {still:.0%} of the weights stay as "
        f"they were. {NORM_STEPS} evaluations.",
        data={"still": still},
    )
