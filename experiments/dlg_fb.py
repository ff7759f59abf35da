"""DLG-FB: feedback blending against starts that need none (at most an hour on 2 cores).

    python experiments/dlg_fb.py [--images N] [--sets mnist cifar10] [--chunk 300] [--workers 2]
                                 [--fresh]

The images of a set are attacked in runs of 20, each image on a sigmoid LeNet of its own with
weights from U(-0.5, 0.5), as in the paper's code.  A run that blends starts each attack at the
blend of its successes so far; a success is an objective below 1e-6.  The other starts are its
controls.  Every arm meets the same images, networks and, until there is something to blend, the
same noise.  Writes experiments/results/dlg_fb.json after every chunk of images.
Claim: Leite et al. 2024.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import idlg
from _experiment import RESULTS, Set, command_line
from leaklib import attacks, client, data, metrics, models
from leaklib._errors import bad
from leaklib.leak import stack

IMAGES = {"mnist": 300, "cifar10": 60}
RUN, ALPHA = 20, 0.5  # images in a run, and what a blend keeps of the old one
SETS = {name: idlg.SETS[name] for name in IMAGES}


class Arm(NamedTuple):
    """One way to attack: "DLG" or "iDLG", a start, and a name out of `idlg.SOLVERS`.

    start: a name out of `attacks.STARTS`; "mean" of images that are not attacked; "blend"; or
    "blend of all", which takes in failures too.
    """

    attack: str
    start: str
    solver: str


BLENDS = ("blend", "blend of all")
ARMS = {
    ", ".join(arm): arm
    for arm in (
        *(
            Arm("iDLG", start, by)
            for by in ("published", "safeguarded")
            for start in ("normal", "uniform", "half", "zeros", "mean", "blend")
        ),
        Arm("iDLG", "blend of all", "published"),
        *(Arm("DLG", start, "published") for start in ("normal", "blend")),
        *(Arm("iDLG", start, "leaklib") for start in ("half", "mean", "blend")),
    )
}


def mean_image(name: str, count: int) -> Tensor:
    """The mean (C, H, W) of those images of a set that are not among the `count` victims."""
    images, _ = data.load(name, len(data.load(name)[1]), seed=0)  # the victims come first
    return images[count:].mean(0)


def in_step(arm: Arm, victims: Set, rows: range) -> attacks.Reconstruction:
    """The runs that the images numbered `rows` make up, all of them one attack further at a time.

    Runs know nothing of each other: `attacks.dlg_fb` of each gives the same, one after the other.
    """
    if rows.start % RUN:
        raise bad("chunk", f"images {rows.start} to {rows.stop}", f"a multiple of {RUN}")
    runs = [list(range(first, min(first + RUN, rows.stop))) for first in rows[::RUN]]
    blends: dict[int, Tensor] = {}  # of the runs that have one
    found = {}
    for step in range(RUN):
        now = [run[step] for run in runs if step < len(run)]
        noise = dict(zip(now, guesses("normal", victims, now), strict=True))
        starts = torch.stack([blends.get(i // RUN, noise[i]) for i in now])
        out = attack(arm, victims, now, starts)
        for k, i in enumerate(now):
            found[i] = attacks.Reconstruction(*(part[k] for part in out[:6]), snapshots={})
            if out.objective[k] < idlg.STOP or arm.start == "blend of all":
                # m <- alpha m + (1 - alpha) x^
                x, m = out.images[k, 0], blends.get(i // RUN)
                blends[i // RUN] = x if m is None else ALPHA * m + (1 - ALPHA) * x
    return stacked([found[i] for i in rows])


def stacked(outs: Sequence[attacks.Reconstruction]) -> attacks.Reconstruction:
    """Results of single victims as one, without their traces."""
    parts = zip(*(out[:4] for out in outs), strict=True)
    trace = torch.empty(len(outs), 0)
    evaluations = torch.stack([out.evaluations for out in outs])
    return attacks.Reconstruction(*map(torch.stack, parts), trace, evaluations, snapshots={})


def guesses(start: str, victims: Set, rows: Sequence[int]) -> list[Tensor]:
    """The first guess (C, H, W) of each image, by its own generator."""
    shape = victims.images.shape[1:]
    return [idlg.first_guess(start, shape, victims.classes, i)[0] for i in rows]


def attack(arm: Arm, victims: Set, rows: Sequence[int], starts: Tensor) -> attacks.Reconstruction:
    """One attack on each of the images numbered `rows`, from starts (V, C, H, W), all at once."""
    images, numbers, classes = victims
    nets = [models.lenet(images.shape[1], images.shape[2], classes, seed=i) for i in rows]
    leak = stack(
        client.share_gradient(net, images[i : i + 1], numbers[i : i + 1])
        for net, i in zip(nets, rows, strict=True)
    )
    u = None
    if arm.attack == "DLG":
        drawn = [idlg.first_guess("zeros", images.shape[1:], classes, i)[1] for i in rows]
        u = torch.stack(drawn)
    return idlg.ATTACKS[arm.attack](
        nets[0], leak, (1, *images.shape[1:]),
        start=starts[:, None, None],  # (V, R, B, C, H, W)
        solver=idlg.as_published(idlg.SOLVERS[arm.solver], u),
        steps=idlg.STEPS,
    )  # fmt: skip


def run(arm: Arm, victims: Set, mean: Tensor, rows: range) -> attacks.Reconstruction:
    """One arm against the images numbered `rows`."""
    if arm.start in BLENDS:
        return in_step(arm, victims, rows)
    if arm.start == "mean":
        starts = mean.expand(len(rows), *mean.shape)
    else:
        starts = torch.stack(guesses(arm.start, victims, rows))
    return attack(arm, victims, rows, starts)


def columns(arm: Arm, victims: Set, mean: Tensor, rows: range) -> dict[str, list]:
    """What is kept of an arm: one entry for each image."""
    out, of = run(arm, victims, mean, rows), slice(rows.start, rows.stop)
    return {
        "mse": metrics.mse(out.images, victims.images[of]).tolist(),
        "label_right": (out.labels[:, 0] == victims.labels[of]).tolist(),
        "objective": out.objective.tolist(),
        "evaluations": out.evaluations.tolist(),
    }


@cache
def victims_of(name: str, count: int) -> tuple[Set, Tensor]:
    return SETS[name](name, count), mean_image(name, count)


def work(count: int, name: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one arm against some of the `count` images of a set."""
    return columns(ARMS[arm], *victims_of(name, count), rows)


def main(
    arguments: Sequence[str] | None = None, path: Path = RESULTS / "dlg_fb.json"
) -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, images=IMAGES, chunk=300,
        settings=dict(run=RUN, alpha=ALPHA, steps=idlg.STEPS, stop=idlg.STOP),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
