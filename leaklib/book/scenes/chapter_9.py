"""Chapter 9: DLM, weights instead of gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import attacks, client, data, labels, models
from ...leak import Leak, stack
from .. import plots
from ..plots import COLORS, STYLE, Picture

FACE, PERSON = 11, 3  # one of a hundred faces, a class of this federation
LEARNING_RATES = (1e-1, 1e-2, 1e-3)
FIRST_K = (10.0, 50.0, 100.0, 200.0, 1000.0)
FEW_STEPS = 120
MARKERS = "osD^"


def face() -> tuple[torch.nn.Module, Tensor, Tensor]:
    """The chapter's network, its private image (1, 1, 25, 25) and the label (1,)."""
    faces, _ = data.load("faces")
    model = models.lenet(channels=1, size=25, classes=10, seed=0)
    return model, faces[FACE : FACE + 1], torch.tensor([PERSON])


@cache
def sent_at_each_rate() -> Leak:
    """The weights that the face's client sends at each of the `LEARNING_RATES`, stacked."""
    model, x, y = face()
    return stack([client.share_weights(model, x, y, lr=lr) for lr in LEARNING_RATES])


@cache
def dlm_from(k_0: float, label: str) -> attacks.Reconstruction:
    """DLM on those leaks, k from k_0, the label "searched" with the image or "read" first."""
    model, x, _ = face()
    leaks = sent_at_each_rate()
    rule = labels.idlg if label == "read" else "joint"
    k = {"k": k_0}
    return attacks.dlm(model, leaks, x.shape, unknowns=k, labels=rule, steps=FEW_STEPS)


@cache
def best_k() -> attacks.Reconstruction:
    """The same leaks by `dlm_projected`, which has no k_0, with the label read first."""
    model, x, _ = face()
    leaks = sent_at_each_rate()
    return attacks.dlm_projected(model, leaks, x.shape, labels=labels.idlg, steps=FEW_STEPS)


def first_k(k_0: float = 200.0, lr: float = 1e-2) -> Picture:
    """The face out of weights after one step at this learning rate, by DLM from this k_0.

    The data are "k", where it ended, and "converged", each {column: value}; the column without a
    k_0 has no k.
    """
    _, x, _ = face()
    i = LEARNING_RATES.index(lr)
    outs = {
        "label searched": dlm_from(k_0, "searched"),
        "label read": dlm_from(k_0, "read"),
        "label read, best k": best_k(),
    }
    k = {n: float(out.unknowns["k"][i]) for n, out in outs.items() if "k" in out.unknowns}
    converged = {name: bool(out.converged[i]) for name, out in outs.items()}
    ends = "; ".join(
        f"{name}: {f'k ended at {k[name]:.4g}, ' if name in k else ''}"
        f"{'converged' if converged[name] else 'not converged'}"
        for name in outs
    )
    return plots.row(
        {"private": x} | {name: out.images[i] for name, out in outs.items()},
        caption=f"k from {k_0:g}, where 1/η is {1 / lr:g}, and {FEW_STEPS} evaluations. {ends}. "
        "The last one has no k to start from.",
        data={"k": k, "converged": converged},
    )


def endings(
    outs: Mapping[float, attacks.Reconstruction], words: Mapping[float, Sequence[str]], lr: float
) -> Picture:
    """Where runs of DLM ended: the loss against |k|, each run marked by the word for its end.

    outs {k_0: Reconstruction of V runs}, words {k_0: V words}.  The data are {word: [(|k|, loss)]}.
    """
    runs = [
        (word, (abs(float(k)), float(loss)))
        for k_0, out in outs.items()
        for word, k, loss in zip(words[k_0], out.unknowns["k"], out.objective, strict=True)
    ]
    kinds = sorted({word for word, _ in runs})
    ends = {kind: [end for word, end in runs if word == kind] for kind in kinds}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4))
        axis = figure.subplots()
        for (kind, points), marker, color in zip(ends.items(), MARKERS, COLORS, strict=False):
            axis.plot(*zip(*points), marker, color=color, label=kind, alpha=0.75)
        axis.axvline(1 / lr, color="#444444", linestyle="--", linewidth=1, label="1 / η")
        axis.set(xscale="log", yscale="log", xlabel="|k| at the end", ylabel="loss at the end")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    summary = []
    for kind, points in ends.items():
        ks, losses = zip(*points)
        summary.append(
            f"{kind}: {len(points)} runs, |k| from {min(ks):.2g} to {max(ks):.4g}, "
            f"loss from {min(losses):.1e} to {max(losses):.1e}"
        )
    return Picture(
        figure,
        caption=f"Each point is one of {len(runs)} runs.",
        alt=f"Loss against |k| at the end of {len(runs)} runs of DLM. {'; '.join(summary)}.",
        data=ends,
    )
