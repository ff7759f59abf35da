"""What a client sends is what it should be, and nothing else."""

import dataclasses
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leaklib import client, defenses, models, random
from leaklib.leak import Leak


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
    is_ours = lambda b: b.shape[1:] == x.shape[1:] and any(torch.equal(b[0], one) for one in x)  # noqa: E731
    batches = [b for b in seen if is_ours(b)]  # and not the noise that examines the network
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
    with pytest.raises(ValueError, match=f"^steps: got {value}; wanted a positive whole number"):
        client.check_training(lr=0.1, steps=value)


# --- defences -----------------------------------------------------------------------------------


def doubled(direction, generator):
    """A function of the direction that draws, too."""
    return {n: 2 * d + torch.randn((), generator=generator) for n, d in direction.items()}


def draw(seed, n):
    g = random.generator(seed, "noise")
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


def halved(model, generator, loss):
    """In place of a gradient: half of it, and a number drawn at each call."""
    g = client.gradient(model, loss)

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
    steps, g = OPTIMIZERS[optimizer](model.parameters(), lr=0.02), random.generator(3, "noise")
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
