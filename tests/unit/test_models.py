"""The papers' networks have the papers' sizes and initialisation."""

import inspect
import warnings

import pytest
import torch
import torchvision
from torch import nn

from leaklib import attacks, client, distances, keylock, models, solvers
from leaklib.leak import stack


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (dict(channels=3, size=32, classes=100), 85_036),
        (dict(channels=1, size=28, classes=10), 13_426),
    ],
)
def test_lenet_has_the_parameters_of_the_published_code(settings, count):
    assert parameters(models.lenet(**settings)) == count


@pytest.mark.parametrize("build", [models.lenet, models.mlp])
def test_published_initialisation(build):
    """U(-0.5, 0.5) for every weight and bias: range, mean, spread."""
    values = flat(build(1, 28, init="dlg", seed=3))
    assert values.abs().max() <= 0.5 and values.abs().max() > 0.49
    assert abs(values.mean()) < 0.02
    assert float(values.std()) == pytest.approx(1 / 12**0.5, rel=0.03)
    for p in build(1, 28, init="dlg", seed=3).parameters():
        assert p.abs().max() > 0.3, "biases too"


def test_lenet_starts_as_published_and_mlp_as_torch():
    assert flat(models.lenet(1, 28)).abs().max() > 0.49
    bound = 1 / 784**0.5
    assert models.mlp(1, 28).fc1.weight.abs().max() <= bound
    assert models.lenet(1, 28, init="torch").fc.weight.abs().max() <= 1 / 588**0.5


@pytest.mark.parametrize("init", ["dlg", "torch"])
@pytest.mark.parametrize("build", [models.lenet, models.mlp])
def test_seed_decides_the_weights_and_nothing_else_changes(build, init):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one = flat(build(1, 28, init=init, seed=5))
    torch.manual_seed(456)
    same, other = flat(build(1, 28, init=init, seed=5)), flat(build(1, 28, init=init, seed=6))
    assert torch.equal(one, same) and not torch.equal(one, other)
    torch.manual_seed(123)
    build(1, 28, init=init, seed=9)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is given back"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [11, 25, 28, 32, 33])
def test_logits_for_every_size(channels, size):
    x = torch.rand(2, channels, size, size)
    assert models.lenet(channels, size, classes=7)(x).shape == (2, 7)
    assert models.mlp(channels, size, hidden=(5, 6), classes=7)(x).shape == (2, 7)


BUILD = [models.lenet, models.lenet_keylock, models.mlp, models.convnet, models.resnet18]


NUMBERS = [
    (build, name)
    for build in BUILD
    for name in ("channels", "size", "classes", "width")
    if name in inspect.signature(build).parameters
]


@pytest.mark.parametrize("value", [0, -1, 1.5, 8.0, "8", None, True, (8, 8)], ids=repr)
@pytest.mark.parametrize(
    ("build", "name"), NUMBERS, ids=lambda part: getattr(part, "__name__", part)
)
def test_what_is_no_number_of_anything_is_refused(build, name, value):
    """A size of 0 made a network without weights."""
    with pytest.raises(ValueError, match=f"^{name}: got .*; wanted a positive"):
        build(**{name: value})


@pytest.mark.parametrize("hidden", [300, None, "300", (0,), (5, -1), (5.0,)], ids=repr)
def test_what_are_no_widths_are_refused(hidden):
    with pytest.raises(ValueError, match="^hidden: got .*; wanted "):
        models.mlp(hidden=hidden)


@pytest.mark.parametrize("seed", [1.5, "1", None, True], ids=repr)
@pytest.mark.parametrize("build", BUILD, ids=lambda build: build.__name__)
def test_what_is_no_seed_is_refused(build, seed):
    """1.5 was the seed 1."""
    with pytest.raises(ValueError, match="^seed: got .*; wanted a whole number"):
        build(seed=seed)


@pytest.mark.parametrize("build", BUILD[:4], ids=lambda build: build.__name__)
def test_smallest_network_has_logits(build):
    settings = dict(width=4) if build is not models.mlp else dict(hidden=(1,))
    model = build(1, 1, classes=2, **settings)
    assert model(torch.rand(3, 1, 1, 1)).shape == (3, 2)


def test_cats_and_dogs_refuse_sizes_as_their_networks_do():
    for size in (0, 32.0, (32, 32)):
        with pytest.raises(ValueError, match="^size: got "):
            models.cats_dogs(size=size)


def test_stages_of_lenet():
    model, x = models.lenet(3, 32), torch.rand(1, 3, 32, 32)
    shapes = [tuple(model[: n + 1](x).shape[1:]) for n in (0, 2, 4)]
    assert shapes == [(12, 16, 16), (12, 8, 8), (12, 8, 8)]


def test_mlp_without_hidden_layers_is_softmax_regression():
    model = models.mlp(1, 8, hidden=(), classes=3)
    assert [type(m) for m in model] == [nn.Flatten, nn.Linear]
    assert [name for name, _ in model.named_parameters()] == ["fc.weight", "fc.bias"]


def test_width_is_the_number_of_channels():
    assert torch.equal(flat(models.lenet(seed=4, width=12)), flat(models.lenet(seed=4)))
    wide = models.lenet(3, 64, width=40)
    assert [wide[i].weight.shape[:2] for i in (0, 2, 4)] == [(40, 3), (40, 40), (40, 40)]
    assert wide(torch.rand(2, 3, 64, 64)).shape == (2, 10)
    for width in (0, -3):
        with pytest.raises(ValueError, match=f"^width: got {width}; .*positive"):
            models.lenet(width=width)


@pytest.mark.parametrize(("kind", "of"), [("linear", models.mlp), ("convolution", models.lenet)])
@pytest.mark.parametrize("size", [32, 64])
def test_cats_and_dogs_are_two_classes_by_either_kind(kind, of, size):
    model = models.cats_dogs(kind, size, seed=7, activation="tanh")
    assert model(torch.rand(3, 3, size, size)).shape == (3, 2)
    assert torch.equal(flat(model), flat(of(3, size, classes=2, seed=7, activation="tanh")))


def test_cats_and_dogs_start_convolutional_and_refuse_other_kinds():
    assert isinstance(models.cats_dogs()[0], nn.Conv2d)
    with pytest.raises(ValueError, match="^kind: got 'recurrent'; wanted one of linear, conv"):
        models.cats_dogs("recurrent")


def test_layers_are_named():
    names = [name for name, _ in models.mlp(1, 8, hidden=(5, 4)).named_parameters()]
    assert names[::2] == ["fc1.weight", "fc2.weight", "fc.weight"]


@pytest.mark.parametrize("activation", models.ACTIVATIONS)
def test_activations(activation):
    kind = models.ACTIVATIONS[activation]
    assert sum(isinstance(m, kind) for m in models.lenet(activation=activation)) == 3
    assert sum(isinstance(m, kind) for m in models.mlp(hidden=(5, 5), activation=activation)) == 2


# --- behind a lock --------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["dlg", "torch"])
@pytest.mark.parametrize("seed", range(2))
def test_locked_lenet_is_the_lenet_behind_a_lock(init, seed):
    settings = dict(classes=7, activation="tanh", seed=seed, init=init, width=8)
    plain = models.lenet(1, 28, **settings)
    locked = models.lenet_keylock(1, 28, key=keylock.new_key(30), norm=False, **settings)
    assert [name for name, _ in locked.named_children()][:2] == ["lock", "act1"]
    assert torch.equal(locked.lock.conv.weight, plain.conv1.weight)
    rest = {n: p for n, p in locked.named_parameters() if not n.startswith("lock")}
    assert all(torch.equal(p, plain.get_parameter(n)) for n, p in rest.items())
    x = torch.rand(2, 1, 28, 28)
    assert locked(x).shape == (2, 7)
    with torch.no_grad():  # gamma = 1, beta = 0
        for part, value in ((locked.lock.gain, 1.0), (locked.lock.shift, 0.0)):
            part.weight.zero_(), part.bias.fill_(value)
    torch.testing.assert_close(locked(x), plain(x))


@pytest.mark.parametrize("init", ["dlg", "torch"])
def test_maps_of_the_lock_start_as_torchs(init):
    """From U(-1/sqrt L, 1/sqrt L), so that the gains are moderate; the rest as asked."""
    locked = models.lenet_keylock(init=init, key=keylock.new_key(400)).lock
    for layer in (locked.gain, locked.shift):
        assert layer.weight.shape == (12, 400)
        assert 0.049 < layer.weight.abs().max() <= 0.05
    assert not torch.equal(locked.gain.weight, locked.shift.weight)
    assert (locked.conv.weight.abs().max() > 0.4) == (init == "dlg")


def test_lock_has_a_key_of_its_own_where_none_is_given():
    one, two = models.lenet_keylock(), models.lenet_keylock(seed=1)
    assert torch.equal(one.lock.key, keylock.new_key())
    assert torch.equal(one.lock.key, two.lock.key), "the key is no matter of the network's seed"
    assert one.lock.norm and one.lock.gate == "relu", "as published"
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(flat(models.lenet_keylock(seed=5)), flat(models.lenet_keylock(seed=5)))
    assert torch.equal(torch.get_rng_state(), before), "the global generator is given back"


def test_locked_lenet_refuses_what_lenet_and_the_lock_refuse():
    for wrong, message in [
        (dict(width=0), "^width: got 0"),
        (dict(activation="sine"), "^activation: got 'sine'"),
        (dict(init="zeros"), "^init: got 'zeros'"),
        (dict(gate="tanh"), "^gate: got 'tanh'; wanted one of relu, sigmoid, none"),
    ]:
        with pytest.raises(ValueError, match=message):
            models.lenet_keylock(**wrong)


# --- deeper networks ----------------------------------------------------------------------------

DEEP = [models.convnet, models.resnet18]


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (models.convnet(), 73_802),
        (models.resnet18(), 701_466),
        (models.resnet18(width=64), 11_173_962),
    ],
    ids=["convnet", "resnet18", "as wide as published"],
)
def test_deeper_networks_have_the_parameters_that_they_say(model, count):
    assert parameters(model) == count


def test_resnet18_is_torchvisions_but_for_what_it_says():
    """The same names, the same numbers out, with torchvision's first layer and ReLUs replaced."""
    ours = models.resnet18(width=64, activation="relu", seed=2)
    theirs = torchvision.models.resnet18(weights=None, num_classes=10).eval()
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    stds = {
        n: float(p.std()) for n, p in theirs.state_dict().items() if p.ndim == 4 and "layer" in n
    }
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x))
    assert len(stds) == 19
    for name, std in stds.items():
        assert float(ours.state_dict()[name].std()) == pytest.approx(std, rel=0.1), name


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("build", DEEP)
def test_deeper_networks_are_smooth_and_in_evaluation_mode(build, norm):
    model = build(norm=norm, activation="softplus")
    kinds = {type(m) for m in model.modules()}
    assert nn.Softplus in kinds and not kinds & {nn.ReLU, nn.MaxPool2d, nn.GELU}
    norms = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm}
    assert norms.pop(norm) in kinds and not kinds & set(norms.values())
    assert not any(m.training for m in model.modules())


def test_convnet_has_no_normalisation_unless_asked():
    assert {type(m) for m in models.convnet()[:-2]} == {nn.Conv2d, nn.GELU}


@pytest.mark.parametrize("build", DEEP)
@pytest.mark.parametrize(("channels", "size"), [(1, 12), (3, 33), (1, 28)])
def test_deeper_networks_take_small_images_of_any_size(build, channels, size):
    settings = dict(size=size) if build is models.convnet else {}
    model = build(channels, classes=7, width=4, **settings)
    assert model(torch.rand(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("build", DEEP)
def test_seed_decides_the_weights_of_deeper_networks(build):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one, same, other = (flat(build(seed=s, width=4)) for s in (5, 5, 6))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("build", DEEP)
def test_vmap_batches_the_attack_on_deeper_networks(build, norm, small_digits):
    """Three networks at once, as they are one by one, in float64."""
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    settings = dict(norm=norm, width=4) | (dict(size=12) if build is models.convnet else {})
    nets = [build(1, seed=s, **settings).double() for s in range(3)]
    leaks = [client.share_gradient(net, x[i : i + 1], y[i : i + 1]) for i, net in enumerate(nets)]
    how = dict(distance=distances.cosine, solver=solvers.adam, steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = attacks.idlg(nets[0], stack(leaks), (1, 1, 12, 12), **how)
    for i, leak in enumerate(leaks):
        alone = attacks.idlg(nets[i], leak, (1, 1, 12, 12), **how)
        torch.testing.assert_close(out.trace[i], alone.trace[0], rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(out.images[i], alone.images[0], rtol=1e-6, atol=1e-8)
    assert ((out.snapshots[2] - 0.5).abs().amax((1, 2, 3, 4)) > 0.05).all(), "they move"


@pytest.mark.parametrize("build", DEEP)
def test_deeper_networks_refuse_what_they_cannot_be(build):
    with pytest.raises(ValueError, match="^activation: got 'step'"):
        build(activation="step")
    with pytest.raises(ValueError, match='^norm: got \'layer\'; wanted "batch" or "group"'):
        build(norm="layer")
    for width in (0, -4, 6):
        with pytest.raises(ValueError, match=f"^width: got {width}; .*multiple of 4"):
            build(width=width)


@pytest.mark.parametrize("a", [0.1, 2.0])
def test_init_uniform(a):
    model = nn.Sequential(nn.Linear(50, 50), nn.LayerNorm(50)).double()
    assert models.init_uniform(model, a, seed=1) is model
    values = flat(model)
    assert 0.95 * a < values.abs().max() <= a and values.dtype == torch.float64
    again = flat(models.init_uniform(nn.Sequential(nn.Linear(50, 50), nn.LayerNorm(50)), a, 2))
    assert not torch.equal(values.float(), again)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("build", [models.lenet, models.mlp])
def test_unknown_names_are_refused(build):
    with pytest.raises(ValueError, match="^activation: got 'step'; wanted one of sigmoid, tanh"):
        build(activation="step")
    with pytest.raises(ValueError, match='^init: got \'xavier\'; wanted "dlg".*"torch"'):
        build(init="xavier")


@pytest.mark.parametrize("a", [0, -0.5, float("nan")])
def test_width_of_the_interval_is_positive(a):
    with pytest.raises(ValueError, match=f"^a: got {a}; .*positive"):
        models.init_uniform(nn.Linear(2, 2), a)
