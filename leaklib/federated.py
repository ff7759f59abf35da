"""The server's loop over clients: FedSGD and FedAvg.  All that crosses the wire is a `Leak`."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from . import random
from ._errors import positive, require
from ._numbers import total
from .client import Defense, InPlaceOfGradient, OnWeights, share_gradient, share_weights
from .leak import Leak, Tensors, without

__all__ = ["Client", "split", "drawn", "fedsgd_round", "fedavg_round", "train", "accuracy",
           "assign", "mask_pairwise", "unmask_sum"]  # fmt: skip


class Client(NamedTuple):
    """One participant's private data: images (N, C, H, W) and labels (N,)."""

    images: Tensor
    labels: Tensor


def split(
    images: Tensor, labels: Tensor, clients: int, *, alpha: float | None = None, seed: int = 0
) -> list[Client]:
    """Deal a data set out to clients: each image to exactly one, each client at least one image.

    alpha: None deals evenly at random; alpha > 0 draws each class's shares from Dirichlet(alpha)
    (Hsu, Qi & Brown 2019).  Raises ValueError for another, and for more clients than images.
    """
    n = len(images)
    require(1 <= clients <= n, "clients", clients, f"1 to {n}, the number of images")
    rng = np.random.default_rng(random.mixed(seed, "splits"))
    owner = np.arange(n) % clients
    rng.shuffle(owner)
    if alpha is not None:
        positive("alpha", alpha, "a concentration, or None for an even split")
        for c in labels.unique():
            mine = (labels == c).cpu().numpy()
            owner[mine] = rng.choice(clients, mine.sum(), p=rng.dirichlet([alpha] * clients))
        # a client that got nothing takes one image of the richest
        for client in set(range(clients)) - set(owner.tolist()):
            richest = np.bincount(owner, minlength=clients).argmax()
            owner[np.flatnonzero(owner == richest)[0]] = client
    rows = [torch.from_numpy(np.flatnonzero(owner == k)) for k in range(clients)]
    return [Client(images[mine], labels[mine]) for mine in rows]


def drawn(client: Client, size: int | None, seed: int) -> Client:
    """`size` of a client's images, by seed; all of them where it has no more, or size is None."""
    if size is None or size >= len(client.images):
        return client
    rows = torch.randperm(len(client.images), generator=random.generator(seed, "batches"))[:size]
    return Client(client.images[rows], client.labels[rows])


def fedsgd_round(
    model: nn.Module, clients: Sequence[Client],
    *, lr: float, batch_size: int | None = None, defense: Defense | None = None, seed: int = 0,
) -> list[Leak]:  # fmt: skip
    """One round of FedSGD: W <- W - lr sum_k (n_k / n) g_k, in place; returns what was sent.

    Client k sends the gradient of all its n_k images, or of `batch_size` of them, drawn by `seed`.
    ValueError unless lr and batch_size are positive.  Source: McMahan et al. 2017, section 2.
    """
    positive("lr", lr)
    if batch_size is not None:
        positive("batch_size", batch_size)
    leaks = [
        share_gradient(model, *drawn(client, batch_size, number), defense=defense, seed=number)
        for number, client in enumerate(clients, start=seed * len(clients))
    ]
    step = _weighted_mean([leak.update for leak in leaks], clients)
    assign(model, {name: leaks[0].weights[name] - lr * d for name, d in step.items()})
    return leaks


def fedavg_round(
    model: nn.Module, clients: Sequence[Client],
    *, lr: float, epochs: int = 1, batch_size: int | None = 32, defense: Defense | None = None,
    private: list[Tensors] | None = None, seed: int = 0,
) -> list[Leak]:  # fmt: skip
    """One round of FedAvg: W <- sum_k (n_k / n) W_k, in place; returns what was sent.

    Client k trains from W for `epochs` passes by SGD and sends its weights W_k, defended.
    private: what each trains with but does not send, such as `keylock.private(model)`; replaced.
    Raises ValueError unless each client has one, and as `client.share_weights` does.
    Source: McMahan et al. 2017, Algorithm 1; Ren et al. 2023, published code (private parts).
    """
    n, private = len(clients), [{} for _ in clients] if private is None else private
    require(len(private) == n, "private", f"{len(private)} of them", f"{n}, one for each client")
    leaks = []
    for k, (client, kept) in enumerate(zip(clients, private)):
        leak = share_weights(
            assign(model, kept), *client, lr=lr, epochs=epochs, batch_size=batch_size,
            defense=_of_shared(defense, kept), seed=seed * n + k,
        )  # fmt: skip
        private[k] = {name: leak.update.get(name, tensor) for name, tensor in kept.items()}
        leaks.append(without(leak, kept))
    assign(model, _weighted_mean([leak.update for leak in leaks], clients))
    return leaks


def train(
    model: nn.Module, clients: Sequence[Client], *, test: Client, rounds: int = 10,
    play: Callable[..., list[Leak]] = fedavg_round, seed: int = 0, **settings: Any,
) -> list[float]:  # fmt: skip
    """Play `rounds` rounds, in place; returns the accuracy after each on `test`, in [0, 1].

    play: `fedavg_round` or `fedsgd_round`, to which `settings` go.  With `private` the accuracy is
    the mean over the clients' own networks.  Raises ValueError unless rounds > 0, and as `play`.
    """
    positive("rounds", rounds)
    curve = []
    for number in range(rounds):
        play(model, clients, seed=seed * rounds + number, **settings)
        each = [accuracy(assign(model, kept), *test) for kept in settings.get("private") or [{}]]
        curve.append(sum(each) / len(each))
    return curve


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is at their label, in [0, 1]."""
    return float((model(images).argmax(-1) == labels).float().mean())


@torch.no_grad()
def assign(model: nn.Module, tensors: Tensors) -> nn.Module:
    """Put tensors into a network, by name; returns it.  Raises ValueError where they do not fit."""
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in tensors.items():
        require(name in held, "tensors", repr(name), f"names of the network: {list(held)}")
        came, wanted = (f"shape {tuple(t.shape)}" for t in (tensor, held[name]))
        require(came == wanted, f"tensors[{name!r}]", came, f"the network's {wanted}")
        held[name].copy_(tensor)
    return model


def mask_pairwise(updates: Sequence[Tensors], seed: int = 0) -> list[Tensors]:
    """What clients send under secure aggregation: masks of each pair hide all but the sum.

        m_k = round(2^24 u_k) + sum_{j > k} r_kj - sum_{j < k} r_jk   mod 2^64

    r_kj uniform on all 64-bit numbers, known to k and j alone (here from `seed`); `unmask_sum` is
    exact to 2^-24.  Nobody drops out or lies.  Source: Bonawitz et al. 2017, section 4.
    Raises ValueError for fewer than two clients, and entries that are not below 2^39 / n.
    """
    n = len(updates)
    require(n >= 2, "updates", f"{n} of them", "two clients or more")
    most = 2**39 / n  # n of them stay below 2^63 / 2^24
    fit = all(bool((t.abs() < most).all()) for u in updates for t in u.values())
    require(fit, "updates", f"entries that are not below {most:g}", "entries whose sum fits")
    masked = [{a: (2**24 * t.double()).round().long() for a, t in u.items()} for u in updates]
    for k, j in combinations(range(n), 2):
        secret = random.generator((seed * n + k) * n + j, "secrets")
        for name, tensor in masked[k].items():
            r = torch.empty(tensor.shape, dtype=torch.int64)
            r = r.random_(-(2**63), None, generator=secret).to(tensor.device)
            masked[k][name], masked[j][name] = tensor + r, masked[j][name] - r
    return masked


def unmask_sum(masked: Sequence[Tensors]) -> Tensors:
    """The sum of the updates behind `mask_pairwise`, float64: 2^-24 (sum_k m_k mod 2^64)."""
    return {name: total(m[name] for m in masked).double() / 2**24 for name in masked[0]}


def _of_shared(defense: Defense | None, kept: Tensors) -> Defense | None:
    """The defence, of the tensors that a client sends and not of those that it keeps."""
    if defense is None or not kept or isinstance(defense, InPlaceOfGradient):
        return defense
    if isinstance(defense, OnWeights):
        return defense._replace(change=_of_shared(defense.change, kept))
    sent = lambda tensors: {name: t for name, t in tensors.items() if name not in kept}  # noqa: E731
    return lambda tensors, generator: {**tensors, **defense(sent(tensors), generator)}


def _weighted_mean(updates: Sequence[Tensors], clients: Sequence[Client]) -> Tensors:
    """sum_k (n_k / n) update_k"""
    n = sum(len(client.images) for client in clients)
    shares = [len(client.images) / n for client in clients]
    return {name: total(s * u[name] for s, u in zip(shares, updates)) for name in updates[0]}
