"""A stream of chance for each purpose, so that no two of them ever share draws.

PyTorch's generators are seeded with 64 bits of which the CPU's reads the low 32 only, and equal
seeds give equal numbers whatever they are for.  So seed and purpose are mixed first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from ._errors import bad

Purpose = Literal[
    "start", "joint labels", "noise", "mask", "batches", "splits", "keys", "maps", "data", "probes"
]
PURPOSES: tuple[str, ...] = get_args(Purpose)


def mixed(seed: int, purpose: Purpose) -> int:
    """The seed of a purpose's own stream: 32 bits of SHA-256("seed purpose").

    seed: any whole number.  Raises ValueError for another seed, or a purpose not in `PURPOSES`.

    >>> mixed(0, "noise") == mixed(0, "mask")
    False
    """
    if purpose not in PURPOSES:
        raise bad("purpose", repr(purpose), f"one of {', '.join(PURPOSES)}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise bad("seed", repr(seed), "a whole number")
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def generator(seed: int, purpose: Purpose, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of the stream of this seed and purpose.

    The same seed gives each purpose other numbers.  Errors as in `mixed`.

    >>> noise, mask = (torch.rand(2, generator=generator(0, p)) for p in ("noise", "mask"))
    >>> torch.equal(noise, mask)
    False
    """
    return torch.Generator(device=device).manual_seed(mixed(seed, purpose))


def weights(seed: int) -> torch.Generator:
    """The generator of a network's first weights, which take their draws from `seed` itself."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def of_layers(seed: int) -> Iterator[None]:
    """PyTorch's layers draw from the global generator: seed it, and give it back untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
