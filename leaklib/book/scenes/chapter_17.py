"""Chapter 17: privacy against utility."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from statistics import fmean
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from .. import results
from ..plots import COLORS, STYLE, Picture
from .chapter_16 import ATTACKERS, tried_sets
from .paper_vs_here import SETS

JUDGES = (*ATTACKERS, "the stronger")
SSIM_SEEN = 0.6  # above this a picture counts as recognised
LEAKAGES: dict[str, Callable[[list[float]], float]] = {
    "mean SSIM": fmean,
    "largest SSIM": max,
    "share recognised": lambda ssim: fmean(s > SSIM_SEEN for s in ssim),
}
# family: how the names of its arms begin, color, marker
FAMILIES = {
    "none": (("none",), COLORS[6], "*"),
    "noise": (("noise", "Laplace noise"), COLORS[0], "o"),
    "clipping": (("clip",), COLORS[1], "s"),
    "pruning": (("prune",), COLORS[2], "^"),
    "fewer bits": (("half", "8 ", "4 ", "3 ", "2 "), COLORS[3], "v"),
    "masking": (("mask",), COLORS[4], "D"),
    "DP-SGD": (("DP-SGD",), COLORS[5], "P"),
    "on the weights": (("weights",), COLORS[6], "X"),
}
GAP = 0.062  # between two labels, as a share of the height


class Point(NamedTuple):
    """What a defence costs and what it leaves: more accuracy and less leakage are better."""

    accuracy: float
    leakage: float


def judged_sets() -> tuple[str, ...]:
    """The data sets on which the saved experiment `defenses` has both attacks and training."""
    return tuple(SETS[name] for name in tried_sets())


@cache
def _columns(data_set: str) -> dict[str, dict[str, list]]:
    """{arm: columns} of attack and training together, for the arms that were trained."""
    held = results.finished(results.load("defenses"))
    name = next(key for key, title in SETS.items() if title == data_set)
    cost = held[f"{name} trained"]
    return {
        arm: {**columns, **cost[arm]}
        for arm, columns in held[name].items()
        if None not in cost[arm]["accuracy"]
    }


def trade_offs(
    data_set: str = "MNIST", attacker: str = "naive", score: str = "mean SSIM"
) -> dict[str, Point]:
    """{defence: (accuracy, leakage)} out of the saved experiment, accuracy a mean over seeds.

    attacker: one of `JUDGES`; the stronger is, for each defence, the one who scores more.
    score: one of `LEAKAGES`, of the SSIM of each image.
    """
    asked = ATTACKERS if attacker == "the stronger" else (attacker,)
    return {
        arm: Point(fmean(c["accuracy"]), max(LEAKAGES[score](c[f"{who}_ssim"]) for who in asked))
        for arm, c in _columns(data_set).items()
    }


def front(points: Mapping[str, Point]) -> list[str]:
    """The names of the points that no other dominates, from much leakage to little.

    One point dominates another when it is as good in both and better in one.
    """

    def dominated(p: Point) -> bool:
        return any(
            q.accuracy >= p.accuracy and q.leakage <= p.leakage and q != p for q in points.values()
        )

    best = [name for name, p in points.items() if not dominated(p)]
    return sorted(best, key=lambda name: -points[name].leakage)


def pareto(attacker: str = "naive", data_set: str = "MNIST", score: str = "mean SSIM") -> Picture:
    """All defences by accuracy and leakage, as one attacker judges them, and their front.

    The data are "points" {defence: `Point`} and "front", the names on it.
    """
    points, columns = trade_offs(data_set, attacker, score), _columns(data_set)
    best = front(points)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.6))
        axis = figure.subplots()
        for family, (_, color, marker) in FAMILIES.items():
            mine = [name for name in points if family_of(name) == family]
            for shown, alpha in ((mine, 0.28), ([n for n in mine if n in best], 1)):
                axis.scatter(
                    [points[n].accuracy for n in shown], [points[n].leakage for n in shown],
                    color=color, marker=marker, alpha=alpha, s=80 if marker == "*" else 40,
                    linewidths=0, zorder=3,
                )  # fmt: skip
            axis.scatter([], [], color=color, marker=marker, s=40, label=family)
        steps = [points[name] for name in reversed(best)]
        axis.step(*zip(*steps), where="pre", color="#555555", linewidth=1, zorder=2)
        for name in best:
            seeds = columns[name]["accuracy"]
            axis.hlines(points[name].leakage, min(seeds), max(seeds), color="#555555", zorder=2)
        axis.set(
            xlabel="accuracy of the trained network (more is better)",
            ylabel=f"leakage: {score} (less is better)",
            title=f"{data_set}, judged by {_who(attacker)}",
            ylim=(min(-0.05, min(p.leakage for p in points.values()) - 0.03), 1.05),
        )
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        _named(axis, {name: points[name] for name in best})
        figure.legend(loc="upper center", ncols=4, bbox_to_anchor=(0.5, 0.01), fontsize=9)
    summary = "; ".join(
        f"{n}, accuracy {points[n].accuracy:.0%}, leakage {points[n].leakage:z.2f}" for n in best
    )
    return Picture(
        figure,
        caption=f"{data_set} as {_who(attacker)} judges it: {len(best)} of {len(points)} "
        "defences are on the front. Bars are the range of the seeds.",
        alt=f"Accuracy against leakage ({score}), judged by {_who(attacker)}, {data_set}. "
        f"On the front: {summary}.",
        data={"points": points, "front": best},
    )


def two_judges(data_set: str, names: Iterable[str]) -> Picture:
    """Some defences, a line each: the mean SSIM that the naive and the adaptive attacker reach.

    The data are {attacker: {defence: `Point`}}, the most leakage to the naive attacker first.
    """
    judged = {attacker: trade_offs(data_set, attacker) for attacker in ATTACKERS}
    names = sorted(names, key=lambda name: -judged["naive"][name].leakage)
    rows = np.arange(len(names))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.27 * len(names) + 0.9))
        axis = figure.subplots()
        found = {a: [points[name].leakage for name in names] for a, points in judged.items()}
        axis.hlines(rows, found["naive"], found["adaptive"], color="#999999", linewidth=1.2)
        for (attacker, ssim), marker, color in zip(found.items(), "oD", COLORS, strict=False):
            axis.plot(
                ssim,
                rows,
                marker,
                color=color,
                label=attacker,
                markersize=7 if marker == "o" else 5,
            )
        labels = [f"{name}  ({judged['naive'][name].accuracy:.0%})" for name in names]
        axis.set_yticks(rows, labels)
        axis.set(xlabel="leakage: mean SSIM", xlim=(min(-0.05, *found["adaptive"]) - 0.02, 1.05))
        axis.invert_yaxis()
        axis.legend(loc="lower center", ncols=2, bbox_to_anchor=(0.5, 1))
    summary = "; ".join(
        f"{name} {n:z.2f} and {a:z.2f}" for name, n, a in zip(names, *found.values(), strict=True)
    )
    return Picture(
        figure,
        caption=f"{data_set}: what the two attackers make of the same messages. In brackets the "
        "accuracy after training with the defence.",
        alt=f"Mean SSIM of the naive and of the adaptive attacker: {summary}.",
        data={who: {name: points[name] for name in names} for who, points in judged.items()},
    )


def where_integers_lie(uploads: Mapping[str, Iterable[Tensor]], ranges: int = 15) -> Picture:
    """The share of 64-bit integers in each of so many equal parts of all that there are.

    uploads {name: tensors of integers}.  The data are the shares {name: (ranges,)}.
    """
    edges = np.linspace(-(2.0**63), 2.0**63, ranges + 1)
    shares = {}
    for name, tensors in uploads.items():
        held = np.concatenate([t.flatten().double().numpy() for t in tensors])
        shares[name] = np.histogram(held, edges)[0] / len(held)
    middle = (edges[1:] + edges[:-1]) / 2**64
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.8))
        axis = figure.subplots()
        for (name, share), hatch in zip(shares.items(), ("", "//"), strict=False):
            axis.bar(middle, share, width=1.7 / ranges, alpha=0.75, hatch=hatch, label=name)
        axis.set(xlabel="the integer, in units of $2^{63}$", ylabel="share of the entries")
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        axis.legend()
    summary = "; ".join(f"{n} at most {s.max():.0%} in one part" for n, s in shares.items())
    return Picture(
        figure,
        caption=f"Where the integers lie, in {ranges} equal parts of all 64-bit integers.",
        alt=f"Bars: {summary}.",
        data=shares,
    )


def family_of(name: str) -> str:
    """The family of a defence, one of `FAMILIES`."""
    return next(family for family, (starts, *_) in FAMILIES.items() if name.startswith(starts))


def _who(attacker: str) -> str:
    return f"{attacker} of the two" if attacker == "the stronger" else f"the {attacker} attacker"


def _named(axis: Axes, best: Mapping[str, Point]) -> None:
    """Names in a column at the right, at the height of their points, or below where these crowd."""
    low, high = axis.get_ylim()
    heights, last = [], 1 + GAP
    for point in best.values():
        last = min((point.leakage - low) / (high - low), last - GAP)
        heights.append(last)
    # what has been pushed below the axis goes up again
    floor = 0.0
    for i in reversed(range(len(heights))):
        heights[i] = max(heights[i], floor)
        floor = heights[i] + GAP
    for (name, point), height in zip(best.items(), heights, strict=True):
        axis.annotate(
            name, xy=point, xytext=(1.04, height), textcoords="axes fraction", fontsize=9,
            va="center", annotation_clip=False,
            arrowprops=dict(arrowstyle="-", color="#999999", linewidth=0.7, shrinkA=2, shrinkB=4),
        )  # fmt: skip
