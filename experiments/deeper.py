"""Deeper and trained networks: which attack recovers how much (at most 35 minutes on 2 cores).

    python experiments/deeper.py [--images N] [--sets "LeNet, untrained" ...] [--chunk 8]
                                 [--workers 2] [--fresh]

Three networks for CIFAR-10: the sigmoid LeNet of DLG, `models.convnet` and `models.resnet18`; fresh
ones, one for each image, and one that was trained on 3,800 other images.  All meet the same images.
Every attack reads the label, and has 800 evaluations: l2 as published, from noise, without a
safeguard; l2 and the cosine as leaklib does it; and the cosine with total variation, by signs.
The mean of the training images is the control: a picture that nobody attacked.
Writes experiments/results/deeper.json after every chunk; started again, it goes on from there.
`cifar10` and `cifar10_train` are read as `leaklib.data` says.  Claim: Geiping et al. 2020.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _experiment import RESULTS, Set, command_line
from idlg import first_guess
from leaklib import attacks, client, data, distances, federated, metrics, models, random, solvers
from leaklib.leak import stack

STEPS = 800
TRAINING, BATCH = 3800, 64  # images to train on, and in a mini-batch
CLASSES = 10


class Network(NamedTuple):
    """make(seed=…) gives a fresh one; Adam trains it for so many epochs, at most at the rate lr."""

    make: Callable[..., nn.Module]
    epochs: int
    lr: float
    victims: int


NETWORKS = {
    "LeNet": Network(models.lenet, epochs=30, lr=3e-3, victims=24),
    "ConvNet": Network(models.convnet, epochs=8, lr=2e-3, victims=24),
    "ResNet-18": Network(models.resnet18, epochs=8, lr=3e-3, victims=12),
}
STATES = ("untrained", "trained")


class Arm(NamedTuple):
    """An attack, and the name of its start."""

    attack: attacks.Attack | None
    start: str


ARMS = {
    "l2, published": Arm(replace(attacks.idlg, solver=solvers.lbfgs_torch), "normal"),
    "l2": Arm(attacks.idlg, "half"),
    "cosine": Arm(replace(attacks.idlg, distance=distances.cosine), "half"),
    "Inverting Gradients": Arm(attacks.invert_gradients, "uniform"),
    "the mean image": Arm(None, "half"),
}


def victims(case: str, count: int) -> Set:
    """The images that are attacked: the same in every case, and not among those trained on."""
    data.load("cifar10_train", TRAINING)  # where it is not here, that is said before the run
    return Set(*data.load("cifar10", count, seed=0), CLASSES)


SETS: dict[str, Callable[[str, int], Set]] = {
    f"{network}, {state}": victims for network in NETWORKS for state in STATES
}
IMAGES = {case: NETWORKS[case.split(", ")[0]].victims for case in SETS}


@cache
def trained(network: str) -> nn.Module:
    """The network after its epochs of Adam, with the rate of one cycle, in evaluation mode."""
    make, epochs, lr, _ = NETWORKS[network]
    images, labels = data.load("cifar10_train", TRAINING, seed=0)
    model = make(seed=0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr)
    batches = len(images) // BATCH
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * batches)
    generator = random.generator(0, "batches")
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for rows in order.split(BATCH)[:batches]:
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
            rate.step()
    return model.eval()


@cache
def accuracy(network: str) -> float:
    """Of the trained network, on all images of the test split that are here."""
    return federated.accuracy(trained(network), *data.load("cifar10"))


def networks(case: str, rows: Sequence[int]) -> list[nn.Module]:
    """The network that each of the images numbered `rows` meets."""
    network, state = case.split(", ")
    if state == "trained":
        return [trained(network)] * len(rows)
    return [NETWORKS[network].make(seed=i) for i in rows]


def columns(case: str, arm: Arm, private: Set, rows: range) -> dict[str, list]:
    """What is kept of an arm: one entry for each image."""
    x, y = (part[rows.start : rows.stop] for part in private[:2])
    nets = networks(case, rows)
    leak = stack(
        client.share_gradient(net, x[i : i + 1], y[i : i + 1]) for i, net in enumerate(nets)
    )
    with torch.no_grad():
        p = torch.cat([net(x[i : i + 1]).softmax(-1) for i, net in enumerate(nets)])  # (V, C)
    norm = sum(g.flatten(1).square().sum(1) for g in leak.direction.values()).sqrt()
    network, state = case.split(", ")
    known = {
        "p_label": p.gather(1, y[:, None])[:, 0].tolist(),
        "gradient_norm": norm.tolist(),
        "accuracy": [accuracy(network) if state == "trained" else None] * len(x),
    }
    if arm.attack is None:
        score = metrics.mse(mean_image().expand_as(x), x).tolist()
        return {"mse": score, "label_right": [False] * len(x), "evaluations": [0] * len(x), **known}
    guesses = [first_guess(arm.start, x.shape[1:], CLASSES, i)[0] for i in rows]
    out = arm.attack(
        nets[0], leak, (1, *x.shape[1:]),
        start=torch.stack(guesses)[:, None, None],  # (V, R, B, C, H, W)
        steps=STEPS,
    )  # fmt: skip
    return {
        "mse": metrics.mse(out.images, x).tolist(),
        "label_right": (out.labels[:, 0] == y).tolist(),
        "evaluations": out.evaluations.tolist(),
        **known,
    }


@cache
def mean_image() -> Tensor:
    """The mean (C, H, W) of the images that networks are trained on."""
    return data.load("cifar10_train", TRAINING, seed=0)[0].mean(0)


@cache
def private_of(case: str, count: int) -> Set:
    return SETS[case](case, count)


def work(count: int, case: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one arm against some of the `count` images of a case."""
    return columns(case, ARMS[arm], private_of(case, count), rows)


def main(
    arguments: Sequence[str] | None = None, path: Path = RESULTS / "deeper.json"
) -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    recipes = {name: [net.epochs, net.lr] for name, net in NETWORKS.items()}
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, images=IMAGES, chunk=8,
        settings=dict(steps=STEPS, training=TRAINING, batch=BATCH, recipes=recipes),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
