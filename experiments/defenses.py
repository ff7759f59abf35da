"""Defences: two attackers and the cost in accuracy, by strength (about 30 minutes on 2 cores).

    python experiments/defenses.py [--images N] [--sets mnist cifar10 …] [--chunk 20]
                                   [--workers 2] [--fresh]

A client sends what a sigmoid LeNet with DLG's weights gives for one image, with a defence.  Two
attackers have 200 evaluations from each of two starts, grey and uniform noise, and keep the one
whose objective is smaller: the naive one compares its own clean gradient (`attacks.idlg`, of
weights `attacks.dlm_plus`), the adaptive one knows the defence and its strength (`adaptive`).  Both
are told the label, so that the images alone are compared; whether the rule still reads it is a
column of its own.  Networks, images and starts are the same in every arm.

The sets "… trained" have the cost: a LeNet as one trains it, with tanh and PyTorch's weights, by
averaging gradients of 32 images from each of 5 clients, 200 rounds, each update defended (the
weights' defences act on the weights after one such step).  One entry is a seed.  Where a defence
bounds the norm by C the learning rate is divided by C, and that of DP-SGD is five times as large,
for clipped gradients of single images cancel in the mean.  Soteria is not trained with: its scores
take 20 seconds a round.
`mnist` and `cifar10` are read as `leaklib.data` says; where they are not, take `--sets digits`.
Writes experiments/results/defenses.json after every chunk; started again, it goes on from there.
Claim: Kim & Park 2024; Zhu et al. 2019; Zhao, Luo & Ding 2022; Sun et al. 2021; Balunovic 2022.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from _attacked_and_trained import BY_DEFAULT, SETS, SHAPES, counts, private_of, tested
from _experiment import RESULTS, Set, command_line
from leaklib import (
    adaptive,
    attacks,
    client,
    defenses,
    distances,
    federated,
    labels,
    metrics,
    models,
    priors,
    random,
)
from leaklib.leak import Tensors, stack

IMAGES, SEEDS = 20, 3
EVALUATIONS, ROUNDS, CLIENTS, BATCH = 200, 200, 5, 32
DP_FASTER = 5
SENT_AT = 0.1  # the learning rate of clients that send weights
LEARNING_RATES = {"mnist": 0.1, "cifar10": 0.1, "digits": 0.1}


class Arm(NamedTuple):
    """A defence at one strength, what the adaptive attacker changes, and the norm it bounds."""

    defense: client.Defense | None
    knows: Mapping[str, object] = {}
    bound: float | None = None


def noise(relative: float) -> dict:
    """For noise of so many times the rms of the direction, whose own rms the attacker infers."""

    def distance(g: Tensors, h: Tensors) -> Tensor:
        n = sum(t.numel() for t in h.values())
        squared = sum(t.square().sum() for t in h.values())
        # the noisy direction has (1 + relative^2) times the mean square of the clean one
        sigma2 = relative**2 / (1 + relative**2) * squared / n
        return distances.l2(g, h) / (2 * sigma2)

    return dict(distance=distance, prior=priors.smooth())


def of_weights(b: float) -> dict:
    return dict(
        distance=distances.likelihood(2**0.5 * b),
        prior=priors.smooth(),
        defend=adaptive.noisy_weights(),
    )


SENT = dict(defend=adaptive.entries_sent)
ARMS: dict[str, Arm] = {
    "none": Arm(None),
    **{
        f"noise {s:g}": Arm(defenses.gaussian(s, relative=True), noise(s))
        for s in (0.01, 0.03, 0.1, 0.3, 1, 3)
    },
    **{
        f"Laplace noise {b:g}": Arm(defenses.laplace(b, relative=True), noise(2**0.5 * b))
        for b in (0.1, 1)
    },
    **{
        f"clip {C:g}": Arm(defenses.clip(C), dict(defend=adaptive.scale_free), C)
        for C in (1, 0.1, 0.01)
    },
    **{f"prune {p:g}": Arm(defenses.prune(p), SENT) for p in (0.5, 0.9, 0.99)},
    "prune 0.9 of the whole": Arm(defenses.prune(0.9, whole=True), SENT),
    "half precision": Arm(defenses.half()),
    **{
        f"{bits} bits": Arm(defenses.quantize(bits), dict(defend=adaptive.within_cells(bits)))
        for bits in (8, 4, 3, 2)
    },
    **{f"mask {p:g}": Arm(defenses.random_mask(p), SENT) for p in (0.2, 0.5, 0.8, 0.9, 0.95)},
    **{f"Soteria {q:g}": Arm(defenses.soteria("fc", q), SENT) for q in (0.5, 0.9)},
    **{
        f"DP-SGD {s:g}": Arm(
            defenses.dp_sgd(1, s),
            dict(distance=distances.likelihood(s), prior=priors.smooth(), defend=defenses.clip(1)),
            1,
        )
        for s in (0.001, 0.01, 0.1, 1)
    },
    **{
        f"weights noise {b:g}": Arm(defenses.weights_noise(b), of_weights(b))
        for b in (1e-5, 1e-4, 1e-3, 1e-2)
    },
    **{
        f"weights sparse {s:g}": Arm(defenses.weights_sparsify(s), SENT)
        for s in (0.01, 0.1, 0.5, 0.9)
    },
}


def network(name: str, seed: int, **settings: str) -> torch.nn.Module:
    return models.lenet(*SHAPES[name], seed=seed, **settings)


def attacked(name: str, arm: str, private: Set, rows: range) -> dict[str, list]:
    """What is kept of an arm: one entry for each image."""
    x, y = (part[rows.start : rows.stop] for part in private[:2])
    defense = ARMS[arm].defense
    weights = isinstance(defense, client.OnWeights)
    share = client.share_weights if weights else client.share_gradient
    leak = stack(
        share(
            network(name, i), x[j : j + 1], y[j : j + 1], defense=defense, seed=i,
            **(dict(lr=SENT_AT) if weights else {}),
        )
        for j, i in enumerate(rows)
    )  # fmt: skip
    shape = (1, *x.shape[1:])
    noisy = torch.rand(shape, generator=random.generator(0, "start"))
    starts = torch.stack([torch.full(shape, 0.5), noisy])  # (2, 1, C, H, W)
    known = adaptive.without_zeros(leak) if arm.startswith("weights sparse") else leak
    found = {}
    for who, message, knows in (("naive", leak, {}), ("adaptive", known, ARMS[arm].knows)):
        if who == "adaptive" and not knows:
            found |= {key.replace("naive", who): value for key, value in found.items()}
            continue
        attack = attacks.dlm_plus if weights else attacks.idlg
        out = attack(
            network(name, 0), message, shape, labels=y[:, None], start=starts, restarts=2,
            steps=EVALUATIONS, **knows,
        )  # fmt: skip
        found[f"{who}_mse"] = metrics.mse(out.images, x).tolist()
        found[f"{who}_ssim"] = metrics.ssim(out.images, x).tolist()
    return {**found, "label_read": (labels.idlg(leak)[:, 0] == y).tolist()}


def trained(name: str, arm: str, private: Set, rows: range) -> dict[str, list]:
    """The accuracy after federated training with the defence, one entry for each seed."""
    if arm.startswith("Soteria"):
        return {"accuracy": [None] * len(rows)}
    defense, _, bound = ARMS[arm]
    lr = LEARNING_RATES[name] / (bound or 1) * (DP_FASTER if arm.startswith("DP-SGD") else 1)
    test = tested(name, private)
    scores = []
    for seed in rows:
        clients = federated.split(*private[:2], CLIENTS, seed=seed)
        model = network(name, seed, init="torch", activation="tanh")
        if isinstance(defense, client.OnWeights):
            play, settings = one_step, {}
        else:
            play, settings = federated.fedsgd_round, dict(batch_size=BATCH)
        for number in range(ROUNDS):
            play(model, clients, lr=lr, defense=defense, seed=seed * ROUNDS + number, **settings)
        scores.append(federated.accuracy(model, *test))
    return {"accuracy": scores}


def one_step(
    model: torch.nn.Module, clients: Sequence[federated.Client], *, seed: int, **settings: object
) -> None:
    """A round in which each client makes one step on a batch, and sends its weights."""
    drawn = [federated.drawn(c, BATCH, seed * len(clients) + k) for k, c in enumerate(clients)]
    federated.fedavg_round(model, drawn, batch_size=None, seed=seed, **settings)


def work(count: int, case: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one arm against some images of a set, or with some seeds."""
    name = case.removesuffix(" trained")
    of: Callable[..., dict[str, list]] = attacked if name == case else trained
    return of(name, arm, private_of(case, count), rows)


def main(
    arguments: Sequence[str] | None = None, path: Path = RESULTS / "defenses.json"
) -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, chunk=20,
        images=counts(IMAGES, SEEDS), by_default=BY_DEFAULT,
        settings=dict(
            evaluations=EVALUATIONS, restarts=2, rounds=ROUNDS, clients=CLIENTS, batch=BATCH,
            learning_rates=LEARNING_RATES, dp_faster=DP_FASTER, sent_at=SENT_AT,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
