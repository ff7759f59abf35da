"""Shares with their intervals, drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..._errors import bad
from ..plots import COLORS, STYLE, Picture
from .statistics import Share

MARKERS = "osD^v"


def figure(
    panels: Mapping[str, Mapping[str, Sequence[Share]]],
    *,
    xlabel: str,
    ylabel: str,
    caption: str,
    alt: str | None = None,
    join: bool = False,
) -> Picture:
    """Shares with Wilson's intervals as error bars, side by side: {panel: {series: shares}}.

    The names of the shares stand along x, the same in every series; series differ in color and
    marker, and `join` draws a line through each.  The picture's data are the panels.
    Raises ValueError for no panel, or series whose names differ.
    """
    if not panels or not all(panels.values()):
        raise bad("panels", {title: list(series) for title, series in panels.items()}, "shares")
    every = [(f"{t}: {s}", rows) for t, series in panels.items() for s, rows in series.items()]
    names = [share.name for share in every[0][1]]
    for where, rows in every:
        if [share.name for share in rows] != names:
            raise bad(f"panels[{where!r}]", [share.name for share in rows], f"{names}")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(panels) + 0.6, 3.4))
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, series) in zip(axes, panels.items(), strict=True):
            _error_bars(axis, series, join)
            axis.set(title=title, xlabel=xlabel, ylim=(-0.03, 1.03), xlim=(-0.5, len(names) - 0.5))
            axis.set_xticks(range(len(names)), names, fontsize=8)
        axes[0].set_ylabel(ylabel)
        axes[0].yaxis.set_major_formatter(PercentFormatter(1))
        handles, labels = axes[0].get_legend_handles_labels()
        if len(labels) > 2 * len(panels):
            axes[-1].legend(handles, labels, loc="center left", bbox_to_anchor=(1, 0.5))
        elif len(labels) > 1:
            figure.legend(handles, labels, loc="upper center", ncols=len(labels), borderaxespad=0)
        figure.subplots_adjust(top=0.85, wspace=0.08)
    return Picture(
        figure, caption=caption, alt=alt or _description(every, xlabel, ylabel), data=panels
    )


def _error_bars(axis: Axes, series: Mapping[str, Sequence[Share]], join: bool) -> None:
    for k, (name, rows) in enumerate(series.items()):
        # beside each other, so that no interval hides another
        x = np.arange(len(rows)) + 0.14 * (k - (len(series) - 1) / 2)
        axis.errorbar(
            x, [share.share for share in rows], reach(rows), label=name,
            color=COLORS[k % len(COLORS)], marker=MARKERS[k % len(MARKERS)],
            markersize=5, capsize=2.5, elinewidth=1.2, linewidth=1,
            linestyle="-" if join else "none",
        )  # fmt: skip


def reach(rows: Sequence[Share]) -> np.ndarray:
    """How far each interval reaches below and above its share, as Matplotlib wants it: (2, n)."""
    # Wilson's interval of none or all ends at the share, up to rounding
    beyond = [[s.share - s.low for s in rows], [s.high - s.share for s in rows]]
    return np.clip(beyond, 0, None)


def _description(every: Sequence[tuple[str, Sequence[Share]]], xlabel: str, ylabel: str) -> str:
    lines = (
        f"{where}: {', '.join(f'{s.share:.0%} at {s.name}' for s in rows)}" for where, rows in every
    )
    what = f"{ylabel[:1].upper()}{ylabel[1:]} against {xlabel}, with 95 % intervals"
    return f"{what}. {'; '.join(lines)}."
