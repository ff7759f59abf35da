"""Chapter 16: every defence against two attackers, on the page and in the saved experiment."""

from __future__ import annotations

from functools import cache, partial

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

from ... import adaptive, attacks, client, defenses, distances, metrics, models, priors
from ...leak import Leak, join, stack
from .. import plots, results
from ..plots import COLORS, STYLE, Picture
from ._shared import RECOVERED_BELOW, Tried, lenets, messages, photographs, scored
from .paper_vs_here import SETS

TRIED_PHOTOS = ("cat", "coffee", "flower")
STRENGTHS = ("weak", "middle", "strong")
TRIED_STEPS = 80
ATTACKERS = ("naive", "adaptive")
FAILS = 0.3  # an attacker fails where the mean SSIM is below
TWO_SCORES = {"SSIM": "mean SSIM", "recovered": f"share with MSE < {RECOVERED_BELOW:g}"}
SHOWN_LOCKS = ("published lock", "published lock, wide maps", "sigmoid lock")


SENT, SCALE_FREE = dict(defend=adaptive.entries_sent), dict(defend=adaptive.scale_free)
TRIED = {
    "masking, p": Tried(defenses.random_mask, (0.1, 0.5, 0.95), lambda _: SENT),
    "pruning, p": Tried(defenses.prune, (0.5, 0.9, 0.99), lambda _: SENT),
    "Soteria, q": Tried(lambda q: defenses.soteria("fc", q), (0.1, 0.5, 0.9), lambda _: SENT),
    "clipping, C": Tried(defenses.clip, (10, 1, 0.01), lambda _: SCALE_FREE),
    "rounding, bits": Tried(
        defenses.quantize, (8, 4, 2), lambda bits: dict(defend=adaptive.within_cells(bits))
    ),
    "noise, σ": Tried(
        defenses.gaussian,
        (1e-3, 1e-2, 0.3),
        lambda sigma: dict(distance=distances.likelihood(sigma), prior=priors.smooth()),
    ),
    "DP-SGD, σ": Tried(
        lambda sigma: defenses.dp_sgd(1, sigma),
        (1e-4, 1e-3, 1),
        lambda sigma: dict(
            distance=distances.likelihood(sigma), prior=priors.smooth(), defend=defenses.clip(1)
        ),
    ),
    "noise on weights, b": Tried(
        defenses.weights_noise,
        (1e-5, 1e-4, 1e-2),
        lambda b: dict(
            distance=distances.likelihood(2**0.5 * b),
            prior=priors.smooth(),
            defend=adaptive.noisy_weights(),
        ),
    ),
    "sparse weights, s": Tried(defenses.weights_sparsify, (0.01, 0.1, 0.9), lambda _: SENT),
}


# ------------------------------------------------------------------ on the page
@cache
def tried_photos() -> tuple[Tensor, Tensor]:
    """Three photographs (3, 3, 32, 32) and their labels (3,)."""
    return photographs(TRIED_PHOTOS)


@cache
def tried_messages(name: str, strength: str) -> Leak:
    """What the three photographs' clients send with one of the `TRIED`, stacked."""
    make, values, _ = TRIED[name]
    defense = make(values[STRENGTHS.index(strength)])
    share = client.share_gradient
    if isinstance(defense, client.OnWeights):
        share = partial(client.share_weights, lr=0.1)
    return stack(messages(share, lenets(3, 32, classes=8), *tried_photos(), defense=defense))


@cache
def outcomes(attacker: str) -> dict[tuple[str, str], Tensor]:
    """What one of the `ATTACKERS` finds: {(name, strength): (3, 3, 32, 32)}.

    Messages against which the same knowledge helps share one batch.
    """
    batches: list[tuple[dict, str, list[tuple[str, str]]]] = []
    for name, (_, values, knowing) in TRIED.items():
        for strength, value in zip(STRENGTHS, values, strict=True):
            settings = knowing(value) if attacker == "adaptive" else {}
            kind = tried_messages(name, strength).kind
            same = [b[2] for b in batches if b[0] == settings and b[1] == kind]
            if same:
                same[0].append((name, strength))
            else:
                batches.append((settings, kind, [(name, strength)]))
    found = {}
    for settings, kind, cases in batches:
        seen = _known if attacker == "adaptive" else tried_messages
        leaks = [seen(*case) for case in cases]
        images = _attacked(join(leaks), kind, settings)
        found |= dict(zip(cases, images.split(len(TRIED_PHOTOS)), strict=True))
    return found


def likeness_of(attacker: str, name: str, strength: str) -> Tensor:
    """The SSIM of the three photographs that an attacker has rebuilt, (3,)."""
    return metrics.ssim(outcomes(attacker)[name, strength], tried_photos()[0])


def two_attackers(defense: str = "masking, p", strength: str = "middle") -> Picture:
    """Three photographs behind a defence, as the naive and the adaptive attacker see them.

    The data are "strength", the number, and "ssim" {attacker: mean}.
    """
    rows = {attacker: outcomes(attacker)[defense, strength] for attacker in ATTACKERS}
    ssim = {a: float(likeness_of(a, defense, strength).mean()) for a in ATTACKERS}
    value = TRIED[defense].strengths[STRENGTHS.index(strength)]
    return plots.images(
        {"private": tried_photos()[0], **rows},
        caption=f"{defense} = {value:g}. Mean SSIM: {scored(ssim)}. "
        f"{TRIED_STEPS} evaluations each.",
        data={"strength": value, "ssim": ssim},
    )


def _known(name: str, strength: str) -> Leak:
    leak = tried_messages(name, strength)
    return adaptive.without_zeros(leak) if name.startswith("sparse weights") else leak


def _attacked(leaks: Leak, kind: str, settings: dict) -> Tensor:
    _, y = tried_photos()
    attack = attacks.dlm_plus if kind == "weights" else attacks.idlg
    out = attack(
        models.lenet(classes=8), leaks, (1, 3, 32, 32),
        labels=y.repeat(leaks.victims // len(y))[:, None], steps=TRIED_STEPS, **settings,
    )  # fmt: skip
    return out.images[:, 0]


# ------------------------------------------------------------------ the saved experiment
def tried_sets() -> list[str]:
    """The sets of the saved experiment `defenses` that are attacked and trained on in full."""
    whole = results.finished(results.load("defenses"))
    return [name for name in whole if f"{name} trained" in whole]


def families() -> dict[str, list[str]]:
    """The arms of that experiment that differ in strength alone, from weak to strong."""
    found: dict[str, list[str]] = {}
    for arm in results.load("defenses")["settings"]["arms"]:
        name, _, strength = arm.rpartition(" ")
        if strength == "bits":
            found.setdefault("bits", []).append(arm)
        elif strength[:1].isdigit():
            found.setdefault(name, []).append(arm)
    return found


def thresholds(images: str) -> dict[str, dict[str, str | None]]:
    """The weakest arm of each family at which an attacker fails: {family: {attacker: arm}}.

    It fails where the mean SSIM is below `FAILS`; None where no arm is strong enough.
    """
    arms = results.finished(results.load("defenses"))[images]

    def first(members: list[str], attacker: str) -> str | None:
        means = {arm: results.mean(arms[arm][f"{attacker}_ssim"]).mean for arm in members}
        return next((arm for arm, mean in means.items() if mean < FAILS), None)

    return {
        family: {attacker: first(members, attacker) for attacker in ATTACKERS}
        for family, members in families().items()
    }


def accuracy_with(images: str, arm: str) -> str:
    """The mean accuracy after training with a defence, and the range of its seeds."""
    scores = results.finished(results.load("defenses"))[f"{images} trained"][arm]["accuracy"]
    if None in scores:
        return "–"
    return f"{sum(scores) / len(scores):.0%} ({min(scores):.0%} to {max(scores):.0%})"


def every_defense(images: str) -> results.Table:
    """Every defence of the saved experiments, by what two attackers see and what it costs."""
    rows = [
        [arm, *_row(columns, ATTACKERS), accuracy_with(images, arm).split(" ")[0]]
        for arm, columns in results.finished(results.load("defenses"))[images].items()
    ]
    locks = results.finished(results.load("keylock"))
    for arm in SHOWN_LOCKS if images in locks else ():
        own = locks[f"{images} trained"][arm]["own"] if f"{images} trained" in locks else []
        cost = f"{sum(own) / len(own):.0%}" if own else "–"
        rows.append([arm, *_row(locks[images][arm], ("guess", "nothing")), f"{cost}*"])
    n = len(next(iter(results.finished(results.load("defenses"))[images].values()))["naive_mse"])
    return results.Table(
        [
            "defence", "SSIM, naive", "SSIM, adaptive", "recovered, naive",
            "recovered, adaptive", "p", "accuracy",
        ],
        rows,
        caption=f"{SETS[images]}, {n} images: mean SSIM, ± half of Student's 95 % interval; images "
        f"with a mean squared error below {RECOVERED_BELOW:g} (their intervals are in the picture "
        "above); McNemar's p of the two; mean accuracy of three seeds. *FedAvg, each client with "
        "its own key.",
    )  # fmt: skip


def both_attackers(images: str = "mnist", score: str = "SSIM") -> Picture:
    """What the naive and the adaptive attacker make of every arm of the saved experiment.

    score: "SSIM", its mean, or "recovered", the share with a small mean squared error.  The data
    are {attacker: {arm: (score, low, high)}}.
    """
    arms = results.finished(results.load("defenses"))[images]
    scores = {w: {arm: _scored(c, w, score) for arm, c in arms.items()} for w in ATTACKERS}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.2 * len(arms) + 0.8))
        axis = figure.subplots()
        rows = range(len(arms))
        ends = [[middle for middle, *_ in scores[who].values()] for who in ATTACKERS]
        axis.hlines(rows, *ends, color="#999999", linewidth=1.2)
        for who, color, marker, off in zip(ATTACKERS, COLORS, "os", (-0.12, 0.12), strict=False):
            middle, low, high = zip(*scores[who].values(), strict=True)
            y = [row + off for row in rows]
            axis.hlines(y, low, high, color=color, linewidth=1)
            axis.plot(middle, y, marker, color=color, markersize=4.5, label=who)
        axis.set_yticks(rows, list(arms), fontsize=8)
        axis.set(xlabel=TWO_SCORES[score], ylim=(len(arms) - 0.4, -0.6), xlim=(-0.15, 1.05))
        figure.legend(*axis.get_legend_handles_labels(), loc="upper center", ncols=2)
        figure.subplots_adjust(top=0.95)
    summary = "; ".join(
        f"{arm}: {', '.join(f'{scores[who][arm][0]:z.2f}' for who in ATTACKERS)}" for arm in arms
    )
    return Picture(
        figure,
        caption=f"{SETS[images]}: {TWO_SCORES[score]}, with 95 % intervals, of the naive attacker "
        "and of the one who knows the defence.",
        alt=f"{TWO_SCORES[score]} of {' and '.join(ATTACKERS)} on {SETS[images]}. {summary}.",
        data=scores,
    )


def _recovered(columns: results.Columns, who: str) -> list[bool]:
    return results.recovered({"mse": columns[f"{who}_mse"]}, RECOVERED_BELOW)


def _scored(columns: results.Columns, who: str, score: str) -> tuple[float, float, float]:
    if score == "SSIM":
        return tuple(results.mean(columns[f"{who}_ssim"])[1:])
    return tuple(results.shares({"": _recovered(columns, who)})[0][3:])


def _row(columns: results.Columns, who: tuple[str, str]) -> list[str]:
    means = [results.mean(columns[f"{w}_ssim"]) for w in who]
    shares = results.shares({w: _recovered(columns, w) for w in who})
    p = results.mcnemar(*(_recovered(columns, w) for w in who)).p
    return [
        *(f"{m.mean:z.2f} ± {m.high - m.mean:.2f}" for m in means),
        *(f"{s.count}/{s.n}" for s in shares),
        "< 0.001" if p < 0.001 else f"{p:.3f}",
    ]
