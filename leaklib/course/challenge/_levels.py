"""The levels: what a client does at each, what is known of it, and what earns full marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ... import client, defenses, keylock, models
from ..._errors import bad
from ...leak import Leak, Tensors
from ._keys import Draws, normal
from ._networks import Network, build

KEY = 1024  # numbers in a key, as in the paper's code


class Level(NamedTuple):
    """One kind of challenge.

    network  of `Facts`, which says how `model_of` builds it
    shape    (B, C, H, W) of the private batch
    share    (draws, x, y) -> the leak that the client sends
    known    {name: value} and text: what the student is told about the client
    full     PSNR in dB that earns an image full marks
    floor    PSNR in dB where its marks begin; from there they grow linearly up to `full`
    """

    network: Network
    shape: tuple[int, int, int, int]
    share: Callable[[Draws, Tensor, Tensor], Leak]
    known: dict[str, str | int | float]
    text: str
    full: float
    floor: float = 22.0


def level_of(name: str) -> Level:
    """The level of that name.  Raises ValueError, with the names there are, for any other."""
    if name not in LEVELS:
        raise bad("level", f"{name!r:.40}", f"one of {', '.join(LEVELS)}")
    return LEVELS[name]


def _lenet(size: int = 32, width: int = 12) -> Network:
    return dict(name="lenet", channels=3, size=size, classes=10, activation="sigmoid", width=width)


def _filled(draws: Draws, network: Network) -> nn.Module:
    model = build(network)
    draws.fill(dict(model.named_parameters()))
    return _undecided(model, model, network["size"])


@torch.no_grad()
def _undecided(model: nn.Module, judge: nn.Module, size: int) -> nn.Module:
    """Set the last biases so that `judge` gives a grey image the same logit for every class.

    A network drawn from U(-1/2, 1/2) can be so sure of one class that the gradient of an image with
    that label is next to nothing.
    """
    model.fc.bias -= judge(torch.full((1, 3, size, size), 0.5))[0]
    return model


def _sent_as(network: Network, defence: Callable[[Draws], Any] | None = None) -> Callable:
    """share() of a client that sends one gradient; what its defence draws comes from the secret."""

    def share(draws: Draws, x: Tensor, y: Tensor) -> Leak:
        model = _filled(draws, network)
        return client.share_gradient(model, x, y, defense=defence and defence(draws))

    return share


def _trained(network: Network, **training: Any) -> Callable:
    """share() of a client that sends its weights after training."""

    def share(draws: Draws, x: Tensor, y: Tensor) -> Leak:
        return client.share_weights(_filled(draws, network), x, y, **training)

    return share


def _masked(p: float) -> Callable:
    """`defenses.random_mask(p)`, with draws that come from the secret."""

    def defence(draws: Draws) -> defenses.OfDirection:
        def mask(direction: Tensors, generator: torch.Generator) -> Tensors:
            u = draws.like("mask", direction)
            return {name: torch.where(u[name] >= p, d, 0.0) for name, d in direction.items()}

        return mask

    return defence


def _private(clip: float, noise: float) -> Callable:
    """`defenses.dp_sgd(clip, noise)` for one image, with draws that come from the secret."""

    def defence(draws: Draws) -> defenses.OfDirection:
        def add(direction: Tensors, generator: torch.Generator) -> Tensors:
            u = draws.like("noise", direction)
            short = defenses.clip(clip)(direction, generator)
            # g min(1, C / ||g||) + sigma C N(0, I)
            return {name: d + noise * clip * normal(u[name]) for name, d in short.items()}

        return add

    return defence


def _locked(network: Network, gate: str) -> Callable:
    """share() of a client with a lock: its key and its maps come from the secret."""

    def share(draws: Draws, x: Tensor, y: Tensor) -> Leak:
        settings = {name: value for name, value in network.items() if name != "name"}
        key = torch.from_numpy(draws.uniform("key", KEY)).float()
        model = models.lenet_keylock(**settings, gate=gate, key=key)
        parameters, private = dict(model.named_parameters()), keylock.private(model)
        draws.fill({n: p for n, p in parameters.items() if n not in private})
        # the maps keep PyTorch's law, U(-1, 1) / sqrt(L), but not PyTorch's draws
        maps = {n: p for n, p in parameters.items() if n in private}
        draws.fill(maps, "maps", KEY**-0.5)
        # the mean gains of sigmoid gates: biases that depend on the key would give it away
        judge = keylock.opened(model)
        judge.lock.gamma.fill_(0.5), judge.lock.beta.fill_(0.5)
        _undecided(model, judge, network["size"])
        return keylock.shared(model, client.share_gradient(model, x, y))

    return share


LENET = _lenet()
SMALL = _lenet(size=24, width=32)
OPENED = {**_lenet(size=24), "name": "lenet_opened", "norm": False}

# `full` lies below what the book's attack reached for the worst of 24 students, and `floor` above
# what the best picture of a single colour can reach (`_pool.FLATTEST`)
LEVELS: dict[str, Level] = {
    "gradient": Level(
        network=LENET,
        shape=(1, 3, 32, 32),
        share=_sent_as(LENET),
        known=dict(steps=1),
        text="The client sent the gradient of one image, as it was.",
        full=30,
    ),
    "batch": Level(
        network=SMALL,
        shape=(4, 3, 24, 24),
        share=_sent_as(SMALL),
        known=dict(steps=1),
        text="The client sent the mean gradient of four images, whose labels all differ.",
        full=30,
    ),
    "one_step": Level(
        network=LENET,
        shape=(1, 3, 32, 32),
        share=_trained(LENET, lr=0.1),
        known=dict(steps=1, optimizer="sgd"),
        text="The client made one step of SGD on one image, at a learning rate that is not told, "
        "and sent its new weights.",
        full=30,
    ),
    "many_steps": Level(
        network=LENET,
        shape=(1, 3, 32, 32),
        share=_trained(LENET, lr=0.005, steps=8),
        known=dict(steps=8, optimizer="sgd", lr=0.005),
        text="The client made eight steps of SGD at the learning rate 0.005, each on the same one "
        "image, and sent its new weights.",
        full=29,
    ),
    "pruned": Level(
        network=LENET,
        shape=(1, 3, 32, 32),
        share=_sent_as(LENET, lambda draws: defenses.prune(0.6)),
        known=dict(steps=1, defence="prune", p=0.6),
        text="The client set the smallest 60 % of each tensor's entries to zero in the gradient of "
        "one image, and sent what was left.",
        full=25,
    ),
    "masked": Level(
        network=LENET,
        shape=(1, 3, 32, 32),
        share=_sent_as(LENET, _masked(0.5)),
        known=dict(steps=1, defence="random_mask", p=0.5),
        text="The client set each entry of the gradient of one image to zero with probability 1/2, "
        "and sent the others as they were.",
        full=26,
    ),
    "keylocked": Level(
        network=OPENED,
        shape=(1, 3, 24, 24),
        share=_locked(OPENED, "sigmoid"),
        known=dict(steps=1, defence="keylock", gate="sigmoid"),
        text="The client's first layer is behind a lock without normalisation: its gains and "
        "shifts come from a private key by a sigmoid gate, and were not sent. The client sent the "
        "gradient of one image with respect to everything else.",
        full=27,
    ),
    "dp": Level(
        network=LENET,
        shape=(1, 3, 32, 32),
        share=_sent_as(LENET, _private(1.0, 2e-4)),
        known=dict(steps=1, defence="dp_sgd", clip=1.0, noise=2e-4),
        text="The client clipped the gradient of one image to the norm 1, and added normal noise "
        "with a standard deviation of 0.0002 to each entry. Not everything can be recovered.",
        full=24,
    ),
}  # fmt: skip
"""The levels by name, in the order of the book."""
