"""Chapter 2: the linear layer."""

from __future__ import annotations

from ... import analytic, client, data, defenses, metrics, models
from .. import plots
from ..plots import Picture
from ._shared import RECOVERED_BELOW

BATCH_SIZES = (1, 2, 4, 8, 16)


def noisy_linear(noise: float = 1e-1) -> Picture:
    """A photograph out of one linear layer's gradient when the client adds noise to it.

    noise is relative to the root mean square of the gradient.
    """
    x, label = data.load("photos")
    x, label = x[:1], label[:1]
    model = models.mlp(3, 32, (256,), len(data.PICTURES), activation="relu")
    leak = client.share_gradient(model, x, label, defense=defenses.gaussian(noise, relative=True))
    rows = analytic.linear_rows(leak)
    db = leak.direction["fc1.bias"].abs()
    reached = db > 0
    typical = rows[reached][db[reached].argsort()[int(reached.sum()) // 2]]
    rows_shown = {
        "private": x,
        "a typical row": typical.reshape(x.shape),
        "the largest row": rows[db.argmax()].reshape(x.shape),
        "all rows": analytic.linear_input(leak).reshape(x.shape),
    }
    return plots.row(
        rows_shown,
        caption=f"The cat, with noise of {noise:g} times the gradient's root mean square.",
    )


def mixed_rows(batch_size: int = 8, activation: str = "relu") -> Picture:
    """Of the rows dV_i / db_i of a batch's gradient, the nearest to each of the first eight images.

    data["recovered"] is the share of these images that are in a row as they are.
    """
    images, numbers = (t[:16] for t in data.load("photos"))
    model = models.mlp(3, 32, (256,), len(data.PICTURES), activation=activation)
    leak = client.share_gradient(model, images[:batch_size], numbers[:batch_size])
    rows = analytic.linear_rows(leak)
    rows = rows[rows.isfinite().all(1)].reshape(-1, *images.shape[1:])
    truth = images[: min(batch_size, 8)]
    distances = [(rows.clamp(0, 1) - x).square().mean((1, 2, 3)) for x in truth]
    nearest = rows[[int(d.argmin()) for d in distances]]
    exact = metrics.success_rate(nearest, truth, RECOVERED_BELOW)
    return plots.images(
        {"private": truth, "nearest row": nearest},
        titles=data.PICTURES[: len(truth)],
        caption=f"A batch of {batch_size} through a {activation} layer of 256 units: of the "
        f"{len(truth)} pictures shown, {exact:.0%} stand in a row of the gradient as they are.",
        data={"recovered": exact},
    )
