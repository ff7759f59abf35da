"""DLM, DLM+, and DLG that is given the true gradient (at most an hour on 2 cores).

    python experiments/dlm.py [--images N] [--sets "LeNet, lr 0.01" ...] [--chunk 40]
                              [--workers 2] [--fresh]

A client makes one step of SGD on one image of CIFAR-10, at one of five learning rates that no
attack is told, and sends its weights.  The networks are those of the paper's code, the sigmoid
LeNet and a ReLU network of one hidden layer of 32, a fresh one for each image with weights from
U(-0.5, 0.5).  "published" is the start, the solver and the joint labels of that code, "leaklib"
this package's: grey, safeguarded, the label read first.  DLG is given the gradient itself, and is
what weights that hide nothing would give away.  Every arm meets the same images and networks, and
those from noise the same noise.  Writes experiments/results/dlm.json after every chunk of images.
Claim: Zhao, Luo & Ding 2022.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch

from _experiment import RESULTS, Set, command_line
from idlg import first_guess
from leaklib import attacks, client, data, labels, metrics, models, solvers
from leaklib.leak import stack

IMAGES, STEPS = 40, 1000
LEARNING_RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NETWORKS = {
    "LeNet": models.lenet,
    "MLP": partial(models.mlp, 3, 32, hidden=(32,), activation="relu", init="dlg"),
}
# as in the paper's code, which attacks its MLP by Adam
PUBLISHED = {"LeNet": solvers.lbfgs_torch, "MLP": solvers.adam(lr=0.1)}


class Arm(NamedTuple):
    """An attack with its first k where it has one, its settings, and whether it reads the label."""

    attack: str
    k: float | None
    settings: str
    reads: bool


ATTACKS = {
    "DLG": attacks.dlg,
    "DLM": attacks.dlm,
    "DLM projected": attacks.dlm_projected,
    "DLM+": replace(attacks.dlm_plus, labels="joint"),
}
ARMS = {
    "DLG, published": Arm("DLG", None, "published", False),
    **{
        f"DLM from {k}, published": Arm("DLM", float(k), "published", False) for k in (60, 140, 240)
    },
    "DLM projected, published": Arm("DLM projected", None, "published", False),
    "DLM+, published": Arm("DLM+", None, "published", False),
    "DLG, leaklib": Arm("DLG", None, "leaklib", True),
    "DLM from 140, leaklib": Arm("DLM", 140.0, "leaklib", True),
    "DLM projected, leaklib": Arm("DLM projected", None, "leaklib", True),
    "DLM+, leaklib": Arm("DLM+", None, "leaklib", True),
    "DLM from 140, leaklib, joint": Arm("DLM", 140.0, "leaklib", False),
    "DLM+, leaklib, joint": Arm("DLM+", None, "leaklib", False),
}


def victims(case: str, count: int) -> Set:
    """The images that are attacked: the same in every case."""
    return Set(*data.load("cifar10", count, seed=0), classes=10)


SETS = {f"{network}, lr {lr:g}": victims for network in NETWORKS for lr in LEARNING_RATES}


def columns(case: str, arm: Arm, private: Set, rows: range) -> dict[str, list]:
    """What is kept of an arm: one entry for each image."""
    network, lr = case.split(", lr ")
    x, y = (part[rows.start : rows.stop] for part in private[:2])
    nets = [NETWORKS[network](seed=i) for i in rows]
    share = partial(client.share_weights, lr=float(lr))
    if arm.attack == "DLG":
        share = client.share_gradient
    leak = stack(share(net, x[i : i + 1], y[i : i + 1]) for i, net in enumerate(nets))

    published = arm.settings == "published"
    start = "normal" if published else "half"
    guesses = [first_guess(start, x.shape[1:], private.classes, i)[0] for i in rows]
    how = {"labels": labels.idlg} if arm.reads else {}
    out = ATTACKS[arm.attack](
        nets[0], leak, (1, *x.shape[1:]),
        start=torch.stack(guesses)[:, None, None],  # (V, R, B, C, H, W)
        solver=PUBLISHED[network] if published else solvers.lbfgs,
        steps=STEPS,
        seed=rows.start,
        **how,
        **({} if arm.k is None else {"unknowns": {"k": arm.k}}),
    )  # fmt: skip
    return {
        "mse": metrics.mse(out.images, x).tolist(),
        "label_right": (out.labels[:, 0] == y).tolist(),
        "objective": out.objective.tolist(),
        "evaluations": out.evaluations.tolist(),
        "converged": out.converged.tolist(),
        "k": out.unknowns["k"].tolist() if arm.attack == "DLM" else [None] * len(x),
    }


@cache
def private_of(case: str, count: int) -> Set:
    return SETS[case](case, count)


def work(count: int, case: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one arm against some of the `count` images of a case."""
    return columns(case, ARMS[arm], private_of(case, count), rows)


def main(arguments: Sequence[str] | None = None, path: Path = RESULTS / "dlm.json") -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, images=IMAGES, chunk=40,
        settings=dict(steps=STEPS, learning_rates=LEARNING_RATES),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
