"""Pictures as sums of cosines, and how large each of them is to be expected: `solvers.lbfgs`."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor


def scales(start: Tensor) -> Tensor:
    """s (P, 1, C, H, W) for every frequency of the pictures that start at (P, B, C, H, W)."""
    C, H, W = start.shape[-3:]
    down, right = (torch.arange(n).to(start) for n in (H, W))
    brightness = torch.tensor([1.0] + [0.09 if C == 3 else 1.0] * (C - 1)).to(start)
    pictures = brightness[:, None, None] / (1 + down[:, None].square() + right.square())
    fine = (cosines(H, start) @ start @ cosines(W, start).mT)[..., H // 2 :, W // 2 :]
    noise = fine.square().mean((1, 2, 3, 4)).clamp(max=1e3) / 10  # (P,)
    return (pictures + noise[:, None, None, None, None]) ** 0.25


def picture(coefficients: Tensor) -> Tensor:
    """Pictures (P, B, C, H, W) from those of the cosines over height, width and three colours."""
    C, H, W = coefficients.shape[-3:]
    x = cosines(H, coefficients).mT @ coefficients @ cosines(W, coefficients)
    if C != 3:
        return x
    return (cosines(3, x).mT @ x.flatten(-2)).reshape(x.shape)  # (3, 3) @ (P, B, 3, H W)


def cosines(n: int, like: Tensor) -> Tensor:
    """The orthogonal matrix (n, n) of the discrete cosine transform; row f has frequency f."""
    return _cosines_once(n, like.dtype, like.device)


@cache
def _cosines_once(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    place = torch.arange(n, dtype=dtype, device=device)
    rows = (math.pi / n * place[:, None] * (place + 0.5)).cos() * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows
