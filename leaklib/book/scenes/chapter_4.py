"""Chapter 4: DLG."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from ... import attacks, client, data, defenses, models
from ...leak import stack
from ..plots import Picture
from ._shared import DIGIT, defended, lenets, messages, rebuilt

NOISE = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
HALF_WIDTHS = (0.05, 0.1, 0.2, 0.5, 1.0)
FEW_STEPS = 200


def initialization(activation: str = "sigmoid", half_width: float = 0.5) -> Picture:
    """Three digits rebuilt from LeNets with this activation and weights from U(-a, a)."""
    images, found = _initializations(activation)
    return rebuilt(
        images,
        found[HALF_WIDTHS.index(half_width)],
        caption=f"LeNet with {activation} and weights from U(-{half_width:g}, {half_width:g}), at "
        f"most {FEW_STEPS} evaluations",
    )


@cache
def _initializations(activation: str) -> tuple[Tensor, Tensor]:
    """Three digits, and what DLG makes of each at every half-width: (5, 3, C, H, W)."""
    images, numbers = data.load("digits", 3, seed=1)
    leaks = []
    for a in HALF_WIDTHS:
        nets = lenets(1, 28, activation=activation)
        nets = [models.init_uniform(net, a, seed=i) for i, net in enumerate(nets)]
        leaks += messages(client.share_gradient, nets, images, numbers)
    out = attacks.dlg(nets[0], stack(leaks), DIGIT, steps=FEW_STEPS)
    return images, out.images.reshape(len(HALF_WIDTHS), *images.shape)


def noisy_gradient(noise: float = 1e-2) -> Picture:
    """Three digits rebuilt by DLG when the client adds noise, relative to the gradient's size."""
    images, found = defended(attacks.dlg, defenses.gaussian, NOISE, relative=True)
    return rebuilt(
        images,
        found[NOISE.index(noise)],
        caption=f"Noise of {noise:g} times the gradient's root mean square, of which the attacker "
        "knows nothing",
    )
