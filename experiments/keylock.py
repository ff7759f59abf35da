"""The key-lock module: what leaks, in each control, and its accuracy (about 10 minutes on 2 cores).

    python experiments/keylock.py [--images N] [--sets mnist cifar10 …] [--chunk 20]
                                  [--workers 2] [--fresh]

A sigmoid LeNet with DLG's weights whose first convolution is behind a lock, or is not; one image,
300 evaluations from grey, label told.  Four attackers: with the true gains and shifts (the positive
control, without which nothing is said of the key), with a guess of them, with nothing known
(`keylock.attack` from that guess), and the published test's, who owns the two maps and searches
the key.  The guess is the mean of what 200 other keys and maps give.
The sets "… trained" have the accuracy of the same network with tanh and PyTorch's weights, of 5
clients after 15 rounds of FedAvg, each with its own key and maps; then with another client's, with
a random key for the own maps, with a key and maps drawn anew, and with zeros, as the published code
tests it.  One entry is a seed.
Normalisation is over the pixels of each image: in the published code, for one image, the same.  It
hides contrast and brightness, so that images are scored as they are, and levelled: with those that
fit the truth best, which no attacker knows.
Writes experiments/results/keylock.json after every chunk; started again, it goes on from there.
Claim: Ren et al. 2023.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from _attacked_and_trained import BY_DEFAULT, SETS, SHAPES, counts, private_of, tested
from _experiment import RESULTS, Set, command_line
from leaklib import attacks, client, federated, keylock, metrics, models, random
from leaklib.leak import stack

IMAGES, SEEDS = 20, 3
EVALUATIONS, ROUNDS, CLIENTS = 300, 15, 5
LEARNING_RATE = 0.1
TRAINED = dict(init="torch", activation="tanh")


class Lock(NamedTuple):
    """A kind of lock; `wide` draws its maps from U(-0.5, 0.5) too, as the published test does."""

    gate: str
    norm: bool
    wide: bool = False


ARMS: dict[str, Lock | None] = {
    "no lock": None,
    "normalisation alone": Lock("relu", True),
    "published lock": Lock("relu", True),
    "published lock, wide maps": Lock("relu", True, wide=True),
    "sigmoid lock": Lock("sigmoid", True),
    "sigmoid lock, no normalisation": Lock("sigmoid", False),
}


def network(name: str, lock: Lock | None, seed: int, key: int, **settings: str) -> nn.Sequential:
    if lock is None:
        return models.lenet(*SHAPES[name], seed=seed, **settings)
    model = models.lenet_keylock(
        *SHAPES[name],
        seed=seed,
        key=keylock.new_key(seed=key),
        gate=lock.gate,
        norm=lock.norm,
        **settings,
    )
    if lock.wide:
        both = nn.ModuleList([model.lock.gain, model.lock.shift])
        models.init_uniform(both, 0.5, seed=random.mixed(seed, "maps"))
    return model


@cache
def usual_gains(name: str, lock: Lock) -> tuple[Tensor, Tensor]:
    """The mean gamma and beta (O,) of 200 other locks: an attacker's guess."""
    with torch.no_grad():
        drawn = [network(name, lock, 10_000 + i, 10_000 + i).lock.gains() for i in range(200)]
    gamma, beta = (torch.stack(part).mean() for part in zip(*drawn))
    channels = len(drawn[0][0])
    return gamma.expand(channels), beta.expand(channels)


def attacked(name: str, arm: str, private: Set, rows: range) -> dict[str, list]:
    """What is kept of an arm: one entry for each image."""
    x, y = (part[rows.start : rows.stop] for part in private[:2])
    lock, shape = ARMS[arm], (1, *x.shape[1:])
    nets = [network(name, lock, i, i) for i in rows]
    settings = dict(labels=y[:, None], steps=EVALUATIONS)
    found = {}

    def keep(who: str, out: attacks.Reconstruction) -> None:
        found[f"{who}_mse"] = metrics.mse(out.images, x).tolist()
        found[f"{who}_ssim"] = metrics.ssim(out.images, x).tolist()
        found[f"{who}_levelled"] = metrics.ssim(metrics.levelled(out.images, x), x).tolist()
        if out.unknowns.get("gamma") is not None:
            found["gamma_error"] = (out.unknowns["gamma"] - gamma).abs().mean(1).tolist()

    opened = nets if lock is None else [keylock.opened(net) for net in nets]
    locked = arm not in ("no lock", "normalisation alone")
    sent = [
        client.share_gradient(net, x[j : j + 1], y[j : j + 1])
        for j, net in enumerate(nets if locked else opened)
    ]
    if not locked:
        keep("true", attacks.idlg(opened[0], stack(sent), shape, **settings))
        return _filled(found, len(x))
    leak = stack(keylock.shared(n, message) for n, message in zip(nets, sent))
    told = stack(keylock.shared(n, message, maps=True) for n, message in zip(nets, sent))
    with torch.no_grad():
        gamma, beta = (torch.stack(g) for g in zip(*(net.lock.gains() for net in nets)))
    usual = usual_gains(name, lock)
    keep("true", attacks.idlg(opened[0], keylock.guessed(leak, gamma, beta), shape, **settings))
    guess = keylock.guessed(leak, *usual)
    keep("guess", attacks.idlg(opened[0], guess, shape, **settings))
    keep("nothing", keylock.attack(opened[0], guess, shape, **settings))
    keep(
        "key",
        keylock.attack(
            opened[0], keylock.guessed(told, *usual), shape,
            predict=keylock.key_searched(lock.gate), **settings,
        ),
    )  # fmt: skip
    return found


def _filled(found: dict[str, list], n: int) -> dict[str, list]:
    """The columns of attackers that an arm does not have, empty."""
    scores = ("mse", "ssim", "levelled")
    columns = [f"{who}_{score}" for who in ("guess", "nothing", "key") for score in scores]
    return {**found, **{name: [None] * n for name in (*columns, "gamma_error")}}


def trained(name: str, arm: str, private: Set, rows: range) -> dict[str, list]:
    """The accuracy after training, with every private part that one might try; one entry a seed."""
    test = tested(name, private)
    lock = ARMS[arm]
    columns: dict[str, list] = {w: [] for w in ("own", "another", "random_key", "fresh", "zeros")}
    for seed in rows:
        clients = federated.split(*private[:2], CLIENTS, seed=seed)
        model = network(name, lock, seed, 0, **TRAINED)
        kept = None
        if arm == "normalisation alone":
            model = keylock.opened(model)
        elif lock is not None:
            keys = [keylock.new_key(seed=100 * seed + k) for k in range(CLIENTS)]
            kept = [{**keylock.private(model), "lock.key": key} for key in keys]
        for number in range(ROUNDS):
            federated.fedavg_round(
                model, clients, lr=LEARNING_RATE, private=kept, seed=seed * ROUNDS + number
            )
        tried = {"own": [{}]}
        if kept is not None:
            anew = keylock.private(network(name, lock, 500 + seed, 500 + seed, **TRAINED))
            tried = {
                "own": kept,
                "another": kept[1:] + kept[:1],
                "random_key": [{**part, "lock.key": anew["lock.key"]} for part in kept],
                "fresh": [anew],
                "zeros": [{n: torch.zeros_like(t) for n, t in kept[0].items()}],
            }
        for which, entries in columns.items():
            scores = [
                federated.accuracy(federated.assign(model, part), *test)
                for part in tried.get(which, [])
            ]
            entries.append(sum(scores) / len(scores) if scores else None)
    return columns


def work(count: int, case: str, arm: str, rows: range) -> dict[str, list]:
    """What one process does at a time: one arm against some images of a set, or with some seeds."""
    name = case.removesuffix(" trained")
    return (attacked if name == case else trained)(name, arm, private_of(case, count), rows)


def main(
    arguments: Sequence[str] | None = None, path: Path = RESULTS / "keylock.json"
) -> str | None:
    """Run, or go on; returns what is wrong, if anything."""
    return command_line(
        __doc__, arguments, path, sets=SETS, arms=list(ARMS), work=work, chunk=20,
        images=counts(IMAGES, SEEDS), by_default=BY_DEFAULT,
        settings=dict(
            evaluations=EVALUATIONS, rounds=ROUNDS, clients=CLIENTS, learning_rate=LEARNING_RATE
        ),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
