"""Chapter 11: many local steps."""

from __future__ import annotations

from functools import cache

from torch import Tensor, nn

from ... import attacks, client, data, distances, models
from ...leak import Leak, stack
from .. import plots
from ..plots import Picture

LOCAL_STEPS = (1, 2, 4, 8)
LOCAL_RATES = (0.001, 0.01, 0.1)
LOCAL_ATTACKS = ("single step", "surrogate", "simulated")
EVALUATIONS = 80


@cache
def coffee() -> tuple[nn.Module, Tensor, Tensor]:
    """The network, and the cup of coffee (1, C, H, W) with its label (1,)."""
    images, numbers = data.load("photos")
    i = data.PICTURES.index("coffee")
    return models.lenet(classes=10, seed=0), images[i : i + 1], numbers[i : i + 1]


def after_steps(name: str) -> Tensor:
    """What an attack of `LOCAL_ATTACKS` makes of each: (rates, steps, C, H, W)."""
    return _attacked(name)[0]


def middles() -> Tensor:
    """The surrogate's alpha for each learning rate and number of steps: (rates, steps)."""
    return _attacked("surrogate")[1]


@cache
def _attacked(name: str) -> tuple[Tensor, Tensor | None]:
    model, x, _ = coffee()
    shape, size = x.shape, (len(LOCAL_RATES), len(LOCAL_STEPS))
    if name != "simulated":
        predict = attacks.single_step if name == "single step" else attacks.surrogate()
        every = stack([_one(lr, k) for lr in LOCAL_RATES for k in range(size[1])])
        out = attacks.fedavg(model, every, shape, predict=predict, steps=EVALUATIONS)
        alpha = out.unknowns.get("alpha")
        return out.images.reshape(*size, *shape[1:]), alpha if alpha is None else alpha.view(size)
    # one simulated step is the single step
    images = after_steps("single step").clone()
    for r, lr in enumerate(LOCAL_RATES):
        for k, steps in list(enumerate(LOCAL_STEPS))[1:]:
            predict = attacks.simulated(lr, steps=steps)
            out = attacks.fedavg(model, _one(lr, k), shape, predict=predict, steps=EVALUATIONS)
            images[r, k] = out.images[0, 0]
    return images, None


def _one(lr: float, k: int) -> Leak:
    model, x, y = coffee()
    return client.share_weights(model, x, y, lr=lr, steps=LOCAL_STEPS[k])


def local_steps(steps: int = 4, lr: float = 0.01) -> Picture:
    """A cup of coffee out of weights after so many steps at this rate, by three attacks.

    The data are "turned", the angle in degrees between the update and the first gradient, and the
    surrogate's "alpha".
    """
    r, k = LOCAL_RATES.index(lr), LOCAL_STEPS.index(steps)
    model, x, y = coffee()
    first = client.share_gradient(model, x, y).direction
    # 1 - cos = 2 sin^2(angle / 2)
    apart = distances.cosine(_one(lr, k).direction, first)
    turned = 2 * (apart / 2).sqrt().asin().rad2deg().item()
    alpha = middles()[r, k].item()
    return plots.row(
        {"private": x} | {name: after_steps(name)[r, k][None] for name in LOCAL_ATTACKS},
        caption=f"{steps} {'step' if steps == 1 else 'steps'} at learning rate {lr:g} have turned "
        f"the update by {turned:.1f}°. The surrogate looks at {alpha:.2f} of the way. "
        f"{EVALUATIONS} evaluations each.",
        data={"turned": turned, "alpha": alpha},
    )
