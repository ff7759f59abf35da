"""Distances between what the attacker's guess would send and what was sent, and priors on images.

A distance takes two directions {name: tensor} of one problem and returns a number.  A prior takes
one problem's images (B, C, H, W) and returns a number.  Attacks batch both over their problems.
"""

import torch
from torch import Tensor

from .client import Tensors


def l2(g: Tensors, h: Tensors) -> Tensor:
    """Squared Euclidean distance, summed over all parameters: sum_l ||g_l - h_l||_F^2.

    Source: Zhu et al. 2019, Algorithm 1; published code.
    """
    return sum((g[name] - h[name]).square().sum() for name in h)


def cosine(g: Tensors, h: Tensors) -> Tensor:
    """One minus the cosine of the angle between the two, all parameters concatenated; in [0, 2].

    1 - <g, h> / (||g|| ||h||).  Blind to the scale of either; 1 where one of them is zero.
    Source: Geiping et al. 2020, eq. 4.  Written as half the squared distance of two unit vectors:
    in float32 the difference from 1 is lost below 1e-7, where images still have far to go.
    """
    # 1 - <u, v> = |u - v|^2 / 2,  u = g / |g|,  v = h / |h|
    scale_g, scale_h = _one_over_norm(g, h), _one_over_norm(h, h)
    apart = sum((scale_g * g[name] - scale_h * h[name]).square().sum() for name in h)
    # a zero has no direction: its "unit vector" is zero, and the half that it lacks is added
    return apart / 2 + ((scale_g == 0).to(apart) + (scale_h == 0).to(apart)) / 2


def total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbours: mean |x_{i+1,j} - x_ij| + mean |x_{i,j+1} - x_ij|.

    x (..., H, W).  Small for smooth images.  Source: Geiping et al. 2020, published code.
    """
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean()
    right = (x[..., :, 1:] - x[..., :, :-1]).abs().mean()
    return down + right


def _one_over_norm(g: Tensors, names: Tensors) -> Tensor:
    """1 / ||g||, and 0 for a zero."""
    squared = sum(g[name].square().sum() for name in names)
    # the root of zero has no gradient: keep it out of the graph
    safe = torch.where(squared > 0, squared, torch.ones_like(squared))
    return torch.where(squared > 0, safe.rsqrt(), torch.zeros_like(safe))
