"""DLG against iDLG, and iDLG from four starts with two solvers (at most an hour on 2 cores).

    python experiments/idlg.py [--images 200] [--sets mnist cifar10 faces] [--chunk 50]
                               [--workers 2] [--fresh]

Every image has a sigmoid LeNet of its own with weights from U(-0.5, 0.5), and meets every arm on
the same network, from the same first guess.  All solvers stop where the papers' loop does, or after
3,000 evaluations.  Writes experiments/results/idlg.json after every chunk of images; started
again, it goes on from there.  Sets other than `faces` are read as `leaklib.data` says.
Claim: Zhao, Mopuri & Bilen 2020.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from _experiment import RESULTS, Set, command_line
from leaklib import attacks, client, data, metrics, models, random, solvers
from leaklib.leak import stack

IMAGES = 200
# The published loop stops when the objective is below STOP, or after 300 calls of
# torch.optim.LBFGS.  A call makes at most 20 evaluations, and few once the objective stalls: on
# CIFAR-10 that comes to about this many in all (benchmarks/throughput.py counts them)
STOP, STEPS = 1e-6, 3000

ATTACKS = {"DLG": attacks.dlg, "iDLG": attacks.idlg}
SOLVERS = {
    "published": solvers.lbfgs_torch,
    # the safeguard and nothing else, so that what differs from "published" is due to it
    "safeguarded": solvers.lbfgs(whiten=False),
    "leaklib": solvers.lbfgs,
}
STARTS = ("normal", "uniform", "half", "zeros")


class Arm(NamedTuple):
    """One way to attack: names out of `ATTACKS`, `STARTS` and `SOLVERS`."""

    attack: str
    start: str
    solver: str


ARMS = {
    ", ".join(arm): arm
    for arm in (
        Arm("DLG", "normal", "published"),
        *(Arm("iDLG", start, by) for start in STARTS for by in ("published", "safeguarded")),
        Arm("DLG", "half", "leaklib"),
        Arm("iDLG", "half", "leaklib"),
    )
}


def digits_or_objects(name: str, count: int) -> Set:
    return Set(*data.load(name, count, seed=0), classes=10)


def faces(name: str, count: int) -> Set:
    """Half from each of two sets, grey, 32 x 32: 100 people with a picture each, and 30 with ten.

    The first hundred classes are the pictures of `faces`, which names nobody; then come the 30
    people of `olivetti`.
    """
    one, picture = data.load("faces", count // 2, size=32, seed=0)
    other, person = data.load("olivetti", count - count // 2, size=32, seed=0)
    return Set(torch.cat([one, other]), torch.cat([picture, 100 + person]), classes=130)


SETS: dict[str, Callable[[str, int], Set]] = {
    "mnist": digits_or_objects,
    "cifar10": digits_or_objects,
    "faces": faces,
}


def first_guess(start: str, shape: Sequence[int], classes: int, number: int) -> tuple[Tensor, ...]:
    """Where every attack on image `number` begins: pixels x' of `shape`, label logits u'.

    Drawn by the image's own generators, so that it does not matter which images are attacked
    together, and u' is the same for every start.
    """
    u = torch.randn(classes, generator=random.generator(number, "joint labels"))
    return attacks.STARTS[start](tuple(shape), random.generator(number, "start")), u


def as_published(solver: Callable[..., solvers.Solution], u: Tensor | None = None) -> Callable:
    """The solver with the papers' stopping rule, and from the label logits u (V, C) where given.

    An attack with joint labels draws its logits for all its problems at once, z = (x', u'); here u
    takes their place.
    """

    def run(objective: solvers.Objective, z: solvers.Points, **settings: object):
        if u is not None:
            z = (z[0], u[:, None].to(z[0]))  # (V, B, C)
        return solver(objective, z, **{**settings, "tolerance": STOP})

    return run


def attack(arm: Arm, victims: Set, rows: Sequence[int]) -> attacks.Reconstruction:
    """One arm against the images numbered `rows`, each on its own network, all at once."""
    images, labels, classes = victims
    nets = [models.lenet(images.shape[1], images.shape[2], classes, seed=i) for i in rows]
    leak = stack(
        client.share_gradient(net, images[i : i + 1], labels[i : i + 1])
        for net, i in zip(nets, rows, strict=True)
    )
    guesses = [first_guess(arm.start, images.shape[1:], classes, i) for i in rows]
    x, u = (torch.stack(parts) for parts in zip(*guesses, strict=True))
    return ATTACKS[arm.attack](
        nets[0], leak, (1, *images.shape[1:]),
        start=x[:, None, None],  # (V, R, B, C, H, W)
        solver=as_published(SOLVERS[arm.solver], u if arm.attack == "DLG" else None),
        steps=STEPS,
    )  # fmt: skip


def columns(arm: Arm, victims: Set, rows: range) -> dict[str, list]:
    """What is kept of an arm: one entry for each image."""
    out, of = attack(arm, victims, rows), slice(rows.start, rows.stop)
    return {
        "mse": metrics.mse(out.images, victims.images[of]).tolist(),
        "label_right": (out.labels[:, 0] == victims.labels[of]).tolist(),
        "objective": out.objective.tolist(),
        "evaluations": out.evaluations.tolist(),
        "converged": out.converged.tolist(),
    }


@cache
def victims_of(name: str, count: int) -> Set:
    return SETS[name](name, count)


def work(count: int, name: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one arm against some of the `count` images of a set."""
    return columns(ARMS[arm], victims_of(name, count), rows)


def main(arguments: Sequence[str] | None = None, path: Path = RESULTS / "idlg.json") -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, images=IMAGES, chunk=50,
        settings=dict(steps=STEPS, stop=STOP),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
