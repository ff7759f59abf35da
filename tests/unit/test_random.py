"""Each purpose has a stream of chance of its own, and no two of them ever share draws."""

import itertools
from functools import cache, partial

import pytest
import torch
from scipy.stats import binom, chi2, kstest

from leaklib import client, data, defenses, federated, keylock, models, random

SEEDS = range(21)
N = 2000
X, Y = torch.rand(1, 1, 12, 12, generator=random.weights(0)), torch.tensor([3])


def uniform(purpose, seed, n=N):
    return torch.rand(n, generator=random.generator(seed, purpose))


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors.values()])


@cache
def lenet(seed):
    return models.lenet(1, 12, seed=seed)


@cache
def weights(seed):
    """The first weights, as the numbers from U[0, 1) that they were drawn as."""
    return flat(dict(lenet(seed).named_parameters())) + 0.5


@cache
def message(defense, seed):
    """What a client sends with the seed of its network."""
    return client.share_gradient(lenet(seed), X, Y, defense=defense, seed=seed).update


def box_muller(u):
    """What `randn` makes of the numbers that `rand` would draw, in blocks of 16."""
    a, b = u[: len(u) // 16 * 16].reshape(-1, 2, 8).unbind(1)
    radius, angle = (-2 * (1 - a).log()).sqrt(), 2 * torch.pi * b
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1).flatten()


def agree(a, b, tolerance=1e-5):
    """The share of the numbers that are equal, place by place, in the length that both have."""
    n = min(len(a), len(b))
    return float(((a[:n] - b[:n]).abs() < tolerance).double().mean())


def alike(a, b):
    """Whether places agree in more of two sets of yes and no than chance allows, once in 1e6."""
    n = min(len(a), len(b))
    p, q = float(a.double().mean()), float(b.double().mean())
    chance = p * q + (1 - p) * (1 - q)
    low, high = binom.interval(1 - 1e-6, n, chance)
    return not low <= int((a[:n] == b[:n]).sum()) <= high


# --- streams --------------------------------------------------------------------------------------


def test_no_two_purposes_agree_at_any_seed():
    drawn = {(p, s): uniform(p, s, 100) for p in random.PURPOSES for s in SEEDS}
    drawn |= {("weights", s): torch.rand(100, generator=random.weights(s)) for s in SEEDS}
    for one, other in itertools.combinations(drawn, 2):
        assert agree(drawn[one], drawn[other]) < 0.1, (one, other)


@pytest.mark.parametrize("purpose", random.PURPOSES)
def test_seeds_that_differ_in_high_bits_alone_differ(purpose):
    """The CPU's generator reads the low 32 bits of a seed."""
    a, b = (torch.rand(9, generator=torch.Generator().manual_seed(s)) for s in (5, 5 + 2**32))
    assert torch.equal(a, b), "what has to be got around"
    assert not torch.equal(uniform(purpose, 5), uniform(purpose, 5 + 2**32))
    assert not torch.equal(uniform(purpose, 5), uniform(purpose, -5))
    assert 0 <= random.mixed(5, purpose) < 2**32


@pytest.mark.parametrize("purpose", random.PURPOSES)
def test_stream_is_that_of_its_seed_and_uniform(purpose):
    assert torch.equal(uniform(purpose, 7), uniform(purpose, 7))
    first = torch.stack([uniform(purpose, seed, 1) for seed in range(500)]).flatten()
    for numbers in (uniform(purpose, 0), first):
        assert kstest(numbers.numpy(), "uniform").pvalue > 1e-4
    by_seed = torch.stack([uniform(purpose, seed, 200) for seed in SEEDS])
    others = by_seed.corrcoef() - torch.eye(len(SEEDS))
    assert others.abs().max() < 5.5 / 200**0.5, "seeds beside each other are independent"


def test_numbers_of_numpy_are_seeds():
    whole = data.np.int64(4)
    assert random.mixed(whole, "noise") == random.mixed(4, "noise")


@pytest.mark.parametrize("seed", [1.0, "1", None, True, torch.tensor(1)])
def test_seed_is_a_whole_number(seed):
    for ask in (random.mixed, random.generator):
        with pytest.raises(ValueError, match="^seed: got .*; wanted a whole number"):
            ask(seed, "noise")


def test_purpose_is_known():
    with pytest.raises(ValueError, match="^purpose: got 'luck'; wanted one of start, joint labels"):
        random.generator(0, "luck")
    with pytest.raises(ValueError, match="^purpose: got 'luck'"):
        random.child(random.generator(0, "noise"), "luck")


def test_children_are_of_their_parent_and_differ():
    parent, same, other = (random.generator(s, "noise") for s in (0, 0, 1))
    first, again, of_other = (torch.rand(9, generator=random.child(g, "mask"))
                              for g in (parent, same, other))  # fmt: skip
    assert torch.equal(first, again) and not torch.equal(first, of_other)
    assert not torch.equal(first, torch.rand(9, generator=random.child(parent, "mask")))
    assert not torch.equal(first, uniform("mask", 0, 9)), "nor is it the stream of the seed itself"


def test_layers_draw_from_their_seed_and_the_global_generator_is_given_back():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with random.of_layers(0):
        one = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, torch.rand(4, generator=random.weights(0)))


# --- who draws from them --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_start_is_not_the_weights(seed):
    """Once equal in all numbers: rand(seed) and the weights from U(-0.5, 0.5), 1/2 added."""
    assert agree(torch.rand(N, generator=random.weights(seed)), weights(seed)) == 1, "these are"
    assert agree(uniform("start", seed), weights(seed)) < 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_is_not_a_function_of_the_weights(seed):
    """Once W + 1/2 >= p in every entry."""
    p = 0.5
    sent = flat(message(defenses.random_mask(p), seed)) != 0
    there = flat(message(None, seed)) != 0
    mask, public = sent[there], (weights(seed) >= p)[there]
    assert not alike(mask, public)
    for purpose in random.PURPOSES:
        assert not alike(mask, uniform(purpose, seed, len(mask)) >= p)
    assert abs(mask.double().mean() - 0.5) < 5 * (0.25 / len(mask)) ** 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_is_neither_that_of_the_weights_nor_of_the_start(seed):
    """Once Box-Muller of W + 1/2 in the first layer, and 98 % of start="normal"."""
    noise = flat(message(defenses.gaussian(1.0), seed)) - flat(message(None, seed))
    start = torch.randn(len(noise), generator=random.generator(seed, "start"))
    assert agree(noise, start, 1e-3) < 0.01
    first = noise[: lenet(seed).conv1.weight.numel()]  # of 288 = 18 x 16 entries
    assert agree(first, box_muller(weights(seed)), 1e-3) < 0.05
    old = torch.randn(288, generator=random.weights(seed))
    assert agree(old, box_muller(weights(seed)), 1e-3) > 0.99, "what it was"


@pytest.mark.parametrize("seed", SEEDS)
def test_maps_and_keys_are_not_the_weights(seed):
    """Once W / 16 bit for bit: both drawn from the seed, one from U(-1/2, 1/2) / 16."""
    key = keylock.new_key(64, seed)
    lock = models.lenet_keylock(1, 12, seed=seed, key=key, width=12).lock
    public = weights(seed)
    for part in (lock.gain.weight, lock.gain.bias, lock.shift.weight, lock.shift.bias):
        numbers = part.detach().flatten() * len(key) ** 0.5 / 2 + 0.5  # U[0, 1)
        assert numbers.min() >= 0 and numbers.max() <= 1
        assert agree(numbers, public, 1e-4) < 0.1 and agree(numbers, key, 1e-4) < 0.1
    assert agree(key, public) < 0.1
    assert torch.equal(lock.conv.weight, lenet(seed).conv1.weight), "the network is as it was"


@pytest.mark.parametrize("seed", SEEDS)
def test_order_of_batches_is_not_that_of_the_data(seed):
    n = 100
    images, labels = data.load("faces", n, seed=seed)
    (batches,) = client.minibatches(n, n - 1, 1, seed)  # one less, or nothing is shuffled
    owner = federated.split(images, torch.arange(n), n, seed=seed)
    orders = {
        "data": labels,
        "batches": batches,
        "drawn": federated.drawn(federated.Client(images, torch.arange(n)), n - 1, seed).labels,
        "splits": torch.cat([part.labels for part in owner]),
        "old": torch.randperm(n, generator=random.weights(seed)),
    }
    assert torch.equal(orders.pop("drawn"), orders["batches"]), "one purpose"
    for one, other in itertools.combinations(orders, 2):
        a, b = orders[one][: n - 1], orders[other][: n - 1]
        assert (a == b).sum() <= 9, (one, other)  # of Poisson(1), one in a million


def test_secrets_of_pairs_are_apart_from_everything():
    zeros = [{"a": torch.zeros(500)}] * 2
    for seed in SEEDS:
        secret = federated.mask_pairwise(zeros, seed)[0]["a"]  # of number 4 seed + 1
        for purpose in (*random.PURPOSES, None):
            g = random.weights(seed) if purpose is None else random.generator(seed, purpose)
            r = torch.empty(500, dtype=torch.int64).random_(-(2**63), None, generator=g)
            assert not torch.equal(secret, r)


@pytest.mark.parametrize("defense", ["mask", "noise", "both", "dp_sgd", "weights"])
def test_defences_of_clients_have_nothing_in_common(defense):
    """Equal seeds draw alike, others apart: of five clients, entry by entry."""
    of = {
        "mask": defenses.random_mask(0.5),
        "noise": defenses.gaussian(1.0),
        "both": defenses.compose(defenses.random_mask(0.5), defenses.gaussian(1.0)),
        "dp_sgd": defenses.dp_sgd(1.0, 1.0),
        "weights": defenses.weights_noise(1.0),
    }[defense]
    share = partial(client.share_weights, lenet(0), X, Y, lr=1e-9, defense=of)
    clean = client.share_weights(lenet(0), X, Y, lr=1e-9).direction
    sent = []
    for seed in range(5):
        off = flat(share(seed=seed).direction).double() - flat(clean).double()
        assert torch.equal(flat(share(seed=seed).direction), flat(share(seed=seed).direction))
        sent.append(off)
    if defense == "mask":
        there = flat(clean) != 0
        masks = [(off != 0)[there] for off in sent]
        assert not any(alike(a, b) for a, b in itertools.combinations(masks, 2))
    else:
        others = torch.stack(sent).corrcoef() - torch.eye(5)
        assert others.abs().max() < 5.5 / len(sent[0]) ** 0.5


def test_noise_of_many_seeds_has_its_law():
    """One entry of the message over 400 clients: the sum of squares follows chi-square."""
    noise = torch.stack([
        torch.randn(1, generator=random.generator(seed, "noise")) for seed in range(400)
    ]).double()  # fmt: skip
    low, high = chi2.interval(1 - 1e-6, 400)
    assert low < noise.square().sum() < high
    assert abs(noise.mean()) < 5 / 400**0.5
