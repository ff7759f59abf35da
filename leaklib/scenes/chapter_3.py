"""Chapter 3: labels."""

from __future__ import annotations

import torch

from .. import client, data, models, plots
from ..plots import Picture
from ._shared import listed


def bias_gradient(batch_size: int = 4, smoothing: float = 0.0) -> Picture:
    """The last layer's bias gradient of a batch of digits, with smoothed labels."""
    images, numbers = data.load("digits", 16, seed=4)
    images, numbers = images[:batch_size], numbers[:batch_size]
    soft = torch.nn.functional.one_hot(numbers, 10) * (1 - smoothing) + smoothing / 10
    model = models.lenet(1, 28, init="torch")
    leak = client.share_gradient(model, images, soft.float())
    db = leak.direction["fc.bias"]
    negative = sorted((db < 0).nonzero()[:, 0].tolist())
    present = sorted(set(numbers.tolist()))
    return plots.bars(
        {str(c): float(value) for c, value in enumerate(db)},
        xlabel="class",
        ylabel="bias gradient",
        highlight=str(int(db.argmin())),
        caption=f"Digits in the batch: {listed(present)}. Negative entries: {listed(negative)}. "
        "The smallest entry is hatched.",
    )
