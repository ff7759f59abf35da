"""What the pictures that react show: plain functions of what the reader moves.

Each returns a `plots.Picture`.  What several positions of a slider share is computed once, for all
of them in one batch, and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from . import (
    analytic,
    attacks,
    client,
    data,
    defenses,
    federated,
    metrics,
    models,
    plots,
    results,
    solvers,
)
from .plots import Picture

EPOCHS = (1, 2, 5)
CONCENTRATIONS = ("even", "1", "0.1")
NOISE = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
BATCH_SIZES = (1, 2, 4, 8, 16)
HALF_WIDTHS = (0.05, 0.1, 0.2, 0.5, 1.0)
PRUNED = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
DIGIT = (1, 1, 28, 28)
RECOVERED = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2)
SETS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "faces": "faces"}
FEW_STEPS, STEPS, MANY_STEPS = 200, 250, 400


# ------------------------------------------------------------------ 1 federated learning
def local_epochs(clients_see: str = "even", epochs: int = 2) -> Picture:
    """Test accuracy round by round of ten clients that each train `epochs` passes a round."""
    curve = _federation(clients_see, epochs)
    few = "the same mixture" if clients_see == "even" else f"Dirichlet({clients_see}) shares"
    return plots.lines(
        range(1, len(curve) + 1),
        {"accuracy": curve},
        xlabel="round",
        ylabel="accuracy on unseen digits",
        ylim=(0, 1),
        caption=f"Ten clients that see {few} of the classes; each passes {epochs}x over its images "
        f"in a round: {curve[-1]:.0%} after {len(curve)} rounds.",
    )


@cache
def _federation(clients_see: str, epochs: int) -> list[float]:
    images, numbers = data.load("digits", size=14)
    alpha = None if clients_see == "even" else float(clients_see)
    clients = federated.split(images[:1400], numbers[:1400], 10, alpha=alpha)
    test = federated.Client(images[1400:], numbers[1400:])
    model = models.mlp(size=14, hidden=(32,), activation="relu")
    return federated.train(model, clients, rounds=8, test=test, epochs=epochs, lr=0.1)


# ------------------------------------------------------------------ 2 the linear layer
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
    """Rows dV_i / db_i of a batch's gradient, the nearest row to each of the first eight images."""
    images, numbers = (t[:16] for t in data.load("photos"))
    model = models.mlp(3, 32, (256,), len(data.PICTURES), activation=activation)
    leak = client.share_gradient(model, images[:batch_size], numbers[:batch_size])
    rows = analytic.linear_rows(leak)
    rows = rows[rows.isfinite().all(1)].reshape(-1, *images.shape[1:])
    truth = images[: min(batch_size, 8)]
    distances = [(rows.clamp(0, 1) - x).square().mean((1, 2, 3)) for x in truth]
    nearest = rows[[int(d.argmin()) for d in distances]]
    exact = metrics.success_rate(nearest, truth, 1e-3)
    return plots.images(
        {"private": truth, "nearest row": nearest},
        titles=data.PICTURES[: len(truth)],
        caption=f"A batch of {batch_size} through a {activation} layer of 256 units: of the "
        f"{len(truth)} pictures shown, {exact:.0%} stand in a row of the gradient as they are.",
    )


# ------------------------------------------------------------------ 3 labels
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
        caption=f"Digits in the batch: {_listed(present)}. Negative entries: {_listed(negative)}. "
        "The smallest entry is hatched.",
    )


# ------------------------------------------------------------------ 4 DLG
def initialisation(activation: str = "sigmoid", half_width: float = 0.5) -> Picture:
    """Three digits rebuilt from LeNets with this activation and weights from U(-a, a)."""
    images, rebuilt = _initialisations(activation)
    mine = rebuilt[HALF_WIDTHS.index(half_width)]
    return plots.images(
        {"private": images, "rebuilt": mine},
        caption=f"LeNet with {activation} and weights from U(-{half_width:g}, {half_width:g}), at "
        f"most {FEW_STEPS} evaluations: {_recovered(mine, images)}.",
    )


@cache
def _initialisations(activation: str) -> tuple[Tensor, Tensor]:
    """Three digits, and what DLG makes of each at every half-width: (5, 3, C, H, W)."""
    images, numbers = data.load("digits", 3, seed=1)
    leaks = []
    for a in HALF_WIDTHS:
        for i in range(len(images)):
            model = models.init_uniform(models.lenet(1, 28, activation=activation), a, seed=i)
            leaks.append(client.share_gradient(model, images[i : i + 1], numbers[i : i + 1]))
    out = attacks.dlg(model, client.stack(leaks), DIGIT, steps=FEW_STEPS)
    return images, out.images.reshape(len(HALF_WIDTHS), *images.shape)


def noisy_gradient(noise: float = 1e-2) -> Picture:
    """Three digits rebuilt by DLG when the client adds noise, relative to the gradient's size."""
    images, rebuilt = _defended(attacks.dlg, defenses.gaussian, NOISE, relative=True)
    mine = rebuilt[NOISE.index(noise)]
    return plots.images(
        {"private": images, "rebuilt": mine},
        caption=f"Noise of {noise:g} times the gradient's root mean square, of which the attacker "
        f"knows nothing: {_recovered(mine, images)}.",
    )


# ------------------------------------------------------------------ 5 iDLG
def pruned_gradient(pruned: float = 0.5) -> Picture:
    """Three digits rebuilt by iDLG when the client sends only each tensor's largest entries."""
    images, rebuilt = _defended(attacks.idlg, defenses.prune, PRUNED)
    mine = rebuilt[PRUNED.index(pruned)]
    return plots.images(
        {"private": images, "rebuilt": mine},
        caption=f"{pruned:.0%} of the entries set to zero, of which the attacker knows nothing: "
        f"{_recovered(mine, images)}.",
    )


def idlg_start(start: str = "normal", solver: str = "published") -> Picture:
    """The digits of `arm`, rebuilt by iDLG from this start with this solver."""
    images, _, out = arm("idlg", start, solver)
    return plots.images(
        {"private": images, "rebuilt": out.images},
        caption=f"iDLG, {start} start, {solver} solver, at most {STEPS} evaluations: "
        f"{_recovered(out.images, images[:, None])}.",
    )


@cache
def arm(attack: str, start: str, solver: str) -> tuple[Tensor, Tensor, attacks.Reconstruction]:
    """One arm of a paired comparison: (digits (10, 1, 28, 28), labels (10,), reconstruction).

    attack "dlg" or "idlg"; start as in `attacks.dlg`; solver "published" or "safeguarded".
    """
    images, numbers = data.load("digits", 10, seed=2)
    run = {"dlg": attacks.dlg, "idlg": attacks.idlg}[attack]
    safeguard_alone = partial(solvers.lbfgs, whiten=False)
    by = {"published": solvers.lbfgs_torch, "safeguarded": safeguard_alone}[solver]
    out = run(models.lenet(1, 28), digit_leaks(), DIGIT, start=start, solver=by, steps=STEPS)
    return images, numbers, out


@cache
def digit_leaks() -> client.Leak:
    """The gradients behind `arm`: ten digits, each on a network of its own."""
    images, numbers = data.load("digits", 10, seed=2)
    return client.stack(
        [
            client.share_gradient(
                models.lenet(1, 28, seed=i), images[i : i + 1], numbers[i : i + 1]
            )
            for i in range(len(images))
        ]
    )


# ------------------------------------------------------------------ paper vs here
def starts_and_solvers(threshold: float = 1e-3) -> Picture:
    """The saved experiment `idlg`: images that iDLG recovers from each start with both solvers.

    threshold: the mean squared error below which an image counts as recovered.
    """
    panels = {
        SETS[name]: {
            solver: results.shares(
                {
                    start: results.recovered(arms[f"iDLG, {start}, {solver}"], threshold)
                    for start in ("normal", "uniform", "half", "zeros")
                }
            )
            for solver in ("published", "safeguarded")
        }
        for name, arms in results.finished(results.load("idlg")).items()
    }
    return results.figure(
        panels,
        xlabel="start",
        ylabel=f"images with MSE < {threshold:g}",
        caption=f"iDLG from four starts, with the published solver and with the safeguarded one: "
        f"images whose mean squared error is below {threshold:g}, with Wilson's 95 % intervals.",
    )


# ------------------------------------------------------------------ how fast
def cost(along: str = "problems") -> Picture:
    """The saved benchmark `throughput`: what an evaluation costs as one thing grows.

    along: "problems" attacked at once, "pixels" of an image, or "parameters" of the network.
    """
    grown = results.load("throughput")["scaling"][along]
    curves = {way: times for way, times in grown.items() if way != "x"}
    others = {
        "problems": "pictures of 3 x 32 x 32",
        "pixels": "64 problems",
        "parameters": "64 problems of 3 x 32 x 32, more classes",
    }
    return plots.lines(
        grown["x"],
        curves,
        xlabel=along,
        ylabel="CPU ms an evaluation and image",
        xscale="log",
        yscale="log",
        caption=f"What one evaluation of one image costs as the {along} grow: sigmoid LeNet, "
        f"{others[along]}, both axes logarithmic.",
    )


@cache
def _defended(
    attack: Callable, defense: Callable, levels: tuple[float, ...], **settings: bool
) -> tuple[Tensor, Tensor]:
    """Three digits, and what an attack makes of them at each strength of a defence."""
    images, numbers = data.load("digits", 3, seed=3)
    leaks = [
        client.share_gradient(
            models.lenet(1, 28, seed=i), images[i : i + 1], numbers[i : i + 1],
            defense=defense(level, **settings), seed=i,
        )
        for level in levels
        for i in range(len(images))
    ]  # fmt: skip
    out = attack(models.lenet(1, 28), client.stack(leaks), DIGIT, steps=MANY_STEPS)
    return images, out.images.reshape(len(levels), *images.shape)


def _recovered(images: Tensor, truth: Tensor) -> str:
    threshold = 1e-3
    share = metrics.success_rate(images, truth, threshold)
    return f"{share:.0%} recovered (MSE below {threshold:g})"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if numbers else "none"
