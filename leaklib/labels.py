"""Labels out of the last layer of a leak: no optimisation, no image."""

from __future__ import annotations

import torch
from torch import Tensor

from ._errors import bad
from .client import Leak

UNDETERMINED = -1


def last_layer(leak: Leak, layer: str | None = None) -> tuple[str, str | None]:
    """Names of the weight (C, M) and the bias (C,) of the layer that makes the logits.

    The last weight with two dimensions, and the bias of the same prefix (None where it has none);
    or the layer called `layer`.  Raises ValueError when there is no such weight.
    """
    extra = 0 if leak.victims is None else 1
    matrices = [name for name, W in leak.weights.items() if W.ndim == 2 + extra]
    if layer is not None:
        matrices = [name for name in matrices if name in (layer, f"{layer}.weight")]
    if not matrices:
        came = f"no such weight among {list(leak.weights)}"
        raise bad("layer", came, "the name of a linear layer, such as 'fc'")
    weight = matrices[-1]
    bias = f"{weight.rpartition('.')[0]}.bias".removeprefix(".")
    return weight, bias if bias in leak.weights else None


def idlg(leak: Leak, layer: str | None = None) -> Tensor:
    """The label of the one image behind a leak: the only negative entry of the bias gradient.

    dl/db_i = p_i - [i = c], so c is the smallest entry.  It is read as the argmin, not by its sign:
    in a trained network p_c can round to 1.  Where the layer has no bias, the paper's rule:
    c is the only row of dl/dV whose inner product with every other row is at most 0.

    Returns (1,), or (V, 1) for a stack; -1 where the rule cannot tell: the smallest entry is tied
    (as when all are zero), or no row, or more than one, has the property.  Exact for one image, a
    hard label, softmax and cross-entropy.  Raises ValueError for a batch of more than one.
    Source: Zhao, Mopuri & Bilen 2020 (the row rule); the bias rule has the same derivation.
    """
    if leak.batch_size != 1:
        raise bad(
            "leak",
            f"a batch of {leak.batch_size} images, whose label terms add up in one gradient",
            "a batch of one; for more, let attacks.dlg find the labels with the images",
        )
    weight, bias = last_layer(leak, layer)
    if bias is not None:
        return _unique(leak.direction[bias], leak.direction[bias].argmin(-1, keepdim=True))
    dV = leak.direction[weight]  # (..., C, M)
    inner = dV @ dV.mT  # (..., C, C): <dV_i, dV_j>
    others = ~torch.eye(inner.shape[-1], dtype=torch.bool, device=dV.device)
    below = (inner <= 0) | ~others
    strictly = ((inner < 0) & others).any(-1)
    is_label = below.all(-1) & strictly  # (..., C)
    c = is_label.int().argmax(-1, keepdim=True)
    return torch.where(is_label.sum(-1, keepdim=True) == 1, c, UNDETERMINED)


def _unique(db: Tensor, c: Tensor) -> Tensor:
    """c (..., 1) where db (..., C) is smallest there alone, else undetermined."""
    ties = (db == db.gather(-1, c)).sum(-1, keepdim=True)
    return torch.where(ties == 1, c, UNDETERMINED)
