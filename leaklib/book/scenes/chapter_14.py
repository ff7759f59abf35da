"""Chapter 14: random gradient masking, and its rivals by the same protocol."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ... import adaptive, attacks, client, data, defenses, distances, metrics, models, priors
from ...leak import Leak, join, stack
from .. import plots
from ..plots import Picture
from ._shared import Tried, lenets, messages, scored

MASKED_FACES = (25, 31, 50)  # of a hundred
MASKS = (1e-2, 3e-2, 5e-2, 0.1, 0.5, 0.9, 0.95, 0.98, 0.99)


OBFUSCATIONS = {
    "masking, p": Tried(defenses.random_mask, MASKS, lambda p: dict(defend=adaptive.entries_sent)),
    "clipping, C": Tried(
        defenses.clip, (20.0, 10.0, 1.0, 1e-2), lambda C: dict(defend=adaptive.scale_free)
    ),
    "pruning, p": Tried(
        defenses.prune,
        (0.5, 0.7, 0.9, 0.98, 0.995),
        lambda p: dict(defend=adaptive.entries_sent),
    ),
    "noising, σ": Tried(
        defenses.gaussian,
        (3e-2, 6e-2, 0.1),
        lambda sigma: dict(distance=distances.likelihood(sigma), prior=priors.smooth()),
    ),
}
NAIVE_STEPS, KNOWING_STEPS = 100, 200


@cache
def obfuscated(name: str) -> tuple[Tensor, list[Leak]]:
    """Three faces (3, 1, 25, 25), and for each strength what their clients send, stacked."""
    faces, _ = data.load("faces")
    images = faces[list(MASKED_FACES)]
    make, strengths, _ = OBFUSCATIONS[name]
    people, nets = torch.arange(len(images)), lenets(1, 25)
    return images, [
        stack(messages(client.share_gradient, nets, images, people, defense=make(strength)))
        for strength in strengths
    ]


@cache
def rebuilt_from(name: str) -> dict[str, Tensor]:
    """What two attackers make of it: {attacker: (strengths, 3, 1, 25, 25)}.

    Both are told the labels, so that they differ only in what they know of the defence.  Strengths
    against which the same knowledge helps share one batch.
    """
    images, leaks = obfuscated(name)
    _, strengths, knowing = OBFUSCATIONS[name]
    same = "distance" not in knowing(strengths[0])
    batches = [join(leaks)] if same else leaks
    tried = {
        "naive": [_attack(join(leaks), NAIVE_STEPS)],
        "knows the defence": [
            _attack(batch, KNOWING_STEPS, **knowing(strength))
            for batch, strength in zip(batches, strengths, strict=False)
        ],
    }
    shape = (len(strengths), *images.shape)
    return {attacker: torch.cat(found).reshape(shape) for attacker, found in tried.items()}


def ssim_behind(name: str) -> dict[str, Tensor]:
    """The SSIM of `rebuilt_from`: {attacker: (strengths, 3)}."""
    images, _ = obfuscated(name)
    return {
        attacker: torch.stack([metrics.ssim(batch, images) for batch in found])
        for attacker, found in rebuilt_from(name).items()
    }


def masked_faces(p: float = 0.5) -> Picture:
    """Three faces behind a random mask, as two attackers rebuild them.

    The data are "sent", the numbers that arrive, and "per_pixel" of them, means over the faces, and
    "ssim" {attacker: median}.
    """
    images, leaks = obfuscated("masking, p")
    i = MASKS.index(p)
    sent = sum(int((d != 0).sum()) for d in leaks[i].direction.values()) / len(images)
    per_pixel = sent / images[0].numel()
    ssim = {who: float(scores[i].median()) for who, scores in ssim_behind("masking, p").items()}
    return plots.images(
        {"private": images, **{a: found[i] for a, found in rebuilt_from("masking, p").items()}},
        caption=f"Masked: {p:g} of the entries. Sent: {sent:,.0f} numbers, {per_pixel:.1f} for "
        f"each pixel. Median SSIM: {scored(ssim)}.",
        data={"sent": sent, "per_pixel": per_pixel, "ssim": ssim},
    )


def _attack(leaks: Leak, steps: int, **settings: object) -> Tensor:
    truth = torch.arange(len(MASKED_FACES)).repeat(leaks.victims // len(MASKED_FACES))
    out = attacks.dlg(
        models.lenet(1, 25), leaks, (1, 1, 25, 25), labels=truth[:, None], steps=steps, **settings
    )
    return out.images
