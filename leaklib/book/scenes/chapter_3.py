"""Chapter 3: labels."""

from __future__ import annotations

import torch

from ... import client, data, models
from .. import plots, results
from ..plots import Picture
from ._shared import listed

NETWORKS = ("sigmoid, DLG's weights", "untrained", "one epoch", "ten epochs")


def bias_gradient(batch_size: int = 4, smoothing: float = 0.0) -> Picture:
    """The last layer's bias gradient of a batch of digits, with smoothed labels.

    The data are "present", the digits of the batch, and "negative", the classes that point down.
    """
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
        data={"present": present, "negative": negative},
    )


def batch_rules(network: str = "untrained", classes: str = "all") -> Picture:
    """The saved experiment `batch_labels`, on MNIST: the share of labels each rule has right.

    network: one of `NETWORKS`; classes: "all" ten are in the batch, or "three" of them.  The data
    tell the network's test "accuracy" too.
    """
    result = results.load("batch_labels")
    arms = {
        int(arm.rpartition("; ")[2]): columns
        for arm, columns in results.finished(result)["mnist"].items()
        if arm.startswith(f"{network}; {classes} classes; ")
    }
    accuracy = arms[1].pop("accuracy")[0]
    curves = {rule: [_mean(columns[rule]) for columns in arms.values()] for rule in arms[1]}
    return plots.lines(
        list(map(str, arms)),
        curves,
        xlabel="images in the batch",
        ylabel="labels right",
        ylim=(0, 1.05),
        caption=f"A LeNet, {network} (test accuracy {accuracy:.0%}); batches of MNIST digits drawn "
        f"from {classes} classes, {result['settings']['images']} of each size.",
        data={"accuracy": accuracy},
    )


def _mean(values: list[float | None]) -> float:
    """Their mean; NaN where a rule does not apply."""
    return float("nan") if None in values else sum(values) / len(values)
