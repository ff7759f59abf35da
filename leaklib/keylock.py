"""The key-lock module: a first layer whose gains and shifts come from a key that stays private.

A client trains with its own key and two maps, and sends all but them: `shared`.  An attacker has
the network `opened`, without gains and shifts.  Source: Ren et al. 2023 (FedKL), published code.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from . import random
from ._errors import bad, one_of, require
from ._words import Word
from .attacks import idlg
from .attacks.predict import Gradient
from .leak import Leak, Tensors, without

__all__ = ["KeyLock", "Opened", "GATES", "MAPS", "gains", "new_key", "private", "shared", "opened",
           "guessed", "attack", "gains_searched", "key_searched"]  # fmt: skip
GATES = {"relu": torch.relu, "sigmoid": torch.sigmoid, "none": lambda z: z}
MAPS = ("gain.weight", "gain.bias", "shift.weight", "shift.bias")
OPEN, EPS = ("gamma", "beta"), 1e-5


class KeyLock(nn.Module):
    """A convolution behind a lock:  y = gamma n(conv(x)) + beta  for each of its O channels.

        gamma = s(A k + a),  beta = s(B k + b)

    k (L,) the key; A, B (O, L) and a, b (O,) the maps `gain` and `shift`; s a gate of `GATES`.
    n(z) = (z - mean) / sqrt(variance + 1e-5) over the pixels of a channel, or z without `norm`.
    """

    key: Tensor

    def __init__(self, conv: nn.Conv2d, key: Tensor, gate: str = "relu", norm: bool = True):
        super().__init__()
        one_of("gate", gate, GATES)
        self.conv, self.gate, self.norm = conv, gate, norm
        self.gain = nn.Linear(len(key), conv.out_channels)
        self.shift = nn.Linear(len(key), conv.out_channels)
        self.register_buffer("key", key)

    def gains(self) -> tuple[Tensor, Tensor]:
        """(gamma, beta), each (O,)."""
        return gains(dict(self.named_parameters()), self.key, self.gate)

    def forward(self, x: Tensor) -> Tensor:
        return _scaled(self.conv(x), self.norm, *self.gains())


class Opened(nn.Module):
    """A lock as anyone knows it: y = gamma n(conv(x)) + beta, with buffers gamma = 1, beta = 0."""

    gamma: Tensor
    beta: Tensor

    def __init__(self, conv: nn.Conv2d, norm: bool = True):
        super().__init__()
        self.conv, self.norm = conv, norm
        self.register_buffer("gamma", torch.ones(conv.out_channels))
        self.register_buffer("beta", torch.zeros(conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return _scaled(self.conv(x), self.norm, self.gamma, self.beta)


def gains(maps: Tensors, key: Tensor, gate: str) -> tuple[Tensor, Tensor]:
    """(gamma, beta) = (s(A k + a), s(B k + b)), each (O,), of the `MAPS`, a key (L,) and a gate."""
    s, (A, a, B, b) = GATES[gate], (maps[name] for name in MAPS)
    return s(A @ key + a), s(B @ key + b)


def new_key(length: int = 1024, seed: int = 0) -> Tensor:
    """A key (length,) of numbers from U[0, 1); ValueError unless length > 0."""
    require(length > 0, "length", length, "a positive number")
    return torch.rand(length, generator=random.generator(seed, "keys"))


def private(model: nn.Module) -> Tensors:
    """What a client keeps, by name: each lock's key and two maps; ValueError without a lock."""
    names = [f"{lock}.{part}" for lock in _locks(model) for part in (*MAPS, "key")]
    held = model.state_dict()
    return {name: held[name].clone() for name in names}


def shared(model: nn.Module, leak: Leak, maps: bool = False) -> Leak:
    """What leaves the client: the leak without the key and the maps, and without their update.

    maps: they are sent too, among the buffers, as the attacker of the published test has them.
    """
    kept = private(model)
    both = {name: leak.weights[name] for name in kept if maps and name in leak.weights}
    sent = without(leak, kept)
    return replace(sent, buffers={**sent.buffers, **both})


def opened(model: nn.Module) -> nn.Module:
    """The attacker's network: a copy with every lock `Opened`, its parameters named as `shared`."""
    network = deepcopy(model)
    for name, lock in _locks(network).items():
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, Opened(lock.conv, lock.norm))
    return network


def guessed(leak: Leak, gamma: Tensor, beta: Tensor, lock: str = "lock") -> Leak:
    """The leak of `shared`, for `opened`, with gains and shifts of somebody's choice.

    gamma, beta (O,), or (V, O) for a stack; ValueError for others.  lock: the layer's name.
    """
    lead = () if leak.victims is None else (leak.victims,)
    wanted = (*lead, leak.weights[f"{lock}.conv.weight"].shape[len(lead)])
    try:
        both = {f"{lock}.gamma": gamma.expand(wanted), f"{lock}.beta": beta.expand(wanted)}
    except RuntimeError:
        raise bad("gamma, beta", (tuple(gamma.shape), tuple(beta.shape)), f"{wanted}") from None
    return replace(leak, buffers={**leak.buffers, **both})


def _held(name: str, by: str, leaks: Leak) -> Tensor:
    require(name in leaks.buffers, "leak.buffers", f"no {name!r}", f"what keylock.{by} puts there")
    return leaks.buffers[name]  # (V, …)


def _behind(lock: str, g: Gradient, leak: Leak, x: Tensor, q: Tensor, *opens: Tensor) -> Tensors:
    """g(W, x', y) with these (gamma, beta) in the lock."""
    maps = [f"{lock}.{part}" for part in MAPS]
    known = {name: b for name, b in leak.buffers.items() if name not in maps}
    return g(leak.weights, x, q, {**known, **{f"{lock}.{p}": t for p, t in zip(OPEN, opens)}})


@dataclass(frozen=True, repr=False)
class gains_searched(Word):
    """g(W, x', y; gamma, beta), behind a lock whose gains and shifts are searched with the image.

    They begin at the guess of `guessed` (ValueError without), and end in `unknowns["gamma"]` and
    `["beta"]` (V, O).  Nothing private is known.  lock: its name.
    """

    lock: str = "lock"

    @property
    def unknowns(self) -> dict[str, Callable[[Leak], Tensor]]:
        return {part: partial(_held, f"{self.lock}.{part}", "guessed") for part in OPEN}

    def act(self, g: Gradient, leak: Leak, x: Tensor, q: Tensor, c: Tensors) -> Tensors:
        return _behind(self.lock, g, leak, x, q, *(c[part] for part in OPEN))


@dataclass(frozen=True, repr=False)
class key_searched(Word):
    """The same with gamma = s(A k + a), beta = s(B k + b), and k searched from 1/2 everywhere.

    By the published test's attacker, who owns the maps (`shared(…, maps=True)`, or ValueError).
    The result holds `unknowns["key"]` (V, L).  gate: s.  lock: its name.
    """

    gate: str = "relu"
    lock: str = "lock"

    def __post_init__(self) -> None:
        one_of("gate", self.gate, GATES)

    @property
    def unknowns(self) -> dict[str, Callable[[Leak], Tensor]]:
        A = partial(_held, f"{self.lock}.gain.weight", "shared(…, maps=True)")
        return {"key": lambda leaks: torch.full_like(A(leaks)[:, 0], 0.5)}  # (V, O, L) -> (V, L)

    def act(self, g: Gradient, leak: Leak, x: Tensor, q: Tensor, c: Tensors) -> Tensors:
        maps = {part: leak.buffers[f"{self.lock}.{part}"] for part in MAPS}
        return _behind(self.lock, g, leak, x, q, *gains(maps, c["key"], self.gate))


attack = replace(
    idlg, name="Key-lock", predict=gains_searched(),
    about="""The image from behind a lock: its gains and shifts are unknowns beside the image.

    y = labels.idlg(leak);  min over x', gamma, beta of ||g(W, x', y; gamma, beta) - h||^2.

    model: of `keylock.opened`.  leak: of `keylock.shared`, with the first guess of gamma and beta
    by `keylock.guessed`; with the true ones `attacks.idlg` is the positive control.
    `predict=keylock.key_searched(gate)` is the attacker of the published test.
    Source: Ren et al. 2023 (FedKL), published code.

    >>> from leaklib.client import share_gradient
    >>> net = nn.Sequential(KeyLock(nn.Conv2d(1, 6, 3), new_key(8)), nn.Flatten(), nn.Linear(24, 3))
    >>> leak = shared(net, share_gradient(net, torch.rand(1, 1, 4, 4), torch.tensor([2])))
    >>> guess = guessed(leak, torch.ones(6), torch.zeros(6), lock="0")
    >>> attack(opened(net), guess, (1, 1, 4, 4), predict=gains_searched("0"), steps=20).labels
    tensor([[2]])
    """)  # fmt: skip


def _locks(model: nn.Module) -> dict[str, KeyLock]:
    locks = {name: layer for name, layer in model.named_modules() if isinstance(layer, KeyLock)}
    require(locks, "model", "a network without a KeyLock", "one with a lock")
    return locks


def _scaled(z: Tensor, norm: bool, gamma: Tensor, beta: Tensor) -> Tensor:
    """gamma n(z) + beta, (O,) by (N, O, H, W)."""
    if norm:
        # (z - mean) / sqrt(variance + 1e-5), over the pixels
        z = z - z.mean((-2, -1), keepdim=True)
        z = z / (z.square().mean((-2, -1), keepdim=True) + EPS).sqrt()
    return gamma[:, None, None] * z + beta[:, None, None]
