"""Chapter 4: DLG."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from ... import attacks, client, data, defenses, models
from ...leak import stack
from .. import plots
from ..plots import Picture
from ._shared import DIGIT, defended, recovered

NOISE = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
HALF_WIDTHS = (0.05, 0.1, 0.2, 0.5, 1.0)
FEW_STEPS = 200


def initialisation(activation: str = "sigmoid", half_width: float = 0.5) -> Picture:
    """Three digits rebuilt from LeNets with this activation and weights from U(-a, a)."""
    images, rebuilt = _initialisations(activation)
    mine = rebuilt[HALF_WIDTHS.index(half_width)]
    return plots.images(
        {"private": images, "rebuilt": mine},
        caption=f"LeNet with {activation} and weights from U(-{half_width:g}, {half_width:g}), at "
        f"most {FEW_STEPS} evaluations: {recovered(mine, images)}.",
    )


@cache
def _initialisations(activation: str) -> tuple[Tensor, Tensor]:
    """Three digits, and what DLG makes of each at every half-width: (5, 3, C, H, W)."""
    images, numbers = data.load("digits", 3, seed=1)
    leaks = []
    for a in HALF_WIDTHS:
        for i in range(len(images)):
            model = models.init_uniform(models.lenet(1, 28, activation=activation), a, seed=i)
            leaks.append(client.share_gradient(model, images[i : i + 1], numbers[i : i + 1]))
    out = attacks.dlg(model, stack(leaks), DIGIT, steps=FEW_STEPS)
    return images, out.images.reshape(len(HALF_WIDTHS), *images.shape)


def noisy_gradient(noise: float = 1e-2) -> Picture:
    """Three digits rebuilt by DLG when the client adds noise, relative to the gradient's size."""
    images, rebuilt = defended(attacks.dlg, defenses.gaussian, NOISE, relative=True)
    mine = rebuilt[NOISE.index(noise)]
    return plots.images(
        {"private": images, "rebuilt": mine},
        caption=f"Noise of {noise:g} times the gradient's root mean square, of which the attacker "
        f"knows nothing: {recovered(mine, images)}.",
    )
