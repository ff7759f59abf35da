"""What a client does to an update before it leaves.

Each is a function of the direction, (direction, generator) -> direction, made by a call such as
`gaussian(1e-2)`.  It leaves its input untouched.  The attacker who does not know of the defence
compares its own clean gradient with what was sent; `defend` in an attack is the one who does.
"""

from __future__ import annotations

import torch

from ._errors import bad
from .client import Defense, Tensors


def gaussian(sigma: float, relative: bool = False) -> Defense:
    """Add independent noise to every entry: g + sigma N(0, I).

    sigma >= 0 is absolute; with `relative` it is a multiple of the root mean square of the whole
    direction.  This is noise, not differential privacy: nothing bounds what one image can change.
    Raises ValueError for a negative sigma.  Source: Zhu et al. 2019 (noisy gradients).
    """
    if not sigma >= 0:
        raise bad("sigma", sigma, "a standard deviation of at least 0")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        scale = sigma * (_root_mean_square(direction) if relative else 1)
        return {
            name: d + scale * torch.randn(d.shape, generator=generator, device=d.device).to(d)
            for name, d in direction.items()
        }

    return defend


def prune(p: float) -> Defense:
    """Set to zero the share p of each tensor's entries that are smallest in magnitude.

    0 <= p <= 1; floor(p n) of n entries are dropped.  Raises ValueError for another p.
    Source: Zhu et al. 2019 (gradient compression).
    """
    if not 0 <= p <= 1:
        raise bad("p", p, "a share from 0 to 1")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        kept = {}
        for name, d in direction.items():
            smallest = d.abs().flatten().argsort()[: int(p * d.numel())]
            kept[name] = d.flatten().index_fill(0, smallest, 0).reshape(d.shape)
        return kept

    return defend


def _root_mean_square(direction: Tensors) -> float:
    total = sum(d.square().sum() for d in direction.values())
    return float((total / sum(d.numel() for d in direction.values())).sqrt())
