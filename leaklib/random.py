"""A stream of chance for each purpose, so that no two of them ever share draws.

PyTorch's generators are seeded with 64 bits of which the CPU's reads the low 32 only, and equal
seeds give equal numbers whatever they are for.  So seed and purpose are mixed first.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Literal, get_args

import torch

from ._errors import bad, one_of

__all__ = ["PURPOSES", "Purpose", "mixed", "generator", "child", "weights", "of_layers"]

Purpose = Literal[
    "start", "joint labels", "noise", "mask", "batches", "splits", "keys", "maps", "data",
    "secrets", "probes",
]  # fmt: skip
PURPOSES: tuple[str, ...] = get_args(Purpose)


def mixed(seed: int, purpose: Purpose) -> int:
    """The seed of a purpose's own stream: 32 bits of SHA-256("seed purpose").

    seed: any whole number.  Raises ValueError for another seed, or a purpose not in `PURPOSES`.

    >>> mixed(0, "noise") == mixed(0, "mask")
    False
    """
    one_of("purpose", purpose, PURPOSES)
    if isinstance(seed, bool) or not isinstance(seed, Integral):
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


def child(parent: torch.Generator, purpose: Purpose) -> torch.Generator:
    """A generator of another purpose, seeded by the next draw of `parent`, on the same device.

    So a defence that is given the stream for noise draws its mask apart from it, and another mask
    each time that it is called.  Raises ValueError for an unknown purpose.

    >>> noise = generator(0, "noise")
    >>> child(noise, "mask").initial_seed() == child(noise, "mask").initial_seed()
    False
    """
    seed = torch.randint(2**62, (), generator=parent, device=parent.device)
    return generator(int(seed), purpose, parent.device)


def weights(seed: int) -> torch.Generator:
    """The generator of a network's first weights, which take their draws from `seed` itself."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def of_layers(seed: int) -> Iterator[None]:
    """PyTorch's layers draw from the global generator: seed it, and give it back untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
