"""What a client sends is what it should be, and nothing else."""

import dataclasses
import json
import os
import pickle
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from leaklib import analytic, client, defenses, labels, models
from leaklib.leak import Leak, from_state_dicts, join, load, stack, without


def small_lenet(seed=0):
    return models.lenet(1, 12, seed=seed)


def small_mlp(seed=0):
    return models.mlp(1, 12, hidden=(20, 15), activation="relu", seed=seed)


@pytest.fixture(params=["lenet", "mlp", "own"])
def network(request, own_network):
    return {"lenet": small_lenet, "mlp": small_mlp, "own": own_network}[request.param](seed=3)


def autograd(model, x, y):
    """The slow truth: loss.backward() and every parameter's .grad."""
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_close(got, wanted, **tolerances):
    assert list(got) == list(wanted)
    for name in wanted:
        torch.testing.assert_close(
            got[name], wanted[name], **tolerances, msg=lambda m, n=name: n + m
        )


# --- the gradient -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_gradient_is_that_of_autograd(network, small_digits, dtype, soft):
    x, y = small_digits[0][:5].to(dtype), small_digits[1][:5]
    if soft:
        y = torch.rand(5, 10, generator=torch.Generator().manual_seed(0)).to(dtype).softmax(-1)
    network.to(dtype)
    leak = client.share_gradient(network, x, y)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    assert_close(leak.update, autograd(network, x, y), rtol=tolerance, atol=tolerance)
    assert all(g.dtype == dtype for g in leak.update.values())


def test_gradient_is_the_mean_over_the_batch(small_digits):
    x, y = small_digits[0][:4], small_digits[1][:4]
    model = small_lenet()
    singles = [client.share_gradient(model, x[i : i + 1], y[i : i + 1]).update for i in range(4)]
    mean = {name: sum(g[name] for g in singles) / 4 for name in singles[0]}
    assert_close(client.share_gradient(model, x, y).update, mean, rtol=1e-4, atol=1e-6)


def test_gradient_reads_the_weights_it_is_given(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    W, _ = client.state(small_lenet(seed=7))
    got = client.gradient(small_lenet(seed=0))(W, x, y)
    assert_close(got, autograd(small_lenet(seed=7), x, y), rtol=1e-5, atol=1e-6)


def test_gradient_of_another_loss(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    W, _ = client.state(model := small_lenet())
    half = client.gradient(model, loss=lambda logits, y: 0.5 * F.cross_entropy(logits, y))(W, x, y)
    full = client.gradient(model)(W, x, y)
    assert_close({name: 2 * g for name, g in half.items()}, full)


@pytest.mark.parametrize("training", [True, False])
def test_sharing_leaves_the_model_as_it_was(small_digits, training):
    x, y = small_digits[0][:2], small_digits[1][:2]
    model = small_lenet().train(training)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    random_state = torch.get_rng_state()
    client.share_gradient(model, x, y)
    client.share_weights(model, x, y, lr=0.1, steps=3)
    assert_close(dict(model.named_parameters()), before, rtol=0, atol=0)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(module.training == training for module in model.modules())
    assert not x.requires_grad and x.grad is None
    assert torch.equal(random_state, torch.get_rng_state())


def test_leak_is_the_wire_and_nothing_else(small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    wire = {"weights", "update", "kind", "buffers", "batch_size", "victims"}
    assert {f.name for f in dataclasses.fields(Leak)} == wire
    for share in (client.share_gradient, lambda *a: client.share_weights(*a, lr=0.1)):
        leak = share(small_lenet(), x, y)
        assert vars(leak).keys() == wire
        tensors = [*leak.weights.values(), *leak.update.values(), *leak.buffers.values()]
        assert not any(t.requires_grad or t.shape == x.shape for t in tensors)
        assert not any(t.data_ptr() in (x.data_ptr(), y.data_ptr()) for t in tensors)


def test_leak_keeps_the_weights_of_its_round(small_digits):
    model = small_lenet()
    leak = client.share_gradient(model, small_digits[0][:1], small_digits[1][:1])
    models.init_uniform(model, seed=99)
    assert_close(leak.weights, dict(small_lenet().named_parameters()), rtol=0, atol=0)


def test_direction_is_the_gradient_for_both_kinds(small_digits):
    x, y = small_digits[0][:2].double(), small_digits[1][:2]
    model = small_lenet().double()
    g = client.share_gradient(model, x, y)
    w = client.share_weights(model, x, y, lr=0.25)
    assert (g.kind, w.kind) == ("gradient", "weights")
    assert_close(g.direction, g.update, rtol=0, atol=0)
    assert_close({n: d / 0.25 for n, d in w.direction.items()}, g.update, rtol=1e-9, atol=1e-12)


# --- weights ------------------------------------------------------------------------------------


def test_one_step_of_weights(network, small_digits):
    x, y = small_digits[0][:3], small_digits[1][:3]
    leak = client.share_weights(network, x, y, lr=0.1)
    wanted = {n: leak.weights[n] - 0.1 * g for n, g in autograd(network, x, y).items()}
    assert_close(leak.update, wanted, rtol=1e-5, atol=1e-6)
    assert leak.batch_size == 3


def test_epochs_of_minibatches_are_those_of_torch_sgd(network, small_digits):
    """The minibatches are seen by a hook; torch.optim.SGD on the same ones ends at the same W."""
    x, y = small_digits[0][:10].double(), small_digits[1][:10]
    network.double()
    seen = []
    hook = network.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    leak = client.share_weights(network, x, y, lr=0.2, epochs=3, batch_size=4, seed=5)
    hook.remove()
    batches = [b for b in seen if b.any()]  # the zeros that ask for the output's shape are not data
    rows = [[int((x == image).flatten(1).all(1).nonzero()[0]) for image in b] for b in batches]
    assert [len(r) for r in rows] == [4, 4, 2] * 3
    passes = [[r for batch in rows[i : i + 3] for r in batch] for i in (0, 3, 6)]
    assert all(sorted(p) == list(range(10)) for p in passes)
    assert passes[0] != passes[1]

    optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
    for r in rows:
        optimizer.zero_grad()
        F.cross_entropy(network(x[r]), y[r]).backward()
        optimizer.step()
    assert_close(leak.update, dict(network.named_parameters()), rtol=1e-9, atol=1e-11)


def test_steps_take_the_full_batch_unless_told(small_digits):
    x, y = small_digits[0][:5].double(), small_digits[1][:5]
    model = small_lenet().double()
    leak = client.share_weights(model, x, y, lr=0.2, steps=4)
    assert_close(leak.update, client.share_weights(model, x, y, lr=0.2, epochs=4).update)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert_close(leak.update, dict(model.named_parameters()), rtol=1e-9, atol=1e-11)


def test_seed_decides_the_minibatches(small_digits):
    x, y = small_digits[0][:10], small_digits[1][:10]
    share = lambda seed: client.share_weights(  # noqa: E731
        small_lenet(), x, y, lr=0.2, epochs=1, batch_size=3, seed=seed
    ).update["fc.weight"]
    assert torch.equal(share(1), share(1))
    assert not torch.equal(share(1), share(2))


# --- the client's own optimizer -----------------------------------------------------------------

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
}


def by_torch(model, x, y, batches, lr, optimizer, zero_grad=True):
    """The slow truth: torch's own optimizer on the same mini-batches; the model is changed."""
    steps = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
    for rows in batches:
        if zero_grad:
            steps.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        steps.step()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_local_training_is_that_of_torch(network, optimizer, small_digits):
    """Seven steps on mini-batches of several sizes."""
    x, y = small_digits[0][:9].double(), small_digits[1][:9]
    W, _ = client.state(network.double())
    batches = [torch.tensor(rows) for rows in ([0, 1, 2], [3], [8, 4], [5, 6, 7], [0], [1, 2], [3])]
    g = client.gradient(network)
    got = client.local_training(
        lambda W, rows: g(W, x[rows], y[rows]), W, batches, lr=0.02, optimizer=optimizer
    )
    wanted = by_torch(network, x, y, batches, 0.02, optimizer)
    assert_close(got, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_that_are_shared_are_those_of_torch(optimizer, small_digits):
    x, y = small_digits[0][:5].double(), small_digits[1][:5]
    model = small_lenet().double()
    leak = client.share_weights(model, x, y, lr=0.05, steps=6, optimizer=optimizer)
    wanted = by_torch(model, x, y, [torch.arange(5)] * 6, 0.05, optimizer)
    assert_close(leak.update, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_do_not_add_up_over_local_steps(seed, small_digits):
    """The published loop never zeroes them: its step j uses the sum of all gradients so far."""
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    rows, settings = [torch.arange(3)] * 5, (0.05, "sgd")
    got = client.share_weights(small_lenet(seed).double(), x, y, lr=0.05, steps=5)
    honest = by_torch(small_lenet(seed).double(), x, y, rows, *settings)
    published = by_torch(small_lenet(seed).double(), x, y, rows, *settings, zero_grad=False)
    assert_close(got.update, honest, rtol=1e-9, atol=1e-11)
    moved = lambda W: sum((got.weights[n] - W[n]).square().sum() for n in W).sqrt()  # noqa: E731
    assert moved(published) > 1.2 * moved(honest)
    apart = sum((got.update[n] - published[n]).square().sum() for n in published).sqrt()
    assert apart > 0.3 * moved(honest)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_local_training_can_be_differentiated(optimizer, small_digits):
    """Against central differences; and finite where a gradient is exactly zero (dead ReLUs)."""
    y = small_digits[1][:1]
    model = small_mlp().double()
    with torch.no_grad():
        model.fc1.bias[:5] = -1e3
    W, _ = client.state(model)
    g = client.gradient(model)

    def moved(x):
        W_t1 = client.local_training(
            lambda W, _: g(W, x, y), W, range(3), lr=1e-3, optimizer=optimizer
        )
        # a weight of the distances between them, so that no entry cancels another
        return sum((W[n] - W_t1[n]).mul(torch.arange(1.0, 1 + W[n].numel()).view_as(W[n])).sum()
                   for n in W)  # fmt: skip

    x = (0.25 + 0.5 * small_digits[0][:1].double()).requires_grad_()
    g0 = g(W, x.detach(), y)
    assert (g0["fc1.weight"][:5] == 0).all(), "entries whose root has no derivative"
    (slope,) = torch.autograd.grad(moved(x), x)
    assert slope.isfinite().all() and slope.abs().max() > 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        along = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        e = 1e-6
        with torch.no_grad():
            wanted = (moved(x + e * along) - moved(x - e * along)) / (2 * e)
        torch.testing.assert_close((slope * along).sum(), wanted, rtol=1e-3, atol=1e-6)


def test_unknown_optimizer_is_refused(small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    with pytest.raises(ValueError, match="^optimizer: got 'lion'; wanted one of sgd, momentum, ad"):
        client.share_weights(small_lenet(), x, y, lr=0.1, optimizer="lion")


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_training_is_checked_by_name(value):
    client.check_training(lr=0.1, steps=None)
    with pytest.raises(ValueError, match=f"^steps: got {value}; wanted a positive number"):
        client.check_training(lr=0.1, steps=value)


# --- defences -----------------------------------------------------------------------------------


def doubled(direction, generator):
    """A function of the direction that draws, too."""
    return {n: 2 * d + torch.randn((), generator=generator) for n, d in direction.items()}


def draw(seed, n):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn((), generator=g) for _ in range(n)]


@pytest.mark.parametrize("share", ["gradient", "weights"])
def test_function_of_the_direction_changes_what_is_sent(network, share, small_digits):
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    settings = {} if share == "gradient" else dict(lr=0.1, steps=3)
    ask = partial(getattr(client, f"share_{share}"), network.double(), x, y, **settings)
    plain, defended = ask(), ask(defense=doubled, seed=5)
    noise = draw(5, len(plain.update))
    wanted = {n: 2 * d + e for (n, d), e in zip(plain.direction.items(), noise)}
    assert_close(defended.direction, wanted, rtol=1e-9, atol=1e-12)
    assert_close(defended.weights, plain.weights, rtol=0, atol=0)
    assert (defended.kind, defended.batch_size) == (plain.kind, 4)


def halved(model, generator):
    """In place of a gradient: half of it, and a number drawn at each call."""
    g = client.gradient(model)

    def private(W, x, y, buffers=None):
        return {
            n: d / 2 + torch.randn((), generator=generator) for n, d in g(W, x, y, buffers).items()
        }

    return private


def test_gradient_that_is_computed_in_another_way(network, small_digits):
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    network.double()
    defense = client.InPlaceOfGradient(halved)
    plain = client.share_gradient(network, x, y)
    got = client.share_gradient(network, x, y, defense=defense, seed=2)
    noise = draw(2, len(plain.update))
    wanted = {n: d / 2 + e for (n, d), e in zip(plain.update.items(), noise)}
    assert_close(got.update, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_local_step_is_computed_in_another_way(optimizer, small_digits):
    """Mini-batches, each with a draw of its own, by torch's optimizer."""
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    model = small_mlp().double()
    settings = dict(lr=0.02, epochs=2, batch_size=4, optimizer=optimizer, seed=3)
    got = client.share_weights(model, x, y, defense=client.InPlaceOfGradient(halved), **settings)
    steps, g = OPTIMIZERS[optimizer](model.parameters(), lr=0.02), torch.Generator().manual_seed(3)
    for _ in range(2):
        steps.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for p in model.parameters():
            p.grad = p.grad / 2 + torch.randn((), generator=g)
        steps.step()
    assert_close(got.update, dict(model.named_parameters()), rtol=1e-9, atol=1e-11)
    plain = client.share_weights(model, x, y, **settings)
    assert not torch.equal(got.update["fc.bias"], plain.update["fc.bias"])


@pytest.mark.parametrize("both", [False, True])
def test_defence_of_weights_changes_the_weights(network, both, small_digits):
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    ask = partial(client.share_weights, network.double(), x, y, lr=0.1, steps=3)
    plain, defended = ask(), ask(defense=client.OnWeights(doubled, both), seed=7)
    n = len(plain.update)
    noise = draw(7, 2 * n)
    assert_close(defended.update, {a: 2 * W + e for (a, W), e in zip(plain.update.items(), noise)})
    before = {a: 2 * W + e for (a, W), e in zip(plain.weights.items(), noise[n:])}
    assert_close(defended.weights, before if both else plain.weights, rtol=1e-12, atol=1e-12)


def test_gradient_has_no_weights_to_defend(small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    for defense in (defenses.weights_noise(1e-3), defenses.weights_sparsify(0.5)):
        with pytest.raises(
            ValueError, match="^defense: got one of weights, .*; wanted one of grad"
        ):
            client.share_gradient(small_lenet(), x, y, defense=defense)


KINDS = {
    "direction": defenses.gaussian(0.1),
    "gradient": defenses.dp_sgd(1, 0.1),
    "soteria": defenses.soteria("fc", 0.5),
    "weights": defenses.weights_noise(1e-3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_defended_message_is_that_of_its_seed(kind, small_digits):
    x, y = small_digits[0][:3], small_digits[1][:3]
    model = small_lenet()
    before, state = [p.detach().clone() for p in model.parameters()], torch.get_rng_state()
    ask = partial(client.share_weights, model, x, y, lr=0.1, steps=2, defense=KINDS[kind])
    share = lambda seed: ask(seed=seed).update  # noqa: E731
    one, same, other = share(1), share(1), share(2)
    assert_close(one, same, rtol=0, atol=0)
    assert torch.equal(one["fc.weight"], other["fc.weight"]) == (kind == "soteria")
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert not any(t.requires_grad for t in one.values())


def test_leak_without_what_a_client_keeps(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    model = with_statistics(small_digits[0])
    leak = client.share_weights(model, x, y, lr=0.1)
    name = next(iter(leak.weights))
    less = without(leak, [name, "1.running_mean", "nothing"])
    for what in ("weights", "update", "buffers"):
        full, rest = getattr(leak, what), getattr(less, what)
        assert set(full) - set(rest) == {name, "1.running_mean"} & set(full)
        assert all(rest[n] is full[n] for n in rest)
    assert name in leak.weights and "1.running_mean" in leak.buffers, (
        "a new leak, not a changed one"
    )
    assert (less.kind, less.batch_size, less.victims) == ("weights", 2, None)
    assert_same(without(leak, []), leak)


# --- rounding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("power", range(-20, 0, 3))
def test_rounding_bounds_how_far_new_weights_are_off(power, network, small_digits):
    """Against W_t - lr g in double precision; a power of two keeps lr g itself exact."""
    x, y = small_digits[0][:1], small_digits[1][:1]
    leak = client.share_weights(network, x, y, lr=2.0**power)
    g = client.share_gradient(network, x, y).update
    largest = []
    for name, off in leak.rounding.items():
        error = (leak.direction[name].double() - 2.0**power * g[name].double()).abs()
        assert off.shape == error.shape and off.dtype == torch.float32 and (off > 0).all()
        assert (error <= off).all()
        largest.append((error / off).max())
    assert max(largest) > 0.1, "and not by much more than it is"


@pytest.mark.parametrize("steps", [5, 20])
def test_rounding_adds_up_over_many_small_steps(steps, small_digits):
    """Alike steps are rounded alike: T of them are off by T units at most, and a few by about one.

    Against the same steps in double precision, so small that the gradient hardly changes.
    """
    x, y = small_digits[0][:1], small_digits[1][:1]
    settings = dict(lr=2.0**-20, steps=steps)
    leak = client.share_weights(small_mlp(), x, y, **settings)
    exact = client.share_weights(small_mlp().double(), x.double(), y, **settings)
    off = torch.cat([
        ((leak.direction[n].double() - exact.direction[n]).abs() / leak.rounding[n]).flatten()
        for n in exact.direction
    ])  # fmt: skip
    assert off.max() <= steps / 2 + 0.5
    assert off.max() > steps / 4, "more than one unit, where the steps are many"
    assert off.square().mean().sqrt() < steps / 4


def test_rounding_is_a_unit_in_the_last_place_of_the_larger_weight():
    before = torch.tensor([1.0, 1.0, -3.0, 0.0, 1e-3])
    after = torch.tensor([1.5, 2.5, -0.5, 0.0, -1e-3])
    leak = Leak({"w": before}, {"w": after}, "weights")
    wanted = [2.0**-23, 2.0**-22, 2.0**-22, 2.0**-149, 2.0**-33]
    assert leak.rounding["w"].tolist() == wanted
    double = Leak({"w": before.double()}, {"w": after.double()}, "weights").rounding["w"]
    assert double.dtype == torch.float64 and double[0] == 2.0**-52


def test_gradient_is_not_rounded(small_digits):
    leak = client.share_gradient(small_lenet(), small_digits[0][:1], small_digits[1][:1])
    assert list(leak.rounding) == list(leak.update)
    assert all((off == 0).all() and off.shape == leak.update[n].shape
               for n, off in leak.rounding.items())  # fmt: skip


# --- defences -----------------------------------------------------------------------------------


def test_defence_acts_on_the_gradient(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    clean = client.share_gradient(small_lenet(), x, y)
    seen = {}

    def halve(direction, generator):
        seen.update(direction)
        return {name: d / 2 for name, d in direction.items()}

    defended = client.share_gradient(small_lenet(), x, y, defense=halve)
    assert_close(seen, clean.update)
    assert_close(defended.update, {n: g / 2 for n, g in clean.update.items()})


def test_defence_of_weights_acts_on_what_the_round_changed(small_digits):
    x, y = small_digits[0][:2].double(), small_digits[1][:2]
    model, settings = small_lenet().double(), dict(lr=0.3, steps=2)
    clean = client.share_weights(model, x, y, **settings)
    seen = {}

    def halve(direction, generator):
        seen.update(direction)
        return {name: d / 2 for name, d in direction.items()}

    defended = client.share_weights(model, x, y, **settings, defense=halve)
    assert_close(seen, clean.direction)
    wanted = {n: clean.weights[n] - d / 2 for n, d in clean.direction.items()}
    assert_close(defended.update, wanted)


@pytest.mark.parametrize("share", ["gradient", "weights"])
def test_seed_decides_the_defence(small_digits, share):
    x, y = small_digits[0][:1], small_digits[1][:1]
    settings = dict(lr=0.1) if share == "weights" else {}
    noise = lambda d, g: {n: t + torch.randn(t.shape, generator=g) for n, t in d.items()}  # noqa: E731
    send = lambda seed: getattr(client, f"share_{share}")(  # noqa: E731
        small_lenet(), x, y, defense=noise, seed=seed, **settings
    ).update["fc.bias"]
    assert torch.equal(send(4), send(4))
    assert not torch.equal(send(4), send(5))


# --- parts of a network that do not learn -------------------------------------------------------


def test_frozen_parameters_and_running_statistics_travel_as_buffers(small_digits):
    x, y = small_digits[0][:4], small_digits[1][:4]
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(100, 10)
    )
    model(x)  # one pass in training mode moves the running statistics away from 0 and 1
    model.eval()[0].requires_grad_(False)
    leak = client.share_gradient(model, x, y)
    assert set(leak.weights) == set(leak.update) == {"1.weight", "1.bias", "4.weight", "4.bias"}
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert set(leak.buffers) == statistics | {"0.weight", "0.bias"}
    assert torch.equal(leak.buffers["1.running_mean"], model[1].running_mean)
    F.cross_entropy(model(x), y).backward()
    learnt = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert_close(leak.update, learnt, rtol=1e-5, atol=1e-6)


def test_dropout_is_taken_in_eval_mode_and_with_p_zero(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    body = lambda p: nn.Sequential(nn.Flatten(), nn.Dropout(p), nn.Linear(144, 10))  # noqa: E731
    for model in (body(0.5).eval(), body(0.0)):
        leak = client.share_gradient(model, x, y)
        assert_close(leak.update, autograd(model, x, y), rtol=1e-5, atol=1e-6)


# --- stack --------------------------------------------------------------------------------------


def test_stack_gives_every_tensor_a_leading_axis(small_digits):
    x, y = small_digits
    leaks = [
        client.share_gradient(small_lenet(seed=i), x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2])
        for i in range(3)
    ]
    pile = stack(leaks)
    assert (pile.victims, pile.batch_size, pile.kind) == (3, 2, "gradient")
    for i, leak in enumerate(leaks):
        assert_close({n: t[i] for n, t in pile.weights.items()}, leak.weights, rtol=0, atol=0)
        assert_close({n: t[i] for n, t in pile.direction.items()}, leak.direction, rtol=0, atol=0)


def test_stack_of_weights_keeps_kind_direction_and_buffers(small_digits, own_network):
    x, y = small_digits
    own_network = own_network()
    own_network.register_buffer("note", torch.arange(3.0))
    leaks = [
        client.share_weights(own_network, x[i : i + 1], y[i : i + 1], lr=0.1) for i in range(2)
    ]
    pile = stack(leaks)
    assert pile.kind == "weights" and pile.buffers["note"].shape == (2, 3)
    for i, leak in enumerate(leaks):
        assert_close({n: t[i] for n, t in pile.direction.items()}, leak.direction)


def test_stacks_are_joined_victims_after_victims(small_digits):
    x, y = small_digits
    every = [
        client.share_weights(small_lenet(i), x[i : i + 1], y[i : i + 1], lr=1) for i in range(3)
    ]
    joined = join([stack(every[:1]), stack(every[1:])])
    assert_same(joined, stack(every))


def test_what_does_not_fit_together_is_not_joined(small_digits):
    x, y = small_digits
    leak = client.share_gradient(small_lenet(), x[:1], y[:1])
    weights = client.share_weights(small_lenet(), x[:1], y[:1], lr=1)
    stack = stack([leak])
    for stacks, wrong in (
        ([], "stacks: got an empty list"),
        ([stack, leak], r"stacks\[1\]: got a single Leak; wanted a stack"),
        ([stack, stack([weights])], r"leaks\[1\].kind: got weights; wanted gradient"),
    ):
        with pytest.raises(ValueError, match=wrong):
            join(stacks)


def test_what_does_not_fit_together_is_not_stacked(small_digits):
    x, y = small_digits
    model = small_lenet()
    leak = client.share_gradient(model, x[:1], y[:1])
    wrong = {
        "batch_size": client.share_gradient(model, x[:2], y[:2]),
        "kind": client.share_weights(model, x[:1], y[:1], lr=0.1),
        "weights": client.share_gradient(small_mlp(), x[:1], y[:1]),
        "leaks\\[1\\]": stack([leak]),
    }
    for named, other in wrong.items():
        with pytest.raises(ValueError, match=named):
            stack([leak, other])
    with pytest.raises(ValueError, match="leaks"):
        stack([])


# --- on disk ------------------------------------------------------------------------------------


def assert_same(got, wanted):
    """Every field, bit by bit."""
    for f in dataclasses.fields(Leak):
        a, b = getattr(got, f.name), getattr(wanted, f.name)
        if isinstance(b, dict):
            assert list(a) == list(b)
            for n in b:
                assert (
                    a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and (a[n] == b[n]).all()
                )
        else:
            assert a == b and type(a) is type(b)


def with_statistics(x, seed=0):
    """A network with BatchNorm in evaluation mode, its running statistics away from 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(100, 10)
        )
    model(x)
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["gradient", "weights"])
def test_leak_is_read_back_as_it_was_saved(kind, dtype, small_digits, tmp_path):
    x, y = small_digits[0][:4], small_digits[1][:4]
    model = with_statistics(x)
    share = partial(client.share_weights, lr=0.1) if kind == "weights" else client.share_gradient
    leak = share(model.to(dtype), x.to(dtype), y)
    path = leak.save(tmp_path / "sent.safetensors")
    assert path == tmp_path / "sent.safetensors"
    read = load(path)
    assert_same(read, leak)
    assert read.buffers["1.num_batches_tracked"].dtype == torch.int64
    assert_same(load(leak.save(str(tmp_path / "by name"))), leak)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["by name", "sent.safetensors"]


def test_names_of_a_readers_own_network_and_a_stack_are_kept(own_network, small_digits, tmp_path):
    x, y = small_digits
    shared = [
        client.share_gradient(own_network(i), x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2])
        for i in range(3)
    ]
    pile = stack(shared)
    # a name may hold the mark that separates it from what it is
    pile = dataclasses.replace(pile, buffers={"a/b": torch.arange(6.0).view(2, 3).T})
    read = load(pile.save(tmp_path / "pile"))
    assert_same(read, pile)
    assert (read.victims, read.batch_size) == (3, 2)


def test_saving_replaces_an_older_leak(small_digits, tmp_path):
    old, new = (
        client.share_gradient(small_lenet(i), small_digits[0][:1], small_digits[1][:1])
        for i in range(2)
    )
    path = old.save(tmp_path / "leak")
    assert_same(load(new.save(path)), new)


@pytest.mark.parametrize("where", ["write", "rename"])
def test_write_that_fails_leaves_the_older_leak(where, small_digits, tmp_path, monkeypatch):
    old, new = (
        client.share_gradient(small_lenet(i), small_digits[0][:1], small_digits[1][:1])
        for i in range(2)
    )
    path = old.save(tmp_path / "leak")
    write = Path.write_bytes

    def full(aside, content=b""):
        write(aside, content[: len(content) // 2])
        raise OSError("no space left on device")

    def refuse(*_):
        raise OSError("no space left on device")

    owner, name, fails = (
        (Path, "write_bytes", full) if where == "write" else (os, "replace", refuse)
    )
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fails)
        with pytest.raises(OSError, match="no space"):
            new.save(path)
    assert_same(load(path), old)
    assert [p.name for p in tmp_path.iterdir()] == ["leak"], "nothing half-written is left"
    assert_same(load(new.save(path)), new)


def test_half_a_file_is_refused(small_digits, tmp_path):
    leak = client.share_gradient(small_lenet(), small_digits[0][:1], small_digits[1][:1])
    whole = leak.save(tmp_path / "leak").read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "half").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="^path: got .*half .*wanted a file that Leak.save"):
            load(tmp_path / "half")


def header(**changed):
    names = ["weights/w", "update/w"]
    return dict(kind="gradient", batch_size=1, victims=None, names=names) | changed


@pytest.mark.parametrize(
    "metadata",
    [
        None, {"format": "pt"}, {"leak": "not JSON"}, {"leak": "[1, 2]"}, {"leak": "3"},
        {"leak": json.dumps({"kind": "gradient"})},
        *({"leak": json.dumps(header(**changed))} for changed in [
            dict(kind="model"), dict(kind=None), dict(kind=["gradient"]), dict(batch_size=0),
            dict(batch_size=1.5), dict(batch_size=None), dict(batch_size=True), dict(victims=0),
            dict(victims="3"), dict(names=None), dict(names=[3]), dict(names=["w"]),
            dict(names=["model/w"]), dict(names=["weights/w", "update/v"]), dict(names="weights/w"),
        ]),
    ],
)  # fmt: skip
def test_file_of_tensors_that_is_no_leak_is_refused(metadata, tmp_path):
    tensors = {"weights/w": torch.ones(2), "update/w": torch.ones(2)}
    safetensors.torch.save_file(tensors, tmp_path / "other", metadata=metadata)
    with pytest.raises(
        ValueError, match="^path: got .*other.*; wanted a file that Leak.save wrote"
    ):
        load(tmp_path / "other")


def test_header_that_is_right_is_taken(tmp_path):
    """What the refused headers differ from."""
    tensors = {"weights/w": torch.ones(2), "update/w": torch.zeros(2)}
    metadata = {"leak": json.dumps(header())}
    safetensors.torch.save_file(tensors, tmp_path / "leak", metadata=metadata)
    wanted = Leak({"w": torch.ones(2)}, {"w": torch.zeros(2)})
    assert_same(load(tmp_path / "leak"), wanted)


def test_layers_keep_their_order_on_disk(small_digits, tmp_path):
    """ "fc" comes before "fc1" in the alphabet, and last in the network."""
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    leak = client.share_gradient(small_mlp().double(), x, y)
    read = load(leak.save(tmp_path / "leak"))
    assert labels.last_layer(read) == ("fc.weight", "fc.bias")
    torch.testing.assert_close(analytic.linear_input(read), x.flatten(), rtol=0, atol=1e-9)


class Bomb:
    """What a pickle can do when it is read."""

    def __reduce__(self):
        return (os.mkdir, ("bomb",))


def test_nothing_in_a_file_is_run(small_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pickle").write_bytes(pickle.dumps(Bomb()))
    torch.save({"weights": Bomb()}, tmp_path / "torch")
    noise = torch.randint(256, (4096,), generator=torch.Generator().manual_seed(0))
    (tmp_path / "noise").write_bytes(bytes(noise.tolist()))
    for name in ("pickle", "torch", "noise"):
        with pytest.raises(ValueError, match=f"^path: got .*{name}"):
            load(tmp_path / name)
    assert not (tmp_path / "bomb").exists()


def test_file_that_is_not_there(tmp_path, small_digits):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    leak = client.share_gradient(small_lenet(), small_digits[0][:1], small_digits[1][:1])
    with pytest.raises(FileNotFoundError):
        leak.save(tmp_path / "no folder" / "leak")


# --- two checkpoints of a reader's own ----------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_checkpoints_are_the_leak_of_the_weights(optimizer, small_digits):
    """BatchNorm in evaluation mode: its statistics are held, not trained."""
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    model = with_statistics(small_digits[0]).double()
    wanted = client.share_weights(model, x, y, lr=0.05, steps=3, optimizer=optimizer)
    before = model.state_dict()  # the live tensors, which training changes in place
    before = {name: tensor.clone() for name, tensor in before.items()}
    by_torch(model, x, y, [torch.arange(4)] * 3, 0.05, optimizer)
    got = from_state_dicts(before, model.state_dict(), batch_size=4)
    assert (got.kind, got.batch_size, got.victims) == ("weights", 4, None)
    assert set(got.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    for what in ("weights", "update", "buffers"):
        mine, theirs = getattr(got, what), getattr(wanted, what)
        assert_close(mine, {n: theirs[n] for n in mine}, rtol=1e-9, atol=1e-11)
        assert set(mine) == set(theirs)
    client.check_leak(model, got)


def test_checkpoints_are_copied_and_statistics_are_those_before(small_digits):
    x, y = small_digits
    model = with_statistics(x)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()(1 + x)  # moves the running statistics
    by_torch(model.eval(), x, y, [torch.arange(4)], 0.1, "sgd")
    after = model.state_dict()
    leak = from_state_dicts(before, after)
    assert torch.equal(leak.buffers["1.running_mean"], before["1.running_mean"])
    assert not torch.equal(leak.buffers["1.running_mean"], after["1.running_mean"])
    kept = {n: t.clone() for n, t in leak.update.items()}
    by_torch(model, x, y, [torch.arange(4)], 0.1, "sgd")
    assert_close(leak.update, kept, rtol=0, atol=0)
    assert not any(t.requires_grad for t in (*leak.weights.values(), *leak.update.values()))


def test_names_of_buffers_may_be_given(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    model = small_mlp()
    model.fc1.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = client.share_weights(model, x, y, lr=0.1)
    for name, p in wanted.update.items():
        model.get_parameter(name).data = p
    frozen = ["fc1.weight", "fc1.bias"]
    got = from_state_dicts(before, model.state_dict(), batch_size=2, buffers=frozen)
    assert_same(got, wanted)
    assert "fc1.weight" in from_state_dicts(before, model.state_dict()).weights


def test_checkpoints_that_do_not_fit_are_refused(small_digits):
    before = small_lenet(0).state_dict()
    after = small_lenet(1).state_dict()
    without = {n: t for n, t in after.items() if n != "fc.bias"}
    cases = [
        (before, without, r"^after\['fc.bias'\]: got missing; wanted \(10,\), as in before"),
        (without, before, r"^after\['fc.bias'\]: got \(10,\); wanted missing, as in before"),
        (before, after | {"fc.bias": torch.ones(3)}, r"^after\['fc.bias'\]: got \(3,\); .*\(10,\)"),
        (before, before, "^after: got the weights of before; wanted .*training has changed"),
    ]
    for first, second, message in cases:
        with pytest.raises(ValueError, match=message):
            from_state_dicts(first, second)
    with pytest.raises(ValueError, match=r"^buffers: got \['nothing'\]; wanted names of the net"):
        from_state_dicts(before, after, buffers=["nothing"])


# --- errors -------------------------------------------------------------------------------------


def wrong_batches():
    x, y = torch.rand(2, 1, 12, 12), torch.tensor([3, 5])
    return {
        "integer images": (dict(x=(x * 255).to(torch.uint8)), r"^x: .*uint8.*floating"),
        "images not a tensor": (dict(x=x.tolist()), "^x: .*list"),
        "empty batch": (dict(x=x[:0], y=y[:0]), "^x: .*at least one"),
        "another number of labels": (dict(y=y[:1]), "^y: .*1 labels.*2"),
        "labels not a tensor": (dict(y=[3, 5]), "^y: .*list"),
        "label too high": (dict(y=torch.tensor([3, 10])), r"^y: .*3 to 10.*0\.\.9"),
        "label too low": (dict(y=torch.tensor([-1, 3])), r"^y: .*-1 to 3.*0\.\.9"),
        "labels of int32": (dict(y=y.int()), "^y: .*int32.*int64"),
        "labels of two axes": (dict(y=y[:, None]), r"^y: .*\(2, 1\)"),
        "soft labels of another width": (dict(y=torch.full((2, 9), 1 / 9)), r"^y: .*\(2, 10\)"),
        "soft labels that sum to 2": (dict(y=torch.full((2, 10), 0.2)), "^y: .*sum to 1"),
        "three channels": (dict(x=torch.rand(2, 3, 12, 12)), r"\(2, 3, 12, 12\)"),
        "another size": (dict(x=torch.rand(2, 1, 20, 20)), r"\(2, 1, 20, 20\)"),
        "another precision": (dict(x=x.double()), "double|float64"),
    }


@pytest.mark.parametrize("case", wrong_batches())
@pytest.mark.parametrize("share", ["gradient", "weights"])
def test_wrong_batch_gets_an_error_that_names_it(case, share):
    arguments = dict(x=torch.rand(2, 1, 12, 12), y=torch.tensor([3, 5]))
    changed, message = wrong_batches()[case]
    if share == "weights":
        changed = changed | dict(lr=0.1)
    with pytest.raises(ValueError, match=message) as caught:
        getattr(client, f"share_{share}")(small_lenet(), **arguments | changed)
    assert str(caught.value).startswith(("x:", "y:")), "the argument is called x or y here"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm1d(144), r"^model: .*BatchNorm.*'1'.*eval\(\)"),
        (nn.Dropout(0.5), r"^model: .*dropout.*'1'.*eval\(\)"),
        (nn.AlphaDropout(0.5), r"^model: .*dropout.*'1'.*eval\(\)"),
    ],
)
def test_layers_that_break_the_mathematics_are_refused_in_training_mode(
    small_digits, layer, message
):
    model = nn.Sequential(nn.Flatten(), layer, nn.Linear(144, 10))
    x, y = small_digits[0][:2], small_digits[1][:2]
    with pytest.raises(ValueError, match=message):
        client.share_gradient(model.train(), x, y)
    client.share_gradient(model.eval(), x, y)


@pytest.mark.parametrize("network_output", ["image", "scalar"])
def test_network_without_logits_is_refused(small_digits, network_output):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 10, 3)

        def forward(self, x):
            return self.conv(x) if network_output == "image" else self.conv(x).sum()

    with pytest.raises(ValueError, match=r"^model: .*logits \(B, C\)"):
        client.share_gradient(Odd(), small_digits[0][:1], small_digits[1][:1])


def test_network_without_parameters_is_refused(small_digits):
    model = small_lenet().requires_grad_(False)
    with pytest.raises(ValueError, match="^model: .*no trainable parameter"):
        client.share_gradient(model, small_digits[0][:1], small_digits[1][:1])


@pytest.mark.parametrize(
    "wrong",
    [
        dict(lr=0.0), dict(lr=-0.1), dict(lr=float("nan")), dict(lr=0.1, steps=0),
        dict(lr=0.1, steps=-2), dict(lr=0.1, epochs=0), dict(lr=0.1, batch_size=0),
    ],
)  # fmt: skip
def test_settings_of_training_are_positive(small_digits, wrong):
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=rf"^{name}: got {value}; .*positive"):
        client.share_weights(small_lenet(), small_digits[0][:2], small_digits[1][:2], **wrong)
