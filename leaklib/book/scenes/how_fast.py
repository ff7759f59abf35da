"""The page "How fast": the saved benchmark."""

from __future__ import annotations

from .. import plots, results
from ..plots import Picture


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
