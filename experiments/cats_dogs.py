"""Cats and dogs after Mu 2023: closed forms against matching (about 10 minutes on 2 cores).

    python experiments/cats_dogs.py [--images 100] [--chunk 10] [--workers 2] [--fresh]

Two networks, fully connected and convolutional, each attacked in closed form and by matching.  A
matching attack tries both virtual labels and keeps the one whose objective is smaller; the closed
forms need none.  Every image has networks of its own, the same for both attacks.  Errors are mean
squared errors of pixels from 0 to 255, as the abstract's "about 5" must be.  The paper's body could
not be read: networks, solver and stopping rule are ours.
Writes experiments/results/cats_dogs.json after every chunk; started again, it goes on from there.
`cats_dogs` is read as `leaklib.data` says.  Claim: Mu 2023, abstract.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from _experiment import RESULTS, Set, command_line
from leaklib import analytic, attacks, client, data, metrics, models
from leaklib.leak import Leak, stack

IMAGES, SIZE, CLASSES = 100, 32, 2
STEPS = {"linear": 500, "convolution": 2000}  # a wrong label spends them all


class Found(NamedTuple):
    """Images (V, 1, C, H, W), labels (V, 1), and which the attack itself takes to be right (V,)."""

    images: Tensor
    labels: Tensor
    converged: Tensor


def closed(model: nn.Module, leak: Leak, shape: Sequence[int], steps: int) -> Found:
    """dW/db of the first layer, or the recursion down to it."""
    out = analytic.invert_network(model, leak, shape)
    return Found(out.images, out.labels, out.converged)


def matching(model: nn.Module, leak: Leak, shape: Sequence[int], steps: int) -> Found:
    """Matching with each virtual label in turn, and for each image the smaller objective."""
    every = [
        attacks.dlg(model, leak, shape, labels=torch.tensor([label]), steps=steps)
        for label in range(CLASSES)
    ]
    best = torch.stack([out.objective for out in every]).argmin(0)  # (V,)
    parts = ([getattr(out, what) for out in every] for what in Found._fields)
    return Found(*(torch.stack(part)[best, torch.arange(len(best))] for part in parts))


def grey(model: nn.Module, leak: Leak, shape: Sequence[int], steps: int) -> Found:
    """No attack: what a picture of nothing scores."""
    V = leak.victims
    unknown = torch.full((V, 1), -1)
    return Found(torch.full((V, *shape), 0.5), unknown, torch.zeros(V, dtype=torch.bool))


class Arm(NamedTuple):
    """A kind of `models.cats_dogs`, and an attack: attack(model, leak, shape, steps)."""

    network: str
    attack: Callable[[nn.Module, Leak, Sequence[int], int], Found]


ARMS = {
    "fully connected, dW/db": Arm("linear", closed),
    "fully connected, matching": Arm("linear", matching),
    "convolution, recursion": Arm("convolution", closed),
    "convolution, matching": Arm("convolution", matching),
    "control: a grey picture": Arm("linear", grey),
}
SETS: dict[str, Callable[[str, int], Set]] = {
    "cats_dogs": lambda name, count: Set(*data.load(name, count, size=SIZE, seed=0), CLASSES)
}


def columns(arm: Arm, victims: Set, rows: range) -> dict[str, list]:
    """What is kept of an arm: one entry for each image."""
    images, labels, _ = victims
    nets = [models.cats_dogs(arm.network, images.shape[-1], seed=i) for i in rows]
    leak = stack(
        client.share_gradient(net, images[i : i + 1], labels[i : i + 1])
        for net, i in zip(nets, rows, strict=True)
    )
    out = arm.attack(nets[0], leak, (1, *images.shape[1:]), STEPS[arm.network])
    of = slice(rows.start, rows.stop)
    mse = metrics.mse(out.images, images[of])
    return {
        "mse": mse.tolist(),
        "error_255": (255**2 * mse).tolist(),
        "label_right": (out.labels[:, 0] == labels[of]).tolist(),
        "converged": out.converged.tolist(),
    }


@cache
def victims_of(name: str, count: int) -> Set:
    return SETS[name](name, count)


def work(count: int, name: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one arm against some of the `count` images of a set."""
    return columns(ARMS[arm], victims_of(name, count), rows)


def main(
    arguments: Sequence[str] | None = None, path: Path = RESULTS / "cats_dogs.json"
) -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, images=IMAGES, chunk=10,
        settings=dict(size=SIZE, steps=STEPS),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
