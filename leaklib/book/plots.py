"""Figures: every one is a `Picture`, which carries its words and its numbers."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .. import metrics
from .._errors import bad
from ..attacks import Reconstruction

__all__ = ["Picture", "images", "row", "snapshots", "convergence", "lines", "bars"]

# Okabe & Ito's colors, which any kind of color vision can tell apart
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
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
MANY = 4  # with more curves than these, the legend stands beside them

Data = Mapping[str, Any]


class Picture:
    """A figure, its words, and its numbers.  Shows itself at the end of a cell.

    figure   Matplotlib's, to change and show again
    alt      what a reader who cannot see the figure is told
    caption  the line below it
    data     {name: numbers} that are drawn, or that the caption tells
    """

    def __init__(self, figure: Figure, *, alt: str, caption: str, data: Data | None = None):
        self.figure, self.alt, self.caption = figure, alt, caption
        self.data = dict(data or {})

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file."""
        return self._file("png", optimize=True)

    def source(self) -> str:
        """The picture as a data address for `<img src>`: lossless WebP."""
        packed = base64.b64encode(self._file("webp", lossless=True, method=4)).decode()
        return f"data:image/webp;base64,{packed}"

    def html(self) -> str:
        """The picture and its words as one element of a page."""
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
    data: Data | None = None,
) -> Picture:
    """Rows of images, each named at its left: the private images first, then what came of them.

    rows {name: (N, C, H, W) or (N, 1, C, H, W)}, pixels clamped to [0, 1].  With `score` each image
    of the later rows has its PSNR against the first row below it: data["psnr"] is {name: (N,)}.
    titles: N words for the columns.  data: more of the picture's data.
    Raises ValueError for rows of different lengths.
    """
    shown = {name: _flat(name, batch) for name, batch in rows.items()}
    lengths = {name: len(batch) for name, batch in shown.items()}
    if len(set(lengths.values())) != 1:
        raise bad("rows", lengths, "rows of one length")
    (first, truth), *others = shown.items()
    n = len(truth)
    db = {name: metrics.psnr(batch, truth) for name, batch in others} if score else {}
    with matplotlib.rc_context(STYLE):
        width = min(1.15 * n + 1.1, 9.0)
        cell = (width - 1.1) / n
        figure = Figure(figsize=(width, (cell + 0.28) * len(shown) + 0.2))
        axes = figure.subplots(len(shown), n, squeeze=False)
        for r, (name, batch) in enumerate(shown.items()):
            for i, axis in enumerate(axes[r]):
                draw(axis, batch[i])
                if name in db:
                    axis.set_xlabel(_decibel(db[name][i]), fontsize=8, labelpad=2)
            axes[r, 0].set_ylabel(
                name, rotation=0, ha="right", va="center", labelpad=8, fontsize=9, wrap=True
            )
        for axis, title in zip(axes[0], titles or [], strict=False):
            axis.set_title(title, fontsize=9)
        figure.subplots_adjust(wspace=0.06, hspace=0.24 if score else 0.06)
    if alt is None:
        what = f" of {', '.join(titles)}" if titles else ""
        alt = f"{len(shown)} rows of {n} images{what}: {', '.join(map(_one_line, shown))}."
        if db:
            medians = [f"{_one_line(name)} {scores.median():.1f} dB" for name, scores in db.items()]
            alt += f" Median PSNR against {_one_line(first)}: {', '.join(medians)}."
    return Picture(figure, caption=caption, alt=alt, data={"psnr": db, **(data or {})})


def row(
    named: Mapping[str, Tensor], *, caption: str, score: bool = True, data: Data | None = None
) -> Picture:
    """One row of single images, each under its name, the private one first.

    named {name: (1, C, H, W)}.  With `score` each later image has its PSNR against the first below
    it: data["psnr"] is {name: number}.  data: more of the picture's data.
    Raises ValueError for another shape.
    """
    shown = {name: _flat(name, image) for name, image in named.items()}
    for name, image in shown.items():
        if len(image) != 1:
            raise bad(f"named[{name!r}]", f"shape {tuple(image.shape)}", "one image (1, C, H, W)")
    (_, truth), *others = shown.items()
    db = {name: float(metrics.psnr(image, truth)) for name, image in others} if score else {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.6 * len(shown), 1.9))
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for axis, (name, image) in zip(axes, shown.items(), strict=True):
            draw(axis, image[0])
            axis.set_title(name, fontsize=9)
            if name in db:
                axis.set_xlabel(_decibel(db[name]), fontsize=8, labelpad=2)
        figure.subplots_adjust(wspace=0.08)
    alt = f"One image each: {', '.join(shown)}."
    if db:
        scores = ", ".join(f"{name} {_decibel(value)}" for name, value in db.items())
        alt += f" PSNR against the first: {scores}."
    return Picture(figure, caption=caption, alt=alt, data={"psnr": db, **(data or {})})


def snapshots(
    out: Reconstruction, truth: Tensor, *, caption: str, victim: int = 0, most: int = 9
) -> Picture:
    """One victim's image along the attack: at 1, 2, 5, 10, … evaluations, the result, the truth.

    truth (1, C, H, W) or (C, H, W).  The last `most` moments before the end are shown.  The data
    are "psnr" {title: number}.
    """
    truth = truth.reshape(1, *out.images.shape[2:])
    last = int(out.trace[victim].isfinite().sum())
    moments = [count for count in sorted(out.snapshots) if count < last][-most:]
    steps = {f"{count:,}": out.snapshots[count][victim, :1] for count in moments}
    steps[f"best of {last:,}"] = out.images[victim, :1]
    db = {name: float(metrics.psnr(image, truth)) for name, image in steps.items()}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 9 / (len(steps) + 1) + 0.5))
        axes = figure.subplots(1, len(steps) + 1)
        for axis, (name, image) in zip(axes, steps.items(), strict=False):
            draw(axis, image[0])
            axis.set_title(name, fontsize=8)
            axis.set_xlabel(_decibel(db[name]), fontsize=8, labelpad=2)
        draw(axes[-1], truth[0])
        axes[-1].set_title("private", fontsize=8)
        figure.subplots_adjust(wspace=0.08)
    scores = "; ".join(f"{name}: {_decibel(value)}" for name, value in db.items())
    alt = f"The image after so many evaluations, with its PSNR: {scores}."
    return Picture(figure, caption=caption, alt=alt, data={"psnr": db})


def convergence(
    outs: Mapping[str, Reconstruction], *, caption: str, alt: str | None = None
) -> Picture:
    """The objective of each victim against evaluations, thin, and their median, thick; log-log.

    The data are "objective" {name: (V,)}, where each victim ended.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6))
        axis = figure.subplots()
        for (name, out), color in zip(outs.items(), COLORS, strict=False):
            trace = _best_so_far(out.trace)
            counts = np.arange(1, trace.shape[1] + 1)
            for line in trace:
                axis.plot(counts, line, color=color, alpha=0.18, linewidth=0.8)
            axis.plot(counts, trace.median(0).values, color=color, label=name)
        axis.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="objective, best so far")
        axis.legend()
    ends = {name: out.objective for name, out in outs.items()}
    if alt is None:
        medians = (f"{n} ends at a median of {float(e.median()):.1e}" for n, e in ends.items())
        alt = f"Objective against evaluations: {'; '.join(medians)}."
    return Picture(figure, caption=caption, alt=alt, data={"objective": ends})


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
    data: Data | None = None,
    **axes: object,
) -> Picture:
    """Curves over a common x, with a legend when there are several; `axes` as in `Axes.set`.

    A curve has no point where its value is NaN.  mark: one point (x, y) to point at.  The data are
    "x", "curves" {name: numbers}, and what `data` adds.
    """
    curves = {name: [float(y) for y in values] for name, values in curves.items()}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4))
        axis = figure.subplots()
        for name, values in curves.items():
            axis.plot(x, values, marker=marker, markersize=4, label=name)
        if mark is not None:
            axis.plot(*mark, "o", markersize=11, markerfacecolor="none", color=COLORS[1], mew=2)
        axis.set(xlabel=xlabel, ylabel=ylabel, **axes)
        if len(curves) > MANY:
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        elif len(curves) > 1:
            axis.legend()
    seen = {name: [y for y in values if np.isfinite(y)] for name, values in curves.items()}
    ends = "; ".join(f"{n} from {v[0]:.3g} to {v[-1]:.3g}" for n, v in seen.items() if v)
    return Picture(
        figure,
        caption=caption,
        alt=alt or f"{ylabel} against {xlabel}: {ends}.",
        data={"x": list(x), "curves": curves, **(data or {})},
    )


def bars(
    values: Mapping[str, float],
    *,
    ylabel: str,
    caption: str,
    xlabel: str = "",
    alt: str | None = None,
    highlight: str | None = None,
    truth: Mapping[str, float] | None = None,
    data: Data | None = None,
) -> Picture:
    """One bar a name, the highlighted one in another color and hatched.

    truth: a value for each name, drawn as a black line across its bar.  The data are "values", and
    what `data` adds.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.0))
        axis = figure.subplots()
        drawn = axis.bar(list(values), list(values.values()), color=COLORS[0])
        for name, bar in zip(values, drawn, strict=True):
            if name == highlight:
                bar.set(facecolor=COLORS[1], hatch="//", edgecolor="white")
        if truth is not None:
            across = axis.hlines(
                list(truth.values()), *np.add.outer((-0.45, 0.45), range(len(truth))),
                color="black", linewidth=2.5, label="truth",
            )  # fmt: skip
            axis.legend(handles=[across])
        axis.axhline(0, color="#444444", linewidth=0.8)
        axis.set(xlabel=xlabel, ylabel=ylabel)
    heights = ", ".join(f"{name}: {value:.3g}" for name, value in values.items())
    if truth is not None:
        heights += f"; the truth: {', '.join(f'{value:.3g}' for value in truth.values())}"
    return Picture(
        figure,
        caption=caption,
        alt=alt or f"Bars of {ylabel}: {heights}.",
        data={"values": dict(values), **(data or {})},
    )


def draw(axis: Axes, image: Tensor) -> None:
    """One image (C, H, W) in an axis without ticks or frame, pixels clamped to [0, 1]."""
    pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()  # (H, W, C)
    axis.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _flat(name: str, batch: Tensor) -> Tensor:
    batch = batch.detach().cpu()
    if batch.ndim == 5:
        batch = batch.flatten(0, 1)
    if batch.ndim != 4:
        raise bad(f"rows[{name!r}]", f"shape {tuple(batch.shape)}", "(N, C, H, W)")
    return batch


def _decibel(db: float | Tensor) -> str:
    return "> 100 dB" if db > 100 else f"{db:.1f} dB"


def _best_so_far(trace: Tensor) -> Tensor:
    return trace.nan_to_num(nan=float("inf")).cummin(1).values.cpu()


def _one_line(name: str) -> str:
    return name.replace("\n", " ")
