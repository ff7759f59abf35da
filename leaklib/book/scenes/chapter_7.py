"""Chapter 7: deeper and trained networks."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

from ... import attacks, client, data, distances, federated, models, solvers
from ...leak import Leak, stack
from .. import plots, results
from ..plots import COLORS, STYLE, Picture
from ._shared import messages

ROUNDS = (0, 20, 40, 100)
WHOLE = len(data.PICTURES)  # the set begins with the whole pictures; the others are tiles of them
TILES = (WHOLE + 8, WHOLE + 48, WHOLE + 56)  # of the astronaut, the temple and the flower
STEPS = 200
ATTACKS = {
    "l2, published": replace(attacks.idlg, start="normal", solver=solvers.lbfgs_torch),
    "l2": attacks.idlg,
    "cosine": replace(attacks.idlg, distance=distances.cosine),
    "Inverting Gradients": attacks.invert_gradients,
}
DEEPER_NETWORKS = ("LeNet", "ConvNet", "ResNet-18")
STATES = ("untrained", "trained")


class Checkpoint(NamedTuple):
    """A network after so many rounds of FedAvg, and its accuracy on the images it learns from."""

    rounds: int
    model: nn.Module
    accuracy: float


@cache
def checkpoints() -> list[Checkpoint]:
    """A tanh ConvNet that four clients train on 64 tiles of photographs, at each of `ROUNDS`."""
    images, numbers = data.load("photos")
    tiles = federated.Client(images[WHOLE:], numbers[WHOLE:])
    clients = federated.split(*tiles, clients=4, seed=0)
    model = models.convnet(classes=WHOLE, activation="tanh", width=8, seed=0)
    kept = []
    for played in range(ROUNDS[-1] + 1):
        if played in ROUNDS:
            accuracy = federated.accuracy(model, *tiles)
            kept.append(Checkpoint(played, copy.deepcopy(model), accuracy))
        federated.train(model, clients, test=tiles, rounds=1, lr=0.1, batch_size=8, seed=played)
    return kept


@cache
def victims() -> tuple[Tensor, Tensor, Leak]:
    """Three of the tiles, their labels, and the gradient of each at each of the checkpoints.

    (3, C, H, W), (3,), and a stack of 4 x 3 leaks, checkpoint after checkpoint.
    """
    images, numbers = (part[list(TILES)] for part in data.load("photos"))
    leaks = [
        leak
        for _, model, _ in checkpoints()
        for leak in messages(client.share_gradient, [model] * 3, images, numbers)
    ]
    return images, numbers, stack(leaks)


@cache
def attacked(name: str) -> attacks.Reconstruction:
    """All the leaks of `victims`, attacked as `ATTACKS` says, with `STEPS` evaluations each."""
    images, _, leaks = victims()
    return ATTACKS[name](checkpoints()[0].model, leaks, (1, *images.shape[1:]), steps=STEPS)


def training(rounds: int = 100) -> Picture:
    """Three photographs out of gradients of a network that has been trained for so many rounds.

    data["accuracy"] is how often the network is right on the images it learns from.
    """
    images, _, _ = victims()
    now = ROUNDS.index(rounds)
    mine = slice(now * len(images), (now + 1) * len(images))
    accuracy = checkpoints()[now].accuracy
    return plots.images(
        {"private": images} | {name: attacked(name).images[mine] for name in ATTACKS},
        caption=f"After {rounds} rounds the network is right on {accuracy:.0%} of its own images. "
        f"Each attack has {STEPS} evaluations.",
        data={"accuracy": accuracy},
    )


def deeper(network: str = "ResNet-18", state: str = "trained") -> Picture:
    """The saved experiment `deeper`: how near each attack came to each image, through a network.

    The data are "psnr" {attack: numbers} and "means" {attack: `results.Mean`}.
    """
    arms = results.finished(results.load("deeper"))[f"{network}, {state}"]
    scores = {name: decibels(arm) for name, arm in arms.items()}
    means = {name: results.mean(db) for name, db in scores.items()}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4))
        axis = figure.subplots()
        for x, (name, db) in enumerate(scores.items()):
            beside = x - 0.16 + 0.32 * np.linspace(0, 1, len(db))
            control = name == "the mean image"
            axis.plot(beside, db, "s" if control else "o", color=COLORS[6 if control else 0],
                      markersize=4, alpha=0.6)  # fmt: skip
            axis.hlines(means[name].mean, x - 0.28, x + 0.28, color=COLORS[1], linewidth=2.2)
        axis.set_xticks(range(len(scores)), [name.replace(" ", "\n", 1) for name in scores])
        axis.set(ylabel="PSNR in dB", ylim=(0, 75))
    n = next(iter(means.values())).n
    intervals = ", ".join(
        f"{name} {m.mean:.1f} dB ({m.low:.1f} to {m.high:.1f})" for name, m in means.items()
    )
    return Picture(
        figure,
        caption=f"{network}, {state}: {n} images of CIFAR-10 out of their gradients. A dot is an "
        "image, a bar the mean of an attack. The mean image is the control: nobody attacked.",
        alt=f"PSNR of {n} images by attack, through {network}, {state}. Means with 95 % "
        f"intervals: {intervals}.",
        data={"psnr": scores, "means": means},
    )


def decibels(arm: dict[str, list]) -> list[float]:
    """The PSNR of each image of an arm of a saved result; 0 where the attack left no number."""
    return [0.0 if mse is None else float(-10 * np.log10(mse)) for mse in arm["mse"]]
