"""Chapter 15: the key-lock module, and what is behind it."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ... import attacks, client, data, keylock, metrics, models
from ...leak import Leak, stack
from .. import plots
from ..plots import Picture
from ._shared import messages, scored

LOCKED_FACES = (11, 24, 32)  # of a hundred
LOCKS = {
    "ReLU, normalised": ("relu", True),
    "ReLU, bare": ("relu", False),
    "sigmoid, normalised": ("sigmoid", True),
    "sigmoid, bare": ("sigmoid", False),
}
# A k + a is about N(0, 1/9) with PyTorch's first weights and a uniform key of any length
MEAN_GAIN = {"relu": 1 / (3 * math.sqrt(2 * math.pi)), "sigmoid": 0.5}
KEY_HOLDERS = ("true key", "key searched", "nothing known", "guess")
LOCK_EVALUATIONS = (5, 20, 50, 150)


class Locked(NamedTuple):
    """Three faces (3, 1, 25, 25), each behind a lock of its own, and what leaves their clients.

    model  `keylock.opened`, what anyone has of the networks
    sent   the stack of leaks; `with_maps` the same with the two maps of each lock
    gamma, beta  (3, 12) the true gains and shifts, which no attacker has
    """

    images: Tensor
    numbers: Tensor
    model: nn.Sequential
    sent: Leak
    with_maps: Leak
    gamma: Tensor
    beta: Tensor


@cache
def locked(lock: str = "ReLU, normalised") -> Locked:
    """The case of one of the `LOCKS`."""
    gate, norm = LOCKS[lock]
    faces, _ = data.load("faces")
    images, numbers = faces[list(LOCKED_FACES)], torch.tensor([3, 1, 2])
    nets = [
        models.lenet_keylock(1, 25, seed=i, key=keylock.new_key(seed=i), gate=gate, norm=norm)
        for i in range(len(images))
    ]
    leaks = messages(client.share_gradient, nets, images, numbers)
    sent, with_maps = (
        stack([keylock.shared(net, leak, maps) for net, leak in zip(nets, leaks)])
        for maps in (False, True)
    )
    with torch.no_grad():
        gamma, beta = (torch.stack(g) for g in zip(*(net.lock.gains() for net in nets)))
    return Locked(images, numbers, keylock.opened(nets[0]), sent, with_maps, gamma, beta)


@cache
def unlocked(lock: str, who: str) -> attacks.Reconstruction:
    """Those faces by an attacker of `KEY_HOLDERS`."""
    case, (gate, _) = locked(lock), LOCKS[lock]
    mean = torch.full((case.gamma.shape[1],), MEAN_GAIN[gate])
    settings = dict(shape=(1, *case.images.shape[1:]), steps=LOCK_EVALUATIONS[-1])
    if who == "true key":
        leak = keylock.guessed(case.sent, case.gamma, case.beta)
        return attacks.idlg(case.model, leak, **settings)
    if who == "guess":
        return attacks.idlg(case.model, keylock.guessed(case.sent, mean, mean), **settings)
    if who == "nothing known":
        leak = keylock.guessed(case.sent, mean, mean)
        return keylock.attack(case.model, leak, **settings)
    leak = keylock.guessed(case.with_maps, mean, mean)
    return keylock.attack(case.model, leak, predict=keylock.key_searched(gate), **settings)


def lock_opened(evaluations: int = 150, lock: str = "ReLU, normalised") -> Picture:
    """Three faces behind this lock, as four attackers see them after so many evaluations.

    The data are "closed", how many gains are zero, and "ssim" {attacker: median}.
    """
    case = locked(lock)
    rows = {"private": case.images}
    for who in KEY_HOLDERS:
        out = unlocked(lock, who)
        early = {n: seen for n, seen in out.snapshots.items() if n <= evaluations}
        rows[who] = (
            out.images if evaluations == LOCK_EVALUATIONS[-1] else early[max(early)]
        ).flatten(0, 1)
    closed = int((case.gamma == 0).sum())
    ssim = {w: float(metrics.ssim(rows[w], case.images).median()) for w in KEY_HOLDERS}
    return plots.images(
        rows,
        caption=f"{lock[0].upper() + lock[1:]} lock, {closed} of {case.gamma.numel()} gains are "
        f"zero; {evaluations} evaluations. Median SSIM: {scored(ssim)}.",
        data={"closed": closed, "ssim": ssim},
    )
