"""Chapter 13: a client that sends less, or less exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from ... import adaptive, attacks, client, data, defenses, metrics, models
from ...leak import Leak, stack
from .. import plots
from ..plots import Picture
from ._shared import lenets, messages, photographs, scored

ATTACKED = ("astronaut", "rocket", "temple")
PRUNED_SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
BITS = (2, 3, 4, 8)
PHOTO_STEPS = 120
DIGIT_SHARES = (0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995)


def _rebuilt(sent: Sequence[Callable], defend: Callable[..., Tensor] | None) -> tuple[Leak, Tensor]:
    """The photographs' leaks under each defence, and what iDLG sees (len(sent), 3, 3, 32, 32)."""
    images, labels = photographs(ATTACKED)
    leaks = stack(
        leak
        for defense in sent
        for leak in messages(
            client.share_gradient, lenets(3, 32, classes=8), images, labels, defense=defense
        )
    )
    out = attacks.idlg(
        models.lenet(classes=8), leaks, (1, 3, 32, 32), defend=defend, steps=PHOTO_STEPS
    )
    return leaks, out.images.reshape(len(sent), *images.shape)


@cache
def pruned() -> tuple[Tensor, dict[str, Tensor]]:
    """(entries sent, for each of the shares;  {"naive", "adaptive": (5, 3, 3, 32, 32)})."""
    sent = [defenses.prune(p) for p in PRUNED_SHARES]
    leaks, naive = _rebuilt(sent, None)
    arrived = torch.cat([d.flatten(1) for d in leaks.direction.values()], 1) != 0
    kept = arrived.sum(1)[:: len(ATTACKED)]
    return kept, {"naive": naive, "adaptive": _rebuilt(sent, adaptive.entries_sent)[1]}


@cache
def quantized() -> dict[str, Tensor]:
    """{"naive", "adaptive": (4, 3, 3, 32, 32)} for each number of bits."""
    cells = [_rebuilt([defenses.quantize(b)], adaptive.within_cells(b))[1] for b in BITS]
    naive = _rebuilt([defenses.quantize(b) for b in BITS], None)[1]
    return {"naive": naive, "adaptive": torch.cat(cells)}


def likeness(images: Tensor) -> float:
    """The median SSIM of three rebuilt photographs."""
    return float(metrics.ssim(images, photographs(ATTACKED)[0]).median())


def pruned_photos(pruned_share: float = 0.9) -> Picture:
    """Three photographs by iDLG from pruned gradients, without and with a look at the zeros.

    The data are "sent", the number of entries, and "ssim" {attacker: median}.
    """
    kept, seen = pruned()
    at = PRUNED_SHARES.index(pruned_share)
    sent = int(kept[at])
    return _both(
        f"{pruned_share:g} of each tensor dropped: {sent:,} entries for 3,072 pixels.",
        {attacker: images[at] for attacker, images in seen.items()},
        sent=sent,
    )


def quantized_photos(bits: int = 4) -> Picture:
    """Three photographs by iDLG from rounded gradients, without and with the cells in mind.

    The data are "levels", how many each tensor has, and "ssim" {attacker: median}.
    """
    levels = 2**bits - 1
    return _both(
        f"{bits} bits an entry, {levels} levels for each tensor.",
        {attacker: images[BITS.index(bits)] for attacker, images in quantized().items()},
        levels=levels,
    )


def _both(caption: str, seen: dict[str, Tensor], **data: int) -> Picture:
    ssim = {attacker: likeness(images) for attacker, images in seen.items()}
    return plots.images(
        {"private": photographs(ATTACKED)[0], **seen},
        titles=ATTACKED,
        caption=f"{caption} Median SSIM: {scored(ssim)}. At most {PHOTO_STEPS} evaluations.",
        data={"ssim": ssim, **data},
    )


@cache
def counted() -> tuple[Tensor, Tensor, Tensor]:
    """Three digits of 12 x 12 pixels, pruned: (entries sent, independent ones, PSNR), each (7, 3).

    How many entries are independent is the rank of their derivative by the pixels, at the digit.
    """
    digits, labels = data.load("digits", 3, size=12)
    digits = digits.double()
    nets = [net.double() for net in lenets(1, 12)]
    leaks = stack(
        leak
        for p in DIGIT_SHARES
        for leak in messages(client.share_gradient, nets, digits, labels, defense=defenses.prune(p))
    )
    out = attacks.idlg(nets[0], leaks, (1, 1, 12, 12), defend=adaptive.entries_sent, steps=250)
    truth = digits.repeat(len(DIGIT_SHARES), 1, 1, 1)
    db = metrics.psnr(out.images[:, 0], truth).reshape(len(DIGIT_SHARES), -1)
    sent = torch.cat([d.flatten(1) for d in leaks.direction.values()], 1) != 0
    sent = sent.reshape(*db.shape, -1)
    ranks = torch.zeros(db.shape, dtype=torch.int64)
    for i, net in enumerate(nets):
        J = slopes(net, digits[i : i + 1], labels[i : i + 1])
        for row, mask in enumerate(sent[:, i]):
            ranks[row, i] = torch.linalg.matrix_rank(J[mask], rtol=1e-6)
    return sent.sum(-1), ranks, db


def slopes(model: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """How each entry of the gradient changes with each pixel of one image: (entries, pixels)."""
    W, buffers = client.state(model)
    g = client.gradient(model)

    def flat(x: Tensor) -> Tensor:
        return torch.cat([d.flatten() for d in g(W, x, y, buffers).values()])

    # u -> J^T u, and its own derivative v -> J v: as many columns as there are pixels
    entries, turned = torch.func.vjp(flat, x)
    times = torch.func.vjp(lambda u: turned(u)[0], torch.zeros_like(entries))[1]
    pixels = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    return torch.func.vmap(lambda v: times(v)[0])(pixels).T
