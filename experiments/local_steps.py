"""Many local steps: images out of weights after 1 to 100 of them (at most an hour on 2 cores).

    python experiments/local_steps.py [--images N] [--sets "sgd, 10 steps" ...] [--chunk 8]
                                      [--workers 2] [--fresh]

A client trains a sigmoid LeNet on one image of CIFAR-10, for so many steps of an optimiser, and
sends its weights.  The label is read first; three attacks start from grey and minimise the cosine:
as if there had been one step (DLM, DLM+), with one gradient somewhere between the two weights
(the surrogate), and by running the client's steps on the guess (the simulation, which alone knows
the learning rate, the optimiser and the number of steps).  The grey start is the control.  Every
arm meets the same images and networks, with weights from U(-0.5, 0.5).
Writes experiments/results/local_steps.json after every chunk of images.
Claim: Zhao, Luo & Ding 2022 (one step); Zhu, Yao & Blaschko 2023; Dimitrov et al. 2022.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch

from _experiment import RESULTS, Set, command_line
from leaklib import attacks, client, data, distances, metrics, models
from leaklib.leak import stack

IMAGES, EVALUATIONS = 8, 100
STEPS = (1, 5, 10, 20, 50, 100)
# Adam's steps have the length of the learning rate, whatever the gradient
LEARNING_RATES = {"sgd": 1e-2, "momentum": 1e-3, "adam": 1e-3}
# what each takes the client's steps to be
ARMS: dict[str, Callable[[str, int], Callable] | None] = {
    "one step": lambda optimizer, steps: attacks.single_step,
    "surrogate": lambda optimizer, steps: attacks.surrogate(),
    "simulation": lambda optimizer, steps: attacks.simulated(
        LEARNING_RATES[optimizer], steps=steps, optimizer=optimizer
    ),
    "the grey start": None,
}


def victims(case: str, count: int) -> Set:
    """The images that are attacked: the same in every case."""
    return Set(*data.load("cifar10", count, seed=0), classes=10)


SETS = {f"{optimizer}, {steps} steps": victims for optimizer in LEARNING_RATES for steps in STEPS}


def columns(case: str, arm: str, private: Set, rows: range) -> dict[str, list]:
    """What is kept of an arm: one entry for each image."""
    optimizer, steps = case.removesuffix(" steps").split(", ")
    x, y = (part[rows.start : rows.stop] for part in private[:2])
    nets = [models.lenet(seed=i) for i in rows]
    training = dict(lr=LEARNING_RATES[optimizer], steps=int(steps), optimizer=optimizer)
    leaks = [
        client.share_weights(net, x[i : i + 1], y[i : i + 1], **training)
        for i, net in enumerate(nets)
    ]
    first = [client.share_gradient(net, x[i : i + 1], y[i : i + 1]) for i, net in enumerate(nets)]
    known = {
        # how far the update has turned from the first gradient
        "turned": [float(distances.cosine(a.direction, b.direction)) for a, b in zip(leaks, first)]
    }
    if ARMS[arm] is None:
        score = metrics.mse(torch.full_like(x, 0.5), x).tolist()
        missing = [None] * len(x)
        return dict(mse=score, label_right=missing, objective=missing, converged=missing, **known)
    out = attacks.fedavg(
        nets[0], stack(leaks), (1, *x.shape[1:]),
        predict=ARMS[arm](optimizer, int(steps)), steps=EVALUATIONS,
    )  # fmt: skip
    return {
        "mse": metrics.mse(out.images, x).tolist(),
        "label_right": (out.labels[:, 0] == y).tolist(),
        "objective": out.objective.tolist(),
        "converged": out.converged.tolist(),
        **known,
    }


@cache
def private_of(case: str, count: int) -> Set:
    return SETS[case](case, count)


def work(count: int, case: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one arm against some of the `count` images of a case."""
    return columns(case, arm, private_of(case, count), rows)


def main(
    arguments: Sequence[str] | None = None, path: Path = RESULTS / "local_steps.json"
) -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, images=IMAGES, chunk=8,
        settings=dict(evaluations=EVALUATIONS, learning_rates=LEARNING_RATES),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
