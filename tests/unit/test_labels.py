"""The label of one image is read off the last layer, always, and -1 says that it cannot be."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn
from torch.func import vmap

from leaklib import client, data, federated, labels, models
from leaklib.leak import Leak, stack


def network(kind, activation, init, seed=1):
    if kind == "mlp":
        return models.mlp(1, 28, hidden=(32,), activation=activation, init=init, seed=seed)
    return models.lenet(1, 28, activation=activation, init=init, seed=seed)


@pytest.fixture(scope="module")
def thousand():
    return data.load("digits", 1000, seed=0)


def leak_of_each(model, x, y):
    """A stack: what a client would send for each image alone, through one network."""
    W, buffers = client.state(model)
    g = vmap(client.gradient(model), in_dims=(None, 0, 0, None))
    update = g(W, x[:, None], y[:, None], buffers)
    weights = {name: w.expand(len(x), *w.shape) for name, w in W.items()}
    return Leak(weights, update, victims=len(x))


def rule(model, x, y, **settings):
    """The labels that the rule reads (N,)."""
    parts = zip(x.split(250), y.split(250), strict=True)
    return torch.cat([labels.idlg(leak_of_each(model, *p), **settings) for p in parts])[:, 0]


# --- a thousand images --------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
@pytest.mark.parametrize("init", ["dlg", "torch"])
@pytest.mark.parametrize("kind", ["mlp", "lenet"])
def test_rule_is_right_through_untrained_networks(kind, init, activation, thousand):
    x, y = thousand
    got = rule(network(kind, activation, init), x, y)
    if (kind, init, activation) == ("lenet", "dlg", "relu"):
        # logits so far apart that float32 rounds a whole gradient to zero: rare, and said as -1
        assert ((got == y) | (got == -1)).all() and (got == y).sum() >= 990
    else:
        assert (got == y).all()


@pytest.mark.parametrize(
    ("kind", "activation", "lr"),
    [
        ("mlp", "sigmoid", 0.5), ("mlp", "relu", 0.1), ("mlp", "tanh", 0.1), ("lenet", "tanh", 0.05)
    ],
)  # fmt: skip
def test_rule_is_right_through_trained_networks(kind, activation, lr, thousand):
    """Where p_c is close to 1 the entry is hardly negative, and still the smallest."""
    x, y = thousand
    model = network(kind, activation, "torch")
    clients = federated.split(x, y, 2)
    test = federated.Client(x, y)
    accuracy = federated.train(model, clients, test=test, rounds=5, lr=lr, batch_size=32)[-1]
    assert accuracy > 0.8
    assert (rule(model, x, y) == y).all()


def test_rule_is_right_where_the_probability_rounds_to_one(thousand):
    """The right class leads by far: p_c - 1 is 0 in float32, and the rest is positive."""
    x, y = thousand[0][:100], thousand[1][:100]
    model = models.mlp(1, 28, hidden=(), init="torch")
    with torch.no_grad():
        model.fc.weight.zero_()
    for c in range(10):
        with torch.no_grad():
            model.fc.bias.copy_(40.0 * torch.eye(10)[c])
        mine = y == c
        leak = leak_of_each(model, x[mine], y[mine])
        assert (leak.direction["fc.bias"][:, c] >= -1e-7).all()
        assert (labels.idlg(leak) == c).all()


def test_row_sums_fail_with_tanh_features_where_the_rule_does_not(thousand):
    """The shortcut argmin_i sum_j dV_ij needs features that are not negative."""
    x, y = thousand
    shortcut, exact = [], []
    for seed in range(4):
        model = models.lenet(1, 28, activation="tanh", init="torch", seed=seed)
        leak = leak_of_each(model, x[:250], y[:250])
        shortcut.append(leak.direction["fc.weight"].sum(2).argmin(1) == y[:250])
        exact.append(labels.idlg(leak)[:, 0] == y[:250])
    assert torch.cat(exact).all()
    assert torch.cat(shortcut).float().mean() < 0.9


def test_rule_reads_weights_too(small_digits):
    x, y = small_digits
    for steps in (1, 3):
        sent = stack(
            client.share_weights(
                models.lenet(1, 12, seed=i), x[i : i + 1], y[i : i + 1], lr=0.1, steps=steps
            )
            for i in range(24)
        )
        assert torch.equal(labels.idlg(sent), y[:, None])


# --- weights that a client sends ----------------------------------------------------------------

OPTIMIZERS = ["sgd", "momentum", "adam"]


def small_network(kind, seed):
    if kind == "mlp":
        activation = ("relu", "tanh")[seed % 2]
        return models.mlp(1, 12, hidden=(16,), activation=activation, init="dlg", seed=seed)
    return models.lenet(1, 12, width=6, seed=seed)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["mlp", "lenet"])
def test_rule_reads_weights_after_any_number_of_steps(
    kind, optimizer, small_digits, weights_of_each
):
    """Adam too: it rescales each entry, and keeps its sign."""
    x, y = small_digits
    for seed in range(3):
        for steps in (1, 2, 7, 20):
            for lr in (1e-1, 1e-2, 1e-3):
                sent = weights_of_each(small_network(kind, seed), x, y, lr, steps, optimizer)
                assert torch.equal(labels.idlg(sent)[:, 0], y)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["mlp", "lenet"])
def test_label_that_rounding_hides_is_undetermined_and_never_wrong(
    kind, optimizer, small_digits, weights_of_each
):
    x, y = small_digits
    hidden = []
    for seed, steps in itertools.product(range(2), (1, 5, 20)):
        for power in range(1, 10):
            sent = weights_of_each(small_network(kind, seed), x, y, 10.0**-power, steps, optimizer)
            got = labels.idlg(sent)[:, 0]
            assert ((got == y) | (got == -1)).all()
            assert power > 5 or (got == y).all()
            hidden.append((got == -1).sum())
            if (power, steps) == (9, 1):
                assert (got == -1).all()
        vanished = weights_of_each(small_network(kind, seed), x, y, 1e-12, steps, optimizer)
        assert (labels.idlg(vanished) == -1).all()
    assert sum(0 < n < len(y) for n in hidden) > 1, "the sweep passes through where it fails"


@pytest.mark.parametrize("bias", [True, False])
def test_label_is_never_wrong_where_a_trained_network_is_sure_of_it(bias, weights_of_each):
    """Entries far below 1, so that rounding reaches them sooner; without a bias by the rows."""
    x, y = data.load("digits", 500, size=12, seed=1)
    model = models.mlp(1, 12, hidden=(16,), activation="tanh", init="torch", seed=1)
    clients = federated.split(x, y, 2)
    test = federated.Client(x, y)
    accuracy = federated.train(model, clients, test=test, rounds=10, lr=0.5, batch_size=32)[-1]
    assert accuracy > 0.9
    determined = []
    for optimizer in ("sgd", "momentum"):
        for steps, power in itertools.product((1, 20), range(0, 9)):
            leak = weights_of_each(model, x[:50], y[:50], 10.0**-power, steps, optimizer)
            if not bias:
                drop = lambda tensors: {n: t for n, t in tensors.items() if n != "fc.bias"}  # noqa: E731
                leak = dataclasses.replace(
                    leak, weights=drop(leak.weights), update=drop(leak.update)
                )
            got = labels.idlg(leak)[:, 0]
            assert ((got == y[:50]) | (got == -1)).all()
            assert power > 3 or (got == y[:50]).all()
            determined.append(float((got != -1).float().mean()))
    assert min(determined) == 0 and any(0 < share < 1 for share in determined)


def test_entries_within_rounding_of_each_other_are_undetermined():
    """One unit in the last place of 1 is 2^-23 = 1.2e-7."""
    before = {"fc.weight": torch.ones(3, 2), "fc.bias": torch.ones(3)}
    for below, label in ((1e-6, 1), (1.3e-7, -1), (0, -1)):
        moved = torch.tensor([0.0, below, 0.0])
        update = {"fc.weight": torch.ones(3, 2), "fc.bias": 1 + moved}
        leak = Leak(before, update, "weights")
        assert labels.idlg(leak) == label
        double = lambda d: {n: t.double() for n, t in d.items()}  # noqa: E731
        leak = Leak(double(before), double(before) | {"fc.bias": 1 + moved.double()}, "weights")
        assert labels.idlg(leak) == (1 if below else -1)


# --- without a bias -----------------------------------------------------------------------------


def without_bias(features, classes=10, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 30), features, nn.Linear(30, classes, bias=False)
        )


@pytest.mark.parametrize("features", [nn.Sigmoid(), nn.ReLU(), nn.Tanh()])
def test_row_rule_where_there_is_no_bias(features, thousand):
    x, y = thousand[0][:250], thousand[1][:250]
    assert (rule(without_bias(features), x, y) == y).all()


def test_two_classes_without_a_bias_are_undetermined(thousand):
    """dV_0 = -dV_1: each row has the property."""
    x, y = thousand[0][:50], thousand[1][:50] % 2
    assert (rule(without_bias(nn.Sigmoid(), classes=2), x, y) == -1).all()


def test_two_classes_with_a_bias_are_read(thousand):
    x, y = thousand[0][:50], thousand[1][:50] % 2
    assert (rule(models.mlp(1, 28, hidden=(9,), classes=2), x, y) == y).all()


# --- undetermined -------------------------------------------------------------------------------


def leak_with(**update):
    tensors = {name.replace("_", "."): torch.as_tensor(t) for name, t in update.items()}
    return Leak({n: torch.ones_like(t) for n, t in tensors.items()}, tensors)


def test_zero_gradient_is_undetermined():
    assert labels.idlg(leak_with(fc_weight=torch.zeros(4, 3), fc_bias=torch.zeros(4))) == -1
    assert labels.idlg(leak_with(fc_weight=torch.zeros(4, 3))) == -1


def test_tied_smallest_entries_are_undetermined():
    tied = torch.tensor([0.5, -0.5, -0.5, 0.5])
    assert labels.idlg(leak_with(fc_weight=torch.zeros(4, 3), fc_bias=tied)) == -1
    other_ties = torch.tensor([0.5, -1.5, 0.5, 0.5])
    assert labels.idlg(leak_with(fc_weight=torch.zeros(4, 3), fc_bias=other_ties)) == 1


def test_nan_is_undetermined():
    nans = torch.full((4,), torch.nan)
    assert labels.idlg(leak_with(fc_weight=torch.zeros(4, 3), fc_bias=nans)) == -1


def test_rows_without_the_property_are_undetermined():
    dV = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])
    assert labels.idlg(leak_with(fc_weight=dV)) == -1
    dV = torch.tensor([[1.0, 0.0], [-1.0, -1.0], [0.9, 0.1]])
    assert labels.idlg(leak_with(fc_weight=dV)) == 1


def test_each_of_a_stack_on_its_own(small_digits, share_each):
    x, y = small_digits[0][:3], small_digits[1][:3]
    pile = share_each(lambda i: models.lenet(1, 12, seed=i), x, y)
    pile.update["fc.bias"][1] = 0
    assert labels.idlg(pile).tolist() == [[int(y[0])], [-1], [int(y[2])]]


# --- which layer --------------------------------------------------------------------------------


class HeadFirst(nn.Module):
    """The layer that makes the logits is registered before the others, as some networks do."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(20, 10)
        self.body = nn.Linear(144, 20)

    def forward(self, x):
        return self.out(self.body(x.flatten(1)).sigmoid())


@pytest.mark.parametrize("layer", ["out", "out.weight"])
def test_layer_may_be_named(layer, small_digits):
    x, y = small_digits
    for i in range(5):
        leak = client.share_gradient(HeadFirst(), x[i : i + 1], y[i : i + 1])
        assert labels.last_layer(leak) == ("body.weight", "body.bias")
        assert labels.last_layer(leak, layer) == ("out.weight", "out.bias")
        assert labels.idlg(leak, layer=layer).tolist() == [int(y[i])]


def test_last_layer_of_usual_networks(small_digits, own_network):
    x, y = small_digits[0][:1], small_digits[1][:1]
    found = lambda model: labels.last_layer(client.share_gradient(model, x, y))  # noqa: E731
    assert found(models.lenet(1, 12)) == ("fc.weight", "fc.bias")
    assert found(own_network()) == ("head.weight", "head.bias")
    headless = nn.Sequential(nn.Flatten(), nn.Linear(144, 10, bias=False))
    assert found(headless) == ("1.weight", None)
    stacked = stack([client.share_gradient(models.lenet(1, 12), x, y)] * 2)
    assert labels.last_layer(stacked) == ("fc.weight", "fc.bias")


def test_network_that_is_one_layer(small_digits):
    class Flat(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1))

    leak = client.share_gradient(Flat(144, 10), small_digits[0][:1], small_digits[1][:1])
    assert labels.last_layer(leak) == ("weight", "bias")
    assert torch.equal(labels.idlg(leak), small_digits[1][:1])


def test_bias_of_a_norm_layer_is_not_the_last_layers(small_digits):
    """A head without a bias before which a norm layer has one."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(144, 20), nn.Sigmoid(), nn.LayerNorm(20), nn.Linear(20, 10, False)
    )
    x, y = small_digits
    leak = client.share_gradient(model, x[:1], y[:1])
    assert labels.last_layer(leak) == ("4.weight", None)
    assert labels.idlg(leak) in (int(y[0]), -1)


@pytest.mark.parametrize("layer", ["conv1", "nothing"])
def test_layer_that_is_not_linear_is_refused(layer, small_digits):
    leak = client.share_gradient(models.lenet(1, 12), small_digits[0][:1], small_digits[1][:1])
    with pytest.raises(ValueError, match="^layer: .*linear layer"):
        labels.idlg(leak, layer=layer)


def test_network_without_a_linear_layer_is_refused(small_digits):
    model = nn.Sequential(nn.Conv2d(1, 10, 12), nn.Flatten())
    leak = client.share_gradient(model, small_digits[0][:1], small_digits[1][:1])
    with pytest.raises(ValueError, match="^layer: .*linear layer"):
        labels.idlg(leak)


def test_batch_gets_an_error_that_says_what_to_do(small_digits):
    leak = client.share_gradient(models.lenet(1, 12), small_digits[0][:4], small_digits[1][:4])
    with pytest.raises(ValueError, match=r"batch of 4 images.*add up.*labels\.counts"):
        labels.idlg(leak)
    with pytest.raises(ValueError, match="batch of 2"):
        labels.idlg(dataclasses.replace(leak, batch_size=2))
