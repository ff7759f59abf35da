"""Figures: every one is a `Picture`, which carries its alternative text and its caption."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .. import metrics
from .._errors import bad
from ..attacks import Reconstruction

# Okabe & Ito's colours: told apart with any kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": "medium",
    "legend.frameon": False,
    "font.size": 10,
    "figure.figsize": (6.4, 3.4),
    "figure.dpi": 100,
    "lines.linewidth": 1.8,
    "hatch.color": "white",
}
RESOLUTION = 160  # dots an inch
MANY = 4  # more curves than these leave no room for their legend among them


class Picture:
    """A figure with what a reader who cannot see it is told, and the line below it.

    Shows itself at the end of a cell.  `figure` is Matplotlib's, to change and show again.
    """

    def __init__(self, figure: Figure, *, alt: str, caption: str):
        self.figure, self.alt, self.caption = figure, alt, caption

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file."""
        return self._file("png", optimize=True)

    def source(self) -> str:
        """The picture as a data address for `<img src>`: lossless WebP."""
        packed = base64.b64encode(self._file("webp", lossless=True, method=4)).decode()
        return f"data:image/webp;base64,{packed}"

    def html(self) -> str:
        return (
            f'<figure class="leak-figure"><img alt="{html.escape(self.alt)}" '
            f'src="{self.source()}"><figcaption>{html.escape(self.caption)}</figcaption></figure>'
        )

    def _file(self, kind: str, **settings: object) -> bytes:
        drawn, file = io.BytesIO(), io.BytesIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(drawn, format="png", dpi=RESOLUTION, bbox_inches="tight")
        with Image.open(drawn) as image:
            image.convert("RGB").save(file, format=kind, **settings)
        return file.getvalue()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        return {"text/html": self.html(), "image/png": self.png(), "text/plain": self.alt}


def images(
    rows: Mapping[str, Tensor],
    *,
    caption: str,
    alt: str | None = None,
    titles: Sequence[str] | None = None,
    score: bool = True,
) -> Picture:
    """Rows of images, each named at its left: the private images first, then what came of them.

    rows {name: (N, C, H, W) or (N, 1, C, H, W)}, pixels clamped to [0, 1].  With `score` each image
    of the later rows has its PSNR against the first row below it.  titles: N words for the columns.
    Raises ValueError when the rows differ in length.
    """
    shown = {name: _flat(name, batch) for name, batch in rows.items()}
    names, batches = list(shown), list(shown.values())
    if len({len(batch) for batch in batches}) != 1:
        raise bad("rows", {name: len(batch) for name, batch in shown.items()}, "rows of one length")
    n = len(batches[0])
    with matplotlib.rc_context(STYLE):
        width = min(1.15 * n + 1.1, 9.0)
        cell = (width - 1.1) / n
        figure = Figure(figsize=(width, (cell + 0.28) * len(names) + 0.2))
        axes = figure.subplots(len(names), n, squeeze=False)
        for r, (name, batch) in enumerate(shown.items()):
            for i, axis in enumerate(axes[r]):
                _show(axis, batch[i])
                if score and r > 0:
                    db = float(metrics.psnr(batch[i : i + 1], batches[0][i : i + 1]))
                    axis.set_xlabel(_decibel(db), fontsize=8, labelpad=2)
            axes[r, 0].set_ylabel(
                name, rotation=0, ha="right", va="center", labelpad=8, fontsize=9, wrap=True
            )
        for axis, title in zip(axes[0], titles or [], strict=False):
            axis.set_title(title, fontsize=9)
        figure.subplots_adjust(wspace=0.06, hspace=0.24 if score else 0.06)
    return Picture(figure, caption=caption, alt=alt or _describe_rows(shown, titles, score))


def row(named: Mapping[str, Tensor], *, caption: str, score: bool = True) -> Picture:
    """One row of single images, each under its name: the private one first, then its PSNR below.

    named {name: (1, C, H, W)}.  Raises ValueError for another shape.
    """
    shown = {name: _flat(name, image) for name, image in named.items()}
    for name, image in shown.items():
        if len(image) != 1:
            raise bad(f"named[{name!r}]", f"shape {tuple(image.shape)}", "one image (1, C, H, W)")
    truth = next(iter(shown.values()))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.6 * len(shown), 1.9))
        said = []
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for axis, (name, image) in zip(axes, shown.items(), strict=True):
            _show(axis, image[0])
            axis.set_title(name, fontsize=9)
            if score and image is not truth:
                db = _decibel(float(metrics.psnr(image, truth)))
                axis.set_xlabel(db, fontsize=8, labelpad=2)
                said.append(f"{name} {db}")
        figure.subplots_adjust(wspace=0.08)
    alt = f"One image each: {', '.join(shown)}."
    if said:
        alt += f" PSNR against the first: {', '.join(said)}."
    return Picture(figure, caption=caption, alt=alt)


def snapshots(
    out: Reconstruction, truth: Tensor, *, caption: str, victim: int = 0, most: int = 9
) -> Picture:
    """One victim's image along the attack: at 1, 2, 5, 10, … evaluations, the result, the truth.

    truth (1, C, H, W) or (C, H, W).  The last `most` moments before the end are shown.
    """
    truth = truth.reshape(1, *out.images.shape[2:])
    last = int(out.trace[victim].isfinite().sum())
    moments = [count for count in sorted(out.snapshots) if count < last][-most:]
    steps = [(f"{count:,}", out.snapshots[count][victim, :1]) for count in moments]
    steps.append((f"best of {last:,}", out.images[victim, :1]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 9 / (len(steps) + 1) + 0.5))
        axes = figure.subplots(1, len(steps) + 1)
        said = []
        for axis, (name, image) in zip(axes, steps, strict=False):
            _show(axis, image[0])
            axis.set_title(name, fontsize=8)
            db = _decibel(float(metrics.psnr(image, truth)))
            axis.set_xlabel(db, fontsize=8, labelpad=2)
            said.append(f"{name}: {db}")
        _show(axes[-1], truth[0])
        axes[-1].set_title("private", fontsize=8)
        figure.subplots_adjust(wspace=0.08)
    alt = f"The image after so many evaluations, with its PSNR: {'; '.join(said)}."
    return Picture(figure, caption=caption, alt=alt)


def convergence(
    outs: Mapping[str, Reconstruction], *, caption: str, alt: str | None = None
) -> Picture:
    """The objective of each victim against evaluations, thin, and their median, thick; log-log."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6))
        axis = figure.subplots()
        for (name, out), colour in zip(outs.items(), COLOURS, strict=False):
            trace = _best_so_far(out.trace)
            counts = np.arange(1, trace.shape[1] + 1)
            for line in trace:
                axis.plot(counts, line, color=colour, alpha=0.18, linewidth=0.8)
            axis.plot(counts, trace.median(0).values, color=colour, label=name)
        axis.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="objective, best so far")
        axis.legend()
    ends = "; ".join(
        f"{name} ends at a median of {float(out.objective.median()):.1e}"
        for name, out in outs.items()
    )
    return Picture(figure, caption=caption, alt=alt or f"Objective against evaluations: {ends}.")


def lines(
    x: Sequence[float] | Sequence[str],
    curves: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    caption: str,
    alt: str | None = None,
    marker: str | None = "o",
    mark: tuple[float, float] | None = None,
    **axes: object,
) -> Picture:
    """Curves over a common x, with a legend when there are several; `axes` as in `Axes.set`.

    A curve has no point where its value is NaN.  mark: one point (x, y) to point at.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4))
        axis = figure.subplots()
        for name, values in curves.items():
            axis.plot(x, values, marker=marker, markersize=4, label=name)
        if mark is not None:
            axis.plot(*mark, "o", markersize=11, markerfacecolor="none", color=COLOURS[1], mew=2)
        axis.set(xlabel=xlabel, ylabel=ylabel, **axes)
        if len(curves) > MANY:
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        elif len(curves) > 1:
            axis.legend()
    seen = {name: [y for y in values if np.isfinite(y)] for name, values in curves.items()}
    told = "; ".join(f"{n} from {v[0]:.3g} to {v[-1]:.3g}" for n, v in seen.items() if v)
    return Picture(figure, caption=caption, alt=alt or f"{ylabel} against {xlabel}: {told}.")


def bars(
    values: Mapping[str, float],
    *,
    ylabel: str,
    caption: str,
    xlabel: str = "",
    alt: str | None = None,
    highlight: str | None = None,
    truth: Mapping[str, float] | None = None,
) -> Picture:
    """One bar a name, the highlighted one in another colour and hatched.

    truth: a value for each name, drawn as a black line across its bar.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.0))
        axis = figure.subplots()
        drawn = axis.bar(list(values), list(values.values()), color=COLOURS[0])
        for name, bar in zip(values, drawn, strict=True):
            if name == highlight:
                bar.set(facecolor=COLOURS[1], hatch="//", edgecolor="white")
        if truth is not None:
            across = axis.hlines(
                list(truth.values()), *np.add.outer((-0.45, 0.45), range(len(truth))),
                color="black", linewidth=2.5, label="truth",
            )  # fmt: skip
            axis.legend(handles=[across])
        axis.axhline(0, color="#444444", linewidth=0.8)
        axis.set(xlabel=xlabel, ylabel=ylabel)
    told = ", ".join(f"{name}: {value:.3g}" for name, value in values.items())
    if truth is not None:
        told += f"; the truth: {', '.join(f'{value:.3g}' for value in truth.values())}"
    return Picture(figure, caption=caption, alt=alt or f"Bars of {ylabel}: {told}.")


def _flat(name: str, batch: Tensor) -> Tensor:
    batch = batch.detach().cpu()
    if batch.ndim == 5:
        batch = batch.flatten(0, 1)
    if batch.ndim != 4:
        raise bad(f"rows[{name!r}]", f"shape {tuple(batch.shape)}", "(N, C, H, W)")
    return batch


def _show(axis: matplotlib.axes.Axes, image: Tensor) -> None:
    pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()  # (H, W, C)
    axis.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _decibel(db: float) -> str:
    return "> 100 dB" if db > 100 else f"{db:.1f} dB"


def _best_so_far(trace: Tensor) -> Tensor:
    return trace.nan_to_num(nan=float("inf")).cummin(1).values.cpu()


def _describe_rows(rows: dict[str, Tensor], titles: Sequence[str] | None, score: bool) -> str:
    n = len(next(iter(rows.values())))
    what = f" of {', '.join(titles)}" if titles else ""
    named = {name.replace("\n", " "): batch for name, batch in rows.items()}
    text = f"{len(rows)} rows of {n} images{what}: {', '.join(named)}."
    (first, truth), *others = named.items()
    if score and others:
        scored = [f"{name} {float(metrics.psnr(b, truth).median()):.1f} dB" for name, b in others]
        text += f" Median PSNR against {first}: {', '.join(scored)}."
    return text
