"""Distances between what the attacker's guess would send and what was sent, and priors on images.

A distance takes two directions {name: tensor} of one problem and returns a number.  A prior takes
one problem's images (B, C, H, W) and returns a number.  Attacks batch both over their problems.
"""

import torch
from torch import Tensor

from ._numbers import inverse, root
from .leak import Tensors


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


def mean_norm(g: Tensors, h: Tensors) -> Tensor:
    """The distance of DLM+: each divided by the mean norm of its tensors, so that no scale counts.

    sum_l || g_l / n(g) - h_l / n(h) ||_F^2,  n(g) = (1/L) sum_l ||g_l||_F over the L tensors, each
    weight and each bias counting as one.  A zero stays zero.
    Source: Zhao, Luo & Ding 2022, published code (DLM_plus.py).
    """
    # 1 / n(g),  1 / n(h)
    scale_g, scale_h = (inverse(sum(_norms(d, h)) / len(h)) for d in (g, h))
    return sum((scale_g * g[name] - scale_h * h[name]).square().sum() for name in h)


def each_norm(g: Tensors, h: Tensors) -> Tensor:
    """Every tensor divided by its own norm: sum_l || g_l / ||g_l|| - h_l / ||h_l|| ||_F^2.

    A bias of ten numbers counts as much as thousands of weights.  A zero stays zero.
    """
    pairs = zip(h, _norms(g, h), _norms(h, h))
    unit = ((inverse(n_g) * g[name] - inverse(n_h) * h[name]) for name, n_g, n_h in pairs)
    return sum(apart.square().sum() for apart in unit)


def projected(g: Tensors, h: Tensors) -> Tensor:
    """Squared distance of g from the line through h: min_k ||g - k h||^2 = ||g||^2 (1 - cos^2).

    k = <g, h> / ||h||^2, and 0 for h = 0.  Zero where g is parallel to h, and where g is zero.
    """
    # k = <g, h> / ||h||^2
    squared = sum(h[name].square().sum() for name in h)
    k = sum((g[name] * h[name]).sum() for name in h) * inverse(squared)
    return sum((g[name] - k * h[name]).square().sum() for name in h)


def _one_over_norm(g: Tensors, names: Tensors) -> Tensor:
    """1 / ||g||, and 0 for a zero."""
    squared = sum(g[name].square().sum() for name in names)
    # the root of zero has no gradient: keep it out of the graph
    safe = torch.where(squared > 0, squared, torch.ones_like(squared))
    return torch.where(squared > 0, safe.rsqrt(), torch.zeros_like(safe))


def _norms(g: Tensors, names: Tensors) -> list[Tensor]:
    """||g_l||_F of each tensor."""
    return [root(g[name].square().sum()) for name in names]
