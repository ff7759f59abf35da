"""Solving in the frequencies of pictures, scaled so that all of them are about as large."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .run import Objective, Points, Solution, on_parts


def in_frequencies(
    minimise: Callable[..., Solution], objective: Objective, z: Points, **settings: Any
) -> Solution:
    """minimise(objective, z) in coordinates v, zero at z, in which pictures are nearly white."""
    s = on_parts(lambda start: scales(start) if start.ndim == 5 else start, z)

    def moved(start: Tensor, s: Tensor, v: Tensor) -> Tensor:
        return start + (picture(s * v) if v.ndim == 5 else v)

    def of_coordinates(v: Points, index: Tensor) -> Tensor:
        return objective(on_parts(lambda z, s, v: moved(z[index], s[index], v), z, s, v), index)

    found = minimise(of_coordinates, on_parts(torch.zeros_like, z), **settings)
    snapshots = {count: on_parts(moved, z, s, v) for count, v in found.snapshots.items()}
    return found._replace(z=on_parts(moved, z, s, found.z), snapshots=snapshots)


def scales(start: Tensor) -> Tensor:
    """s (P, 1, C, H, W) for every frequency of the pictures that start at (P, B, C, H, W)."""
    C, H, W = start.shape[-3:]
    down, right = (torch.arange(n).to(start) for n in (H, W))
    brightness = torch.tensor([1.0] + [0.09 if C == 3 else 1.0] * (C - 1)).to(start)
    pictures = brightness[:, None, None] / (1 + down[:, None].square() + right.square())
    rows, columns = (cosines(n, start.dtype, start.device) for n in (H, W))
    fine = (rows @ start @ columns.mT)[..., H // 2 :, W // 2 :]
    noise = fine.square().mean((1, 2, 3, 4)).clamp(max=1e3) / 10  # (P,)
    return (pictures + noise[:, None, None, None, None]) ** 0.25


def picture(coefficients: Tensor) -> Tensor:
    """Pictures (P, B, C, H, W) from those of the cosines over height, width and three colours."""
    sizes, C = coefficients.shape[-2:], coefficients.shape[-3]
    rows, columns = (cosines(n, coefficients.dtype, coefficients.device) for n in sizes)
    x = rows.mT @ coefficients @ columns
    if C != 3:
        return x
    colours = cosines(3, x.dtype, x.device)
    return (colours.mT @ x.flatten(-2)).reshape(x.shape)  # (3, 3) @ (P, B, 3, H W)


@cache
def cosines(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthogonal matrix (n, n) of the discrete cosine transform; row f has frequency f."""
    place = torch.arange(n, dtype=dtype, device=device)
    rows = (math.pi / n * place[:, None] * (place + 0.5)).cos() * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows
