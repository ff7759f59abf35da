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
    Source: Geiping et al. 2020, eq. 4.
    """
    inner = sum((g[name] * h[name]).sum() for name in h)
    norms_squared = _norm_squared(g, h) * _norm_squared(h, h)
    # the root of zero has no gradient: keep it out of the graph
    safe = torch.where(norms_squared > 0, norms_squared, torch.ones_like(norms_squared))
    return 1 - inner / safe.sqrt()


def total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbours: mean |x_{i+1,j} - x_ij| + mean |x_{i,j+1} - x_ij|.

    x (..., H, W).  Small for smooth images.  Source: Geiping et al. 2020, published code.
    """
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean()
    right = (x[..., :, 1:] - x[..., :, :-1]).abs().mean()
    return down + right


def _norm_squared(g: Tensors, names: Tensors) -> Tensor:
    return sum(g[name].square().sum() for name in names)
