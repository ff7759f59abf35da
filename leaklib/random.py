"""A stream of chance for each purpose, so that no two of them ever share draws.

PyTorch's CPU generator reads the low 32 bits of its seed alone, so seed and purpose are mixed.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import torch

from ._errors import one_of, require

__all__ = ["PURPOSES", "mixed", "generator", "child", "weights", "of_layers"]

PURPOSES = ("start", "joint labels", "noise", "mask", "batches", "splits", "keys", "maps", "data",
            "secrets", "probes")  # fmt: skip


def mixed(seed: int, purpose: str) -> int:
    """32 bits of SHA-256("seed purpose"); ValueError for no whole number, and for no purpose."""
    one_of("purpose", purpose, PURPOSES)
    _check(seed)
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:4], "big")


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of the stream of this seed and purpose.  Raises as `mixed` does."""
    return torch.Generator(device).manual_seed(mixed(seed, purpose))


def child(parent: torch.Generator, purpose: str) -> torch.Generator:
    """A generator of another purpose on the same device, seeded by the next draw of `parent`."""
    seed = torch.randint(2**62, (), generator=parent, device=parent.device)
    return generator(int(seed), purpose, parent.device)


def weights(seed: int) -> torch.Generator:
    """The generator of a network's first weights, which take their draws from `seed` itself."""
    _check(seed)
    return torch.Generator().manual_seed(seed)


@contextmanager
def of_layers(seed: int) -> Iterator[None]:
    """PyTorch's layers draw from the global generator: seed it, and give it back untouched."""
    _check(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _check(seed: int) -> None:
    # PyTorch would cut 1.5 to 1
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    require(whole, "seed", repr(seed), "a whole number")
