"""Which labels of a batch each rule reads, before and after training (about 10 minutes on 2 cores).

    python experiments/batch_labels.py [--images 100] [--sets mnist cifar10_train digits]
                                       [--chunk 50] [--workers 2] [--fresh]

`--images` is the number of batches of each kind: of 1 to 256 images, drawn from all classes or from
three, sent by a LeNet in one of four states.  Every rule reads the same gradients.  What is kept is
the share of the labels that a rule has right; "even guess" has not looked at the gradient.
Writes experiments/results/batch_labels.json after every chunk.
Claims: Wainakh et al. 2022 (LLG), Yin et al. 2021 (GradInversion), Ma et al. 2022 (iLRG).
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from _experiment import RESULTS, Set, command_line
from leaklib import client, data, federated, labels, metrics, models
from leaklib.leak import stack

BATCHES = 100
CLASSES, FEW = 10, 3
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OWN = 300  # images that the attacker has of its own, and noise images in their place
LR, MINIBATCH = 0.1, 16

# What the network is: its activation, its initialisation and the epochs that it was trained
STATES = {
    "sigmoid, DLG's weights": ("sigmoid", "dlg", 0),
    "untrained": ("relu", "torch", 0),
    "one epoch": ("relu", "torch", 1),
    "ten epochs": ("relu", "torch", 10),
}


class Arm(NamedTuple):
    """One kind of batch: a name out of `STATES`, "all" or "three" classes, and B."""

    state: str
    classes: str
    B: int


ARMS = {
    f"{state}; {classes} classes; {B}": Arm(state, classes, B)
    for state, classes, B in itertools.product(STATES, ("all", "three"), SIZES)
}
SETS: dict[str, Callable[[str, int], Set]] = dict.fromkeys(
    ("mnist", "cifar10_train", "digits"), lambda name, _: Set(*data.load(name), classes=CLASSES)
)


class Pools(NamedTuple):
    """Three parts of a set that share no image: the clients', the attacker's, and for training."""

    private: tuple[Tensor, Tensor]
    own: Tensor
    training: federated.Client


def pools(victims: Set) -> Pools:
    images, numbers, _ = victims
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    private, rest = order.split([len(images) * 2 // 5, len(images) - len(images) * 2 // 5])
    own, training = rest[:OWN], rest[OWN:]
    learnt = federated.Client(images[training], numbers[training])
    return Pools((images[private], numbers[private]), images[own], learnt)


@cache
def pools_of(name: str) -> Pools:
    return pools(SETS[name](name, 0))


def network(state: str, pool: Pools, seed: int) -> nn.Module:
    """The LeNet of a state; what is trained is trained once, with seed 0, by one client."""
    activation, init, epochs = STATES[state]
    channels, size = pool.own.shape[1:3]
    model = models.lenet(channels, size, CLASSES, activation, 0 if epochs else seed, init)
    if epochs:
        settings = dict(rounds=1, epochs=epochs, batch_size=MINIBATCH, lr=LR)
        federated.train(model, [pool.training], test=pool.training, **settings)
    return model


@cache
def trained(state: str, name: str) -> tuple[nn.Module, float]:
    """The network of a state and its accuracy on the private images."""
    pool = pools_of(name)
    model = network(state, pool, 0)
    return model, federated.accuracy(model, *pool.private)


def batch(arm: Arm, numbers: Tensor, number: int) -> Tensor:
    """Which images (B,) are in batch `number`; the same for every state of the network."""
    draw = torch.Generator().manual_seed(number)
    rows = torch.arange(len(numbers))
    if arm.classes == "three":
        chosen = torch.randperm(CLASSES, generator=draw)[:FEW]
        rows = rows[torch.isin(numbers, chosen)]
    return rows[torch.randint(len(rows), (arm.B,), generator=draw)]


def even_guess(count: int, B: int, seed: int) -> Tensor:
    """Counts (count, C) as equal as they can be, the rest of a division given out by chance."""
    chance = torch.rand(count, CLASSES, generator=torch.Generator().manual_seed(seed))
    return B // CLASSES + (chance.argsort(1) < B % CLASSES).long()


def columns(arm: Arm, name: str, rows: range) -> dict[str, list]:
    """The share of labels that each rule has right in each of the batches numbered `rows`."""
    pool = pools_of(name)
    images, numbers = pool.private
    nets = [
        trained(arm.state, name)[0] if STATES[arm.state][2] else network(arm.state, pool, i)
        for i in rows
    ]
    members = torch.stack([batch(arm, numbers, i) for i in rows])  # (V, B)
    leak = stack(
        client.share_gradient(net, images[r], numbers[r])
        for net, r in zip(nets, members, strict=True)
    )
    noise = torch.rand(pool.own.shape, generator=torch.Generator().manual_seed(1))
    found = {
        "own images": labels.counts(nets[0], leak, pool.own),
        "noise": labels.counts(nets[0], leak, noise),
        "system": labels.counts(nets[0], leak),
        "LLG": labels.llg(leak),
        "GradInversion": labels.grad_inversion(leak) if arm.B <= CLASSES else None,
        "even guess": even_guess(len(rows), arm.B, rows.start),
    }
    return {rule: right(counts, numbers[members]) for rule, counts in found.items()}


def right(counts: Tensor | None, numbers: Tensor) -> list[float | None]:
    """The share of each batch's labels; None where a rule does not apply."""
    if counts is None:
        return [None] * len(numbers)
    return [metrics.count_accuracy(n, y) for n, y in zip(counts, numbers, strict=True)]


def work(_: int, name: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one kind of batch of one set."""
    mine = ARMS[arm]
    accuracy = trained(mine.state, name)[1]
    return columns(mine, name, rows) | {"accuracy": [accuracy] * len(rows)}


def main(
    arguments: Sequence[str] | None = None, path: Path = RESULTS / "batch_labels.json"
) -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, images=BATCHES, chunk=50,
        settings=dict(own=OWN, lr=LR, minibatch=MINIBATCH),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
