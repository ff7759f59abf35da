"""Chapter 8: batches and feedback blending."""

from __future__ import annotations

from functools import cache
from statistics import fmean

from torch import Tensor

from ... import attacks, client, data, labels, metrics, models
from .. import plots, results
from ..plots import Picture
from ._shared import RECOVERED_BELOW
from .paper_vs_here import SETS

MINI_BATCHES = (1, 2, 4, 8)
MOMENTS = (50, 100, 200, 500)
BLEND_STARTS = ("normal", "uniform", "half", "zeros", "mean", "blend")


def mini_batch(batch_size: int = 4, evaluations: int = 500) -> Picture:
    """A mini-batch of digits out of one gradient, after so many evaluations of the attack."""
    truth, moments = _mini_batch(batch_size)
    rebuilt = moments[evaluations]
    db = float(metrics.psnr(rebuilt, truth).median())
    return plots.images(
        {"private": truth, "rebuilt": rebuilt},
        caption=f"{batch_size} of {MINI_BATCHES[-1]} digits behind one gradient, after "
        f"{evaluations} evaluations: median PSNR {db:.1f} dB.",
    )


@cache
def _mini_batch(B: int) -> tuple[Tensor, dict[int, Tensor]]:
    """The private digits (B, 1, 28, 28), and the attack's at each of `MOMENTS`, in their order."""
    images, numbers = (t[:B] for t in data.load("digits", MINI_BATCHES[-1], seed=8))
    model = models.lenet(1, 28)
    leak = client.share_gradient(model, images, numbers)
    found = labels.listed(labels.counts(model, leak))
    out = attacks.dlg(
        model, leak, tuple(images.shape), labels=found, start="uniform", steps=MOMENTS[-1]
    )
    # an attack that was over by then stands where it ended
    at = {moment: out.snapshots.get(moment, out.images)[0] for moment in MOMENTS}
    return images, {moment: metrics.match(x, images) for moment, x in at.items()}


def blended_sets() -> tuple[str, ...]:
    """The sets that the saved experiment `dlg_fb` has finished."""
    return tuple(SETS[name] for name in results.finished(results.load("dlg_fb")))


def blending(solver: str = "published", images_of: str = "MNIST") -> Picture:
    """The saved experiment `dlg_fb`: what an image costs iDLG from each start.

    solver: "published" or "safeguarded"; images_of: one of `blended_sets()`.  The data tell the
    share "recovered" {start: share} too.
    """
    name = next(key for key, title in SETS.items() if title == images_of)
    held = results.finished(results.load("dlg_fb"))[name]
    arms = {start: held[f"iDLG, {start}, {solver}"] for start in BLEND_STARTS}
    recovered = {s: fmean(results.recovered(arm, RECOVERED_BELOW)) for s, arm in arms.items()}
    by_start = ", ".join(f"{start} {share:.0%}" for start, share in recovered.items())
    return plots.bars(
        {start: fmean(arm["evaluations"]) for start, arm in arms.items()},
        xlabel="start",
        ylabel="evaluations an image",
        highlight="blend",
        caption=f"iDLG on {len(arms['blend']['mse'])} images of {images_of}, {solver} solver; the "
        f"blend is hatched. Recovered (MSE below {RECOVERED_BELOW:g}): {by_start}.",
        data={"recovered": recovered},
    )
