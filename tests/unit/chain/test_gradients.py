"""The distance of gradients by hand, against the same by autograd, and the networks it takes."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.nn.functional import one_hot

from leaklib import attacks, client, distances, metrics, models
from leaklib.chain import LAYERS, Activation, gradients
from leaklib.leak import stack

V = 3
KNOWN = [kind for kind, s in LAYERS.items() if isinstance(s, Activation) and s.derivatives]


def convolutions(activation):
    """No layer like another: rectangular kernels, a stride that skips pixels, dilation, nesting."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 4, (3, 5), stride=2, padding=(1, 2)), activation()),
        nn.Conv2d(4, 3, 3, stride=(1, 2), dilation=2),
        activation(),
        nn.Flatten(),
        nn.Linear(3 * 2 * 1, 5),
        activation(),
        nn.Linear(5, 4),
    )


def grey(activation):
    """One channel: the first layer goes back by columns."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 4, stride=3, padding=1, dilation=2), activation(), nn.Flatten(),
        nn.Linear(3 * 3 * 3, 4),
    )  # fmt: skip


def linear(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 12 * 12, 6), activation(), nn.Linear(6, 4))


def softmax_regression(_):
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 12 * 12, 4))


def activation_first(activation):
    return nn.Sequential(activation(), nn.Flatten(), nn.Linear(2 * 12 * 12, 4))


def one_activation_twice(activation):
    """The same object in two places, as readers write it."""
    s = activation()
    return nn.Sequential(
        nn.Flatten(), nn.Linear(2 * 12 * 12, 6), s, nn.Linear(6, 5), s, nn.Linear(5, 4)
    )


def problems(network, B, seed, dtype=torch.float64):
    """V victims of a batch of B, with weights, messages, guesses and label probabilities."""
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if network.func is grey else 2
    draw = partial(torch.rand, generator=generator, dtype=dtype)
    leaks = []
    for i in range(V):
        model = models.init_uniform(network(), 0.5, seed=10 * seed + i).to(dtype)
        y = torch.randint(4, (B,), generator=generator)
        leaks.append(client.share_gradient(model, draw(B, channels, 12, 12), y))
    x = draw(V, B, channels, 12, 12)
    return model, stack(leaks), x, draw(V, B, 4).softmax(-1)


def slow(model, leak, x, q):
    """The plain truth: one gradient, its distance, and autograd through both."""
    g = client.gradient(model)
    return vmap(lambda W, h, x, q: distances.l2(g(W, x, q), h))(leak.weights, leak.direction, x, q)


def fast(model, leak, x, q):
    layers = gradients.layers(model, leak.weights, x.shape[1:])
    return gradients.value(layers, leak.weights, x, q, gradients.squared(leak.direction))


def value_and_gradients(of, model, leak, x, q):
    x, q = x.clone().requires_grad_(), q.clone().requires_grad_()
    values = of(model, leak, x, q)
    scale = torch.arange(1, V + 1).to(values)  # each problem's gradient is its own
    return values.detach(), *torch.autograd.grad((scale * values).sum(), (x, q))


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("activation", KNOWN, ids=lambda a: a.__name__)
@pytest.mark.parametrize(
    "network",
    [convolutions, grey, linear, softmax_regression, activation_first, one_activation_twice],
    ids=lambda n: n.__name__,
)
def test_distance_and_gradients_are_those_of_autograd(network, activation, B):
    for seed in (0, 1):
        case = problems(partial(network, activation), B, seed)
        for got, wanted in zip(value_and_gradients(fast, *case), value_and_gradients(slow, *case)):
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
            assert wanted.abs().max() > 1e-6, "there is something to compare"


def defended(g, h):
    """A defence and a distance, both of which autograd has to take apart."""
    return distances.mean_norm({name: tensor.tanh() for name, tensor in g.items()}, h)


@pytest.mark.parametrize(
    "distance",
    [distances.l2, distances.cosine, distances.mean_norm, distances.each_norm,
     distances.projected, defended],
    ids=lambda d: d.__name__,
)  # fmt: skip
@pytest.mark.parametrize("network", [convolutions, linear], ids=lambda n: n.__name__)
def test_other_distances_and_unknowns_are_those_of_autograd(network, distance):
    """distance(g, k h), of the image, of the labels and of k."""
    model, leak, x, q = problems(partial(network, nn.Sigmoid), 2, seed=3)
    W, h, g = leak.weights, leak.direction, client.gradient(model)
    k = torch.tensor([[0.5], [1.5], [2.0]], dtype=torch.float64)
    scaled = lambda g, h, k: distance(g, {n: k * t for n, t in h.items()})  # noqa: E731
    layers = gradients.layers(model, W, x.shape[1:])
    of = {
        "slow": lambda x, q, k: vmap(lambda W, h, x, q, k: scaled(g(W, x, q), h, k))(W, h, x, q, k),
        "fast": lambda x, q, k: gradients.value(
            layers, W, x, q, gradients.by_autograd(lambda G, k: vmap(scaled)(G, h, k)), (k,)
        ),
    }
    found = {}
    for name, evaluate in of.items():
        points = [t.clone().requires_grad_() for t in (x, q, k)]
        values = evaluate(*points)
        weights = torch.arange(1, V + 1).to(values)
        found[name] = values.detach(), *torch.autograd.grad((weights * values).sum(), points)
    for got, wanted in zip(found["fast"], found["slow"]):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    assert found["slow"][1].abs().max() > 1e-6, "there is something to compare"


@pytest.mark.parametrize("size", [28, 29, 32])
def test_lenet_in_single_precision(size):
    channels = 1 if size == 28 else 3
    nets = [models.lenet(channels, size, seed=i) for i in range(V)]
    generator = torch.Generator().manual_seed(size)
    draw = partial(torch.rand, generator=generator)
    leak = stack(
        client.share_gradient(net, draw(1, channels, size, size), torch.tensor([i]))
        for i, net in enumerate(nets)
    )
    q = one_hot(torch.arange(V)[:, None], 10).float()
    case = nets[0], leak, draw(V, 1, channels, size, size), q
    for got, wanted in zip(value_and_gradients(fast, *case), value_and_gradients(slow, *case)):
        assert (got - wanted).norm() < 1e-5 * wanted.norm()


class Halved(nn.Conv2d):
    """A reader's own layer, derived from one that is known."""

    def forward(self, x):
        return super().forward(x) / 2


def hooked():
    model = linear(nn.Sigmoid)
    model[1].register_forward_hook(lambda module, given, out: out / 2)
    return model


def weight_normalised():
    model = linear(nn.Sigmoid)
    nn.utils.parametrizations.weight_norm(model[1])
    return model


def frozen():
    model = linear(nn.Sigmoid)
    model[1].weight.requires_grad_(False)
    return model


def one_layer_twice():
    layer = nn.Linear(6, 6)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(2 * 12 * 12, 6), layer, nn.Sigmoid(), layer, nn.Linear(6, 4)
    )


def ends_in_an_activation():
    return nn.Sequential(*linear(nn.Sigmoid), nn.Sigmoid())


OTHERS = {
    "an activation without derivatives": lambda: linear(nn.GELU),
    "a layer derived from a known one": lambda: nn.Sequential(
        Halved(2, 3, 3), nn.Flatten(), nn.Linear(300, 4)
    ),
    "a hook": hooked,
    "normalised weights": weight_normalised,
    "a frozen weight": frozen,
    "a layer with weights in two places": one_layer_twice,
    "an activation at the end": ends_in_an_activation,
    "groups": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(400, 4)),
    "reflected borders": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(576, 4)
    ),
    "padding by name": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding="same"), nn.Flatten(), nn.Linear(576, 4)
    ),
    "no bias": lambda: nn.Sequential(nn.Flatten(), nn.Linear(288, 4, bias=False)),
    "pooling": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 4)),
    "dropout that is off": lambda: nn.Sequential(
        nn.Flatten(), nn.Dropout().eval(), nn.Linear(288, 4)
    ),
    "flatten in part": lambda: nn.Sequential(nn.Flatten(1, 2), nn.Flatten(), nn.Linear(288, 4)),
    "no sequence": lambda: nn.Bilinear(2, 2, 4),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_networks_are_left_to_autograd(make):
    model = make()
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    assert gradients.layers(model, names, (1, 2, 12, 12)) is None


@pytest.mark.parametrize("what", ["no bias", "a hook", "an activation without derivatives"])
def test_other_networks_are_attacked_as_before(what):
    """The image comes out, which it would not if the layer were taken for what it is not."""
    model = models.init_uniform(OTHERS[what](), 0.5)
    x = torch.rand(1, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    leak = client.share_gradient(model, x, torch.tensor([2]))
    out = attacks.idlg(model, leak, x.shape, labels=torch.tensor([2]), steps=300)
    start = float(metrics.mse(torch.full_like(x, 0.5), x))
    assert float(metrics.mse(out.images, x)) < start / 5


def clipped(g, _):
    """A defence of the client, and the attacker who repeats it."""
    norm = sum(tensor.square().sum() for tensor in g.values()).sqrt()
    return {name: tensor / norm.clamp(min=3.0) for name, tensor in g.items()}


BY_HAND = {
    "dlg": attacks.dlg,
    "idlg": attacks.idlg,
    "cosine": partial(attacks.idlg, distance=distances.cosine),
    "defended": partial(attacks.idlg, defend=clipped),
    "dlm": partial(attacks.dlm, unknowns={"k": 2.0}),
    "dlm_plus": attacks.dlm_plus,
}


@pytest.mark.parametrize("attack", BY_HAND.values(), ids=BY_HAND)
def test_attack_by_hand_takes_the_way_of_autograd(attack, small_digits, share_each, monkeypatch):
    """The same points, nearly, as where the network is not recognised as a chain."""
    x, y = (t[:3] for t in small_digits)
    x, small = x.double(), lambda i: models.lenet(1, 12, seed=i).double()
    defense = attack.keywords.get("defend") if isinstance(attack, partial) else None
    leak, shape = share_each(small, x, y, defense=defense), (1, 1, 12, 12)
    by_hand = attack(small(0), leak, shape, steps=25)
    monkeypatch.setattr(gradients, "layers", lambda *args: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_autograd = attack(small(0), leak, shape, steps=25)
    torch.testing.assert_close(by_hand.trace, by_autograd.trace, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(by_hand.images, by_autograd.images, rtol=1e-6, atol=1e-6)
    assert (by_hand.trace[:, -1] < by_hand.trace[:, 0] / 2).all()
