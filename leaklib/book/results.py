"""Saved results of what takes longer than a page may: written by experiments, read by pages.

A result is a JSON file NAME.json:

    provenance  how it was made: command, date, seed, versions, machine, and the data of each set
    settings    what a run must share to be part of it: images, steps, the names of the arms, …
    sets        {set: {arm: {column: [one entry for each image, in order]}}}

Arms of a set met the same images, networks and starts, so their columns are paired.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import scipy.stats
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import metrics
from .._errors import bad
from .plots import COLOURS, STYLE, Picture

Result = dict[str, Any]
Columns = dict[str, list]

_PACKAGE = Path(__file__).resolve().parent
FOLDERS = (
    _PACKAGE.parent / "experiments" / "results",
    _PACKAGE.parent / "benchmarks" / "results",
    _PACKAGE / "_results",  # where the wheel has both
)
DIGITS = 4  # significant ones of a saved number
MARKERS = "osD^v"
LEVEL = 0.05  # two outcomes are called different when McNemar's p is below this


class Share(NamedTuple):
    """So many of n images, with Wilson's 95 % interval from low to high."""

    name: str
    count: int
    n: int
    share: float
    low: float
    high: float


class Mean(NamedTuple):
    """The mean of n numbers, with Student's 95 % interval from low to high."""

    n: int
    mean: float
    low: float
    high: float


# ------------------------------------------------------------------ files
def load(name: str) -> Result:
    """The saved result of that name, from the checkout or from the installed package.

    Raises ValueError, with the names there are, for another one.
    """
    found = {file.stem: file for folder in reversed(FOLDERS) for file in folder.glob("*.json")}
    if name not in found:
        names = ", ".join(sorted(found)) or "there is none; make experiments"
        raise bad("name", repr(name), f"a saved result ({names})")
    return json.loads(found[name].read_text("utf-8"))


def save(path: Path, result: Result) -> None:
    """Write a result as JSON: aside, then renamed, so that no half of a file is ever at `path`.

    Numbers keep four significant digits, and null stands for one that is not finite.  Each column
    is one line, so that git shows which of them changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(_text(result) + "\n", "utf-8")
    os.replace(aside, path)


def as_saved(value: Any) -> Any:
    """What `save` would write of a value, read back: lists for tuples, numbers cut short."""
    return json.loads(_text(value))


def provenance(command: str, seed: int, **data: object) -> Result:
    """How a result is made: command, day (UTC), seed, versions, machine, and facts of the `data`.

    Raises ValueError for a command with a path of this machine in it.
    """
    from .. import __version__

    if any(Path(word).is_absolute() for word in command.split()):
        raise bad("command", repr(command), "one that works in any checkout, with no absolute path")
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "leaklib": __version__,
        },
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "data": data,
    }


def fingerprint(images: Tensor, labels: Tensor) -> str:
    """SHA-256 of images, to the nearest of 256 levels, and their labels: the same data, or not.

    Rounding keeps the last digits of an enlarged picture, which differ by processor, out of it.
    """
    levels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    total = hashlib.sha256(str(tuple(images.shape)).encode())
    total.update(levels.cpu().numpy().tobytes())
    total.update(labels.cpu().to(torch.int64).numpy().tobytes())
    return total.hexdigest()


def _text(value: object, margin: str = "") -> str:
    """JSON with one line for each entry of a dict, and lists on one line."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(_short(value), ensure_ascii=False, allow_nan=False)
    inner = margin + " "
    entries = (f"{inner}{json.dumps(str(k))}: {_text(v, inner)}" for k, v in value.items())
    return "{\n" + ",\n".join(entries) + f"\n{margin}}}"


def _short(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_short(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


# ------------------------------------------------------------------ numbers
def finished(result: Result) -> dict[str, dict[str, Columns]]:
    """The sets of which every arm has all its images; an interrupted run leaves others."""
    arms, images = result["settings"]["arms"], result["settings"]["images"]

    def whole(name: str, held: dict[str, Columns]) -> bool:
        wanted = images[name] if isinstance(images, Mapping) else images
        columns = [held.get(arm, {}).values() for arm in arms]
        return all(len(c) > 0 and all(len(column) == wanted for column in c) for c in columns)

    return {name: held for name, held in result["sets"].items() if whole(name, held)}


def recovered(arm: Columns, threshold: float) -> list[bool]:
    """Which images of an arm are recovered: mean squared error below the threshold."""
    if not threshold > 0:
        raise bad("threshold", threshold, "a positive mean squared error")
    return [mse is not None and mse < threshold for mse in arm["mse"]]


def shares(outcomes: Mapping[str, Sequence[bool]]) -> list[Share]:
    """How many outcomes of each name are true, with Wilson's interval."""
    rows = []
    for name, values in outcomes.items():
        count, n = sum(map(bool, values)), len(values)
        low, high = metrics.wilson(count, n)
        rows.append(Share(name, count, n, count / n, low, high))
    return rows


def mean(values: Sequence[float]) -> Mean:
    """The mean of at least two numbers, one for each image or batch, and how sure it is.

    Raises ValueError for fewer than two, or one that is missing.
    """
    if len(values) < 2 or any(value is None for value in values):
        raise bad("values", values, "two numbers or more, none of them missing")
    middle, spread = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    beyond = float(spread * scipy.stats.t.ppf(0.975, len(values) - 1))
    return Mean(len(values), float(middle), float(middle) - beyond, float(middle) + beyond)


def compared(outcomes: Mapping[str, Sequence[bool]]) -> str:
    """A sentence on two paired outcomes {name: (n,)}: both shares, and what McNemar's test says."""
    if len(outcomes) != 2:
        raise bad("outcomes", list(outcomes), "two names")
    a, b = shares(outcomes)
    test = metrics.mcnemar(*outcomes.values())
    verdict = "no different"
    if test.p < LEVEL:
        verdict = f"the first is {'higher' if test.only_a > test.only_b else 'lower'}"
    p = f"p = {test.p:.3f}" if test.p >= 0.001 else "p < 0.001"
    p = p.replace(" ", "\N{NO-BREAK SPACE}")
    return (
        f"{a.name} {a.share:.1%}, {b.name} {b.share:.1%} of {a.n}: {verdict} by McNemar's test "
        f"(only the first {test.only_a}, only the second {test.only_b}; {p})."
    )


# ------------------------------------------------------------------ tables and figures
class Table:
    """A table with a caption; the first cell of each row says what the row is about.

    Shows itself at the end of a cell.  A part of a cell between backticks is code.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str):
        for i, row in enumerate(rows):
            if len(row) != len(header):
                raise bad(f"rows[{i}]", f"{len(row)} cells", f"{len(header)}, as the header has")
        self.header, self.caption = list(header), caption
        self.rows = [[str(cell) for cell in row] for row in rows]

    def html(self) -> str:
        head = "".join(
            f'<th scope="col">{_marked(cell)}</th>' if cell else "<td></td>" for cell in self.header
        )
        body = "".join(
            f'<tr><th scope="row">{_marked(first)}</th>'
            + "".join(f"<td>{_marked(cell)}</td>" for cell in others)
            + "</tr>"
            for first, *others in self.rows
        )
        return (
            '<div class="pst-scrollable-table-container"><table class="table leak-table">'
            f"<caption>{_marked(self.caption)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join([*(f"| {' | '.join(line)} |" for line in cells), "", self.caption])

    def __repr__(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        return self.html()

    def _repr_markdown_(self) -> str:
        return self.markdown()


def figure(
    panels: Mapping[str, Mapping[str, Sequence[Share]]],
    *,
    xlabel: str,
    ylabel: str,
    caption: str,
    alt: str | None = None,
    join: bool = False,
) -> Picture:
    """Shares with Wilson's intervals as bars of error, side by side: {panel: {series: shares}}.

    The names of the shares stand along x, the same in every series; series differ in colour and
    marker, and `join` draws a line through each.  Raises ValueError for no panel, or series whose
    names differ.
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
            _errorbars(axis, series, join)
            axis.set(title=title, xlabel=xlabel, ylim=(-0.03, 1.03), xlim=(-0.5, len(names) - 0.5))
            axis.set_xticks(range(len(names)), names, fontsize=8)
        axes[0].set_ylabel(ylabel)
        axes[0].yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
        handles, said = axes[0].get_legend_handles_labels()
        if len(said) > 2 * len(panels):
            axes[-1].legend(handles, said, loc="center left", bbox_to_anchor=(1, 0.5))
        elif len(said) > 1:
            figure.legend(handles, said, loc="upper center", ncols=len(said), borderaxespad=0)
        figure.subplots_adjust(top=0.85, wspace=0.08)
    return Picture(figure, caption=caption, alt=alt or _told(every, xlabel, ylabel))


def _errorbars(axis: matplotlib.axes.Axes, series: Mapping[str, Sequence[Share]], join: bool):
    for k, (name, rows) in enumerate(series.items()):
        # beside each other, so that no interval hides another
        x = np.arange(len(rows)) + 0.14 * (k - (len(series) - 1) / 2)
        y = np.array([share.share for share in rows])
        beyond = [[s.share - s.low for s in rows], [s.high - s.share for s in rows]]
        axis.errorbar(
            x, y, np.clip(beyond, 0, None), label=name, color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)], markersize=5, capsize=2.5, elinewidth=1.2,
            linestyle="-" if join else "none", linewidth=1,
        )  # fmt: skip


def _told(every: Sequence[tuple[str, Sequence[Share]]], xlabel: str, ylabel: str) -> str:
    lines = (
        f"{where}: {', '.join(f'{s.share:.0%} at {s.name}' for s in rows)}" for where, rows in every
    )
    what = f"{ylabel[:1].upper()}{ylabel[1:]} against {xlabel}, with 95 % intervals"
    return f"{what}. {'; '.join(lines)}."


def _marked(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
