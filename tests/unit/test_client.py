"""What a client sends is what it should be, and nothing else."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leaklib import client, models


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
    assert {f.name for f in dataclasses.fields(client.Leak)} == wire
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
    pile = client.stack(leaks)
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
    pile = client.stack(leaks)
    assert pile.kind == "weights" and pile.buffers["note"].shape == (2, 3)
    for i, leak in enumerate(leaks):
        assert_close({n: t[i] for n, t in pile.direction.items()}, leak.direction)


def test_what_does_not_fit_together_is_not_stacked(small_digits):
    x, y = small_digits
    model = small_lenet()
    leak = client.share_gradient(model, x[:1], y[:1])
    wrong = {
        "batch_size": client.share_gradient(model, x[:2], y[:2]),
        "kind": client.share_weights(model, x[:1], y[:1], lr=0.1),
        "weights": client.share_gradient(small_mlp(), x[:1], y[:1]),
        "leaks\\[1\\]": client.stack([leak]),
    }
    for named, other in wrong.items():
        with pytest.raises(ValueError, match=named):
            client.stack([leak, other])
    with pytest.raises(ValueError, match="leaks"):
        client.stack([])


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
