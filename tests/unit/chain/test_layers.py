"""Every entry of the registry tells the truth, and one entry adds a layer of one's own."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.nn.functional import one_hot

from leaklib import analytic, client, distances, metrics
from leaklib.chain import LAYERS, Activation, Layer, gradients
from leaklib.chain.layers import Reshape
from leaklib.leak import stack

ACTIVATIONS = {kind: s for kind, s in LAYERS.items() if isinstance(s, Activation)}
SHAPE = (1, 1, 12, 12)


class Root(nn.Module):
    """z / sqrt(1 + c z^2), which is nobody else's."""

    def __init__(self, c=1.0):
        super().__init__()
        self.c = c

    def forward(self, z):
        return z / (1 + self.c * z.square()).sqrt()


ROOT = Activation(
    derivatives=lambda s, a: (
        (1 - s.c * a * a) ** 1.5,
        -3 * s.c * a * (1 - s.c * a * a) ** 2,
    ),
    inverse=lambda s, a: a / (1 - s.c * a * a).sqrt(),
    ends=lambda s: (-(s.c**-0.5), s.c**-0.5),
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(LAYERS, Root, ROOT)


def small(activation, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = [
            nn.Conv2d(1, 6, 3, padding=1),
            activation,
            nn.Conv2d(6, 6, 3, padding=1),
            activation,
        ]
        return nn.Sequential(*body, nn.Flatten(), nn.Linear(864, 10))


def entries(known):
    made = [(kind(), s) for kind, s in ACTIVATIONS.items() if getattr(s, known)]
    return [*made, (Root(), ROOT), (Root(0.3), ROOT)]


@pytest.mark.parametrize(("layer", "s"), entries("derivatives"), ids=repr)
def test_derivatives_are_those_of_autograd(layer, s):
    z = torch.linspace(-4, 4, 200, dtype=torch.float64)
    s1, s2 = s.derivatives(layer, layer(z))
    torch.testing.assert_close(s1, vmap(grad(layer))(z), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(s2, vmap(grad(grad(layer)))(z), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "s"),
    [
        *entries("inverse"),
        (nn.LeakyReLU(2.0), LAYERS[nn.LeakyReLU]),
        (nn.ELU(0.5), LAYERS[nn.ELU]),
        (nn.Softplus(3.0), LAYERS[nn.Softplus]),
    ],
    ids=repr,
)
def test_inverse_undoes_the_layer_between_the_ends_of_its_outputs(layer, s):
    z = torch.linspace(-4, 4, 200, dtype=torch.float64)
    a = layer.eval()(z)
    low, high = s.ends(layer)
    assert (low < a).all() and (a < high).all()
    torch.testing.assert_close(s.inverse(layer, a), z, rtol=1e-8, atol=1e-8)
    far = layer(torch.tensor([-1e12, 1e12], dtype=torch.float64))
    assert all(
        end.isclose(a, atol=1e-9) or a.isinf()
        for end, a in zip(far, torch.tensor([low, high]).double())
    )


@pytest.mark.parametrize(
    "layer",
    [nn.LeakyReLU(0.0), nn.LeakyReLU(-0.1), nn.ELU(0.0), nn.ELU(-1.0), nn.Dropout().train()],
    ids=repr,
)
def test_settings_that_leave_no_inverse_are_told(layer):
    entry = LAYERS[type(layer)]
    assert entry.ends(layer) is None and entry.obstacle(layer) == entry.cause is not None


def test_own_activation_by_one_entry_takes_the_fast_way(registered):
    V, model = 2, small(Root(0.5)).double()
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(V, *SHAPE, dtype=torch.float64, generator=draw)
    leak = stack([client.share_gradient(model, image, torch.tensor([3])) for image in x])
    q = one_hot(torch.full((V, 1), 3), 10).double()
    layers = gradients.layers(model, leak.weights, SHAPE)
    g = client.gradient(model)
    ways = {
        "fast": lambda x: gradients.value(
            layers, leak.weights, x, q, gradients.squared(leak.direction)
        ),
        "slow": lambda x: vmap(lambda W, h, x, q: distances.l2(g(W, x, q), h))(
            leak.weights, leak.direction, x, q
        ),
    }
    found = {}
    for name, way in ways.items():
        guess = (x / 2 + 0.1).requires_grad_()
        values = way(guess)
        found[name] = values.detach(), torch.autograd.grad(values.sum(), guess)[0]
    torch.testing.assert_close(found["fast"], found["slow"], rtol=1e-10, atol=1e-12)
    assert found["slow"][1].abs().max() > 1e-6, "there is something to compare"


def test_own_activation_by_one_entry_is_undone(registered, small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    model = small(Root())
    out = analytic.invert_network(model, client.share_gradient(model, x, y), SHAPE)
    assert metrics.mse(out.images[0], x) < 1e-9 and out.converged.all()


def test_own_activation_without_an_entry_is_left_to_autograd_and_not_undone():
    model = small(Root())
    assert gradients.layers(model, list(client.state(model)[0]), SHAPE) is None
    assert "Root '3' is no layer known here" in analytic.plan(model, SHAPE).cause


def test_own_activation_of_which_only_derivatives_are_known(monkeypatch):
    monkeypatch.setitem(LAYERS, Root, Activation(derivatives=ROOT.derivatives))
    model = small(Root())
    assert gradients.layers(model, list(client.state(model)[0]), SHAPE) is not None
    assert "Root '3' has no inverse that is known here" in analytic.plan(model, SHAPE).cause


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        (Layer("squares its inputs"), "squares its inputs"),
        (Layer(settings=("c",)), "has no inverse that is known here"),
        (Reshape(), "has no inverse that is known here"),
        (Activation(cause="squares its inputs"), "squares its inputs"),
    ],
)
def test_own_layer_that_cannot_be_undone_says_why(monkeypatch, entry, cause):
    monkeypatch.setitem(LAYERS, Root, entry)
    assert f"Root '3' {cause}" in analytic.plan(small(Root()), SHAPE).cause


class Doubled(nn.Sigmoid):
    """Derived from a layer that is known, and not the same."""

    def forward(self, z):
        return 2 * super().forward(z)


class Raised(nn.ReLU):
    def forward(self, z):
        return super().forward(z) + 1


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (Doubled(), "Doubled '3' is no layer known here"),
        (Raised(), "Raised '3' gives many inputs the same output"),
        (nn.Dropout2d().eval(), "Dropout2d '3' drops entries at random"),
    ],
)
def test_derived_type_has_only_the_obstacles_of_its_base(layer, cause):
    model = small(layer)
    assert gradients.layers(model, list(client.state(model)[0]), SHAPE) is None
    assert cause in analytic.plan(model, SHAPE).cause
