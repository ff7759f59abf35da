"""Closed forms: what a gradient gives away with no optimisation at all."""

from __future__ import annotations

import torch
from torch import Tensor

from ._errors import bad
from .client import Leak


def linear_input(leak: Leak, layer: str | None = None) -> Tensor:
    """The input x of a linear layer z = V x + b, for one sample: exact up to rounding.

    dl/dV_i = (dl/db_i) x for every row i, so by least squares over the rows
        x = sum_i db_i dV_i / sum_i db_i^2.
    Returns (M,), or (V, M) for a stack, M the width of the layer's input.  layer: its name; None is
    the first linear layer, which in a fully connected network reads the image itself.

    Raises ValueError for a layer without weight or bias, where db is all zero (the sample does not
    reach the layer), and for a batch: each row then holds another mixture of the batch's inputs,
    sum_k delta_ki x_k / sum_k delta_ki, which `linear_rows` returns.
    Source: Phong et al. 2018 (the ratio of one row).
    """
    if leak.batch_size != 1:
        raise bad(
            "leak",
            f"a batch of {leak.batch_size} samples, whose inputs are mixed in every row",
            "a batch of one; linear_rows(leak) shows the mixtures",
        )
    dV, db = _linear_gradients(leak, layer)
    norm_squared = db.square().sum(-1)  # sum_i db_i^2
    if (norm_squared == 0).any():
        raise bad("leak", "a bias gradient of all zeros", "a sample that reaches the layer")
    # x = sum_i db_i dV_i / sum_i db_i^2
    return (db[..., None] * dV).sum(-2) / norm_squared[..., None]


def linear_rows(leak: Leak, layer: str | None = None) -> Tensor:
    """What each row i of a linear layer says of its inputs: dl/dV_i / (dl/db_i).

    For one sample every row is x.  For a batch row i is sum_k delta_ki x_k / sum_k delta_ki, with
    delta_ki = dl/dz_ki: a weighted mean, and x_k itself where only sample k reaches unit i.
    Returns (N, M), or (V, N, M) for a stack; NaN in rows that no sample reaches.
    Source: the chain rule; Phong et al. 2018 for one sample.
    """
    dV, db = _linear_gradients(leak, layer)
    return torch.where(db[..., None] == 0, torch.nan, dV / db[..., None])


def _linear_gradients(leak: Leak, layer: str | None) -> tuple[Tensor, Tensor]:
    matrices = 2 if leak.victims is None else 3
    pairs = {
        name: f"{name.removesuffix('weight')}bias"
        for name, W in leak.weights.items()
        if W.ndim == matrices and name.endswith("weight")
    }
    found = {weight: bias for weight, bias in pairs.items() if bias in leak.weights}
    named = [w for w in found if layer is None or w in (layer, f"{layer}.weight")]
    if not named:
        came = "no linear layer with bias" if layer is None else repr(layer)
        known = [weight.removesuffix(".weight") for weight in found]
        raise bad("layer", came, f"a linear layer with a bias; this leak has {known}")
    weight, bias = named[0], found[named[0]]
    return leak.direction[weight], leak.direction[bias]
