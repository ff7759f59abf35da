"""The server's loop over clients: FedSGD and FedAvg.  All that crosses the wire is a `Leak`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ._errors import bad
from .client import Defense, Leak, Tensors, share_gradient, share_weights


class Client(NamedTuple):
    """One participant's private data: images (N, C, H, W) and labels (N,)."""

    images: Tensor
    labels: Tensor


def split(
    images: Tensor, labels: Tensor, clients: int, *, alpha: float | None = None, seed: int = 0
) -> list[Client]:
    """Deal a data set out to clients: each image to exactly one, each client at least one image.

    alpha None deals evenly at random.  A positive alpha draws each class's shares from
    Dirichlet(alpha): the smaller, the fewer classes a client sees.  Raises ValueError when there
    are fewer images than clients.  Source of the Dirichlet split: Hsu, Qi & Brown 2019.
    """
    if not 1 <= clients <= len(images):
        raise bad("clients", clients, f"1 to {len(images)}, the number of images")
    if alpha is not None and not alpha > 0:
        raise bad("alpha", alpha, "a positive concentration, or None for an even split")
    rng = np.random.default_rng(seed)
    owner = np.arange(len(images)) % clients
    rng.shuffle(owner)
    if alpha is not None:
        for c in labels.unique():
            mine = (labels == c).nonzero()[:, 0].numpy()
            shares = rng.dirichlet([alpha] * clients)
            owner[mine] = rng.choice(clients, len(mine), p=shares)
        # a client that got nothing takes one image of the richest
        for client in set(range(clients)) - set(owner.tolist()):
            richest = np.bincount(owner, minlength=clients).argmax()
            owner[np.flatnonzero(owner == richest)[0]] = client
    owner = torch.from_numpy(owner).to(labels.device)
    return [Client(images[owner == k], labels[owner == k]) for k in range(clients)]


def fedsgd_round(
    model: nn.Module,
    clients: Sequence[Client],
    *,
    lr: float,
    defense: Defense | None = None,
    seed: int = 0,
) -> list[Leak]:
    """One round of FedSGD: W <- W - lr sum_k (n_k / n) g_k, in place; returns what was sent.

    Each client k sends the gradient of all its n_k images.  Raises ValueError unless lr > 0.
    Source: McMahan et al. 2017, section 2.
    """
    if not lr > 0:
        raise bad("lr", lr, "a positive number")
    leaks = [
        share_gradient(model, *client, defense=defense, seed=seed * len(clients) + k)
        for k, client in enumerate(clients)
    ]
    step = _weighted_mean([leak.update for leak in leaks], clients)
    _assign(model, {name: leaks[0].weights[name] - lr * d for name, d in step.items()})
    return leaks


def fedavg_round(
    model: nn.Module,
    clients: Sequence[Client],
    *,
    lr: float,
    epochs: int = 1,
    batch_size: int | None = 32,
    defense: Defense | None = None,
    seed: int = 0,
) -> list[Leak]:
    """One round of FedAvg: W <- sum_k (n_k / n) W_k, in place; returns what was sent.

    Each client k trains from W for `epochs` passes by SGD and sends its weights W_k.
    Source: McMahan et al. 2017, Algorithm 1.
    """
    leaks = [
        share_weights(
            model, *client, lr=lr, epochs=epochs, batch_size=batch_size,
            defense=defense, seed=seed * len(clients) + k,
        )
        for k, client in enumerate(clients)
    ]  # fmt: skip
    _assign(model, _weighted_mean([leak.update for leak in leaks], clients))
    return leaks


def train(
    model: nn.Module,
    clients: Sequence[Client],
    *,
    rounds: int = 10,
    play: Callable[..., list[Leak]] = fedavg_round,
    test: Client | None = None,
    seed: int = 0,
    **settings: object,
) -> list[float]:
    """Play `rounds` rounds, in place; returns the accuracy after each on `test`, in [0, 1].

    play: `fedavg_round` or `fedsgd_round`; `settings` go to it (lr, epochs, batch_size, defense).
    Without `test` the accuracy is on all clients' own images.
    """
    if not rounds > 0:
        raise bad("rounds", rounds, "a positive number")
    if test is None:
        test = Client(*(torch.cat(parts) for parts in zip(*clients, strict=True)))
    settings.setdefault("lr", 0.5)
    curve = []
    for number in range(rounds):
        play(model, clients, seed=seed * rounds + number, **settings)
        curve.append(accuracy(model, *test))
    return curve


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is at their label, in [0, 1]."""
    return float((model(images).argmax(-1) == labels).float().mean())


def _weighted_mean(updates: Sequence[Tensors], clients: Sequence[Client]) -> Tensors:
    """sum_k (n_k / n) update_k"""
    n = sum(len(client.images) for client in clients)
    return {
        name: sum(len(c.images) / n * u[name] for c, u in zip(clients, updates, strict=True))
        for name in updates[0]
    }


@torch.no_grad()
def _assign(model: nn.Module, W: Tensors) -> None:
    for name, parameter in model.named_parameters():
        if name in W:
            parameter.copy_(W[name])
