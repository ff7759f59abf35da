"""A network that normalises its images itself: an attacker searches and scores pixels."""

import copy
import pickle
import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.func import vmap
from torch.nn.functional import one_hot

from leaklib import analytic, attacks, client, distances, metrics, models
from leaklib.chain import gradients
from leaklib.leak import stack

IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def by_hand(x, mean, std):
    mean, std = (torch.as_tensor(t, dtype=x.dtype).reshape(1, -1, 1, 1) for t in (mean, std))
    return (x - mean) / std


def pixels(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def resnet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torchvision.models.resnet18(weights=None, num_classes=5).eval()


def shared_layer():
    layer = nn.Linear(12, 12)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 12), layer, nn.Tanh(), layer)


def hooked():
    model = models.lenet(3, 8)
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0].clamp(-1, 1),))
    return model


def old_weight_norm():
    model = models.mlp(3, 8, hidden=(6,))
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model.fc1)
    return model


NETWORKS = {
    "lenet": lambda: models.lenet(3, 8),
    "convnet with BatchNorm": lambda: models.convnet(3, 8, norm="batch"),
    "resnet18": lambda: models.resnet18(3, width=4),
    "torchvision's": resnet,
    "a layer in two places": shared_layer,
    "a hook that wants normalised images": hooked,
    "weight norm of old": old_weight_norm,
    "a layer": lambda: nn.Conv2d(3, 2, 3),
}
every_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


@pytest.mark.parametrize(
    "settings",
    [IMAGENET, dict(mean=0.5, std=0.25), dict(mean=0.5, std=IMAGENET["std"]),
     dict(mean=torch.tensor(IMAGENET["mean"]), std=list(IMAGENET["std"]))],
    ids=["each", "one", "one mean", "tensor and list"],
)  # fmt: skip
@every_network
def test_logits_are_those_of_normalised_images(make, settings):
    model, x = make(), pixels(2, 3, 8, 8)
    out = models.normalized(model, **settings)(x)
    torch.testing.assert_close(out, model(by_hand(x, **settings)), rtol=1e-4, atol=1e-5)


@every_network
def test_names_and_modes_stay_and_the_model_is_left_alone(make):
    """So that messages and checkpoints of the model fit the normalised one."""
    for mode in (True, False):
        model = make().train(mode)
        hooks = len(model._forward_pre_hooks)
        held = {n: t.clone() for n, t in model.state_dict().items()}
        network = models.normalized(model, **IMAGENET)
        assert list(network.state_dict()) == list(held)
        assert [n for n, _ in network.named_buffers()] == [n for n, _ in model.named_buffers()]
        assert all(m.training == mode for m in network.modules())
        with torch.no_grad():
            for t in network.state_dict().values():
                t.add_(1)
        network.train(not mode)
        assert all(m.training == mode for m in model.modules()), "modes are its own"
        assert all(torch.equal(t, held[n]) for n, t in model.state_dict().items()), "weights too"
        assert len(model._forward_pre_hooks) == hooks
        copy.deepcopy(network)
        if make is not old_weight_norm:  # which PyTorch cannot copy
            copy.deepcopy(model)


def test_frozen_layers_stay_frozen():
    model = models.lenet(3, 8)
    model.conv1.requires_grad_(False)
    network = models.normalized(model, **IMAGENET)
    names = [n for n, p in network.named_parameters() if not p.requires_grad]
    assert names == ["conv1.weight", "conv1.bias"]


@pytest.mark.parametrize("make", [NETWORKS["lenet"], resnet], ids=["chain", "hook"])
def test_normalised_network_pickles_and_copies(make):
    network, x = models.normalized(make(), **IMAGENET), pixels(2, 3, 8, 8)
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(again(x), network(x))


@pytest.mark.parametrize("make", [models.lenet, models.resnet18, resnet])
def test_message_of_normalised_images_is_the_one_of_pixels(make):
    """A client that normalises in its data loader, and an attacker who does in the network."""
    model, x, y = make().double(), pixels(1, 3, 32, 32).double(), torch.tensor([2])
    network = models.normalized(model, **IMAGENET)
    sent = client.share_gradient(model, by_hand(x, **IMAGENET), y)
    same = client.share_gradient(network, x, y)
    assert list(sent.update) == list(same.update)
    for name, g in sent.update.items():
        torch.testing.assert_close(same.update[name], g, rtol=1e-9, atol=1e-12)
    client.check_leak(network, sent)


# --- as a chain -----------------------------------------------------------------------------------


def lenets(dtype):
    """Three victims with networks of their own, guesses, and labels' probabilities."""
    nets = [models.normalized(models.lenet(3, 16, seed=i), **IMAGENET).to(dtype) for i in range(3)]
    sent = [
        client.share_gradient(net, pixels(2, 3, 16, 16, seed=i).to(dtype), torch.tensor([i, 5]))
        for i, net in enumerate(nets)
    ]
    q = one_hot(torch.tensor([[0, 5], [1, 5], [2, 5]]), 10).to(dtype)
    return nets[0], stack(sent), pixels(3, 2, 3, 16, 16, seed=9).to(dtype), q


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_fast_path_is_taken_and_equals_autograd(dtype, bound):
    model, leak, x, q = lenets(dtype)
    W, h, g = leak.weights, leak.direction, client.gradient(model)
    layers = gradients.layers(model, list(W), x.shape[1:])
    assert layers is not None
    found = {}
    for way in ("fast", "slow"):
        guess = x.clone().requires_grad_()
        if way == "fast":
            values = gradients.value(layers, W, guess, q, gradients.squared(h))
        else:
            values = vmap(lambda W, h, x, q: distances.l2(g(W, x, q), h))(W, h, guess, q)
        found[way] = values.detach(), torch.autograd.grad(values.sum(), guess)[0]
    for fast, slow in zip(*found.values()):
        assert (fast - slow).norm() < bound * slow.norm()
    assert found["slow"][1].abs().max() > 1e-6


def test_idlg_on_a_normalised_lenet_recovers_the_pixels():
    x, y = pixels(1, 3, 12, 12), torch.tensor([4])
    network = models.normalized(models.lenet(3, 12), **IMAGENET)
    out = attacks.idlg(network, client.share_gradient(network, x, y), x.shape)
    assert out.converged.all() and metrics.mse(out.images[0], x).item() < 1e-4


def test_recursion_undoes_the_normalisation():
    x, y = pixels(1, 3, 12, 12).double(), torch.tensor([4])
    network = models.normalized(models.lenet(3, 12), **IMAGENET).double()
    assert analytic.plan(network, x.shape).cause is None
    out = analytic.invert_network(network, client.share_gradient(network, x, y), x.shape)
    assert out.converged.all() and metrics.mse(out.images[0], x).item() < 1e-9


def test_layer_may_stand_between_others():
    """In the middle of a chain, where its input moves with the weights."""
    inner = models.Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    body = nn.Conv2d(3, 3, 3, padding=1), inner, nn.Sigmoid(), nn.Flatten(), nn.Linear(192, 4)
    model = models.init_uniform(nn.Sequential(*body)).double()
    x, guess = pixels(2, 1, 3, 8, 8).double()
    leak, g = client.share_gradient(model, x, torch.tensor([1])), client.gradient(model)
    layers = gradients.layers(model, list(leak.weights), x.shape)
    guess, q = guess.requires_grad_(), one_hot(torch.tensor([1]), 4).double()
    pile = stack([leak])
    fast = gradients.value(
        layers, pile.weights, guess[None], q[None], gradients.squared(pile.update)
    )
    slow = distances.l2(g(leak.weights, guess, q), leak.update)
    torch.testing.assert_close(fast[0], slow, rtol=1e-10, atol=1e-14)
    by = [torch.autograd.grad(value, guess)[0] for value in (fast.sum(), slow)]
    torch.testing.assert_close(*by, rtol=1e-9, atol=1e-12)


# --- refused in words -----------------------------------------------------------------------------


def normalise(mean=0.5, std=0.5, model=None):
    return lambda: models.normalized(models.lenet(3, 8) if model is None else model, mean, std)


def scripted():
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))


BAD = {
    "no spread": (normalise(std=0.0), r"^std: got 0.0; wanted one of \(0, 1\] for all channels"),
    "no spread in one channel": (normalise(std=(0.2, 0.0, 0.2)), r"^std: got \(0.2, 0.0, 0.2\)"),
    "a negative spread": (normalise(std=-0.5), "^std: got -0.5"),
    "pixels to 255": (normalise(mean=(123.7, 116.3, 103.5)), "^mean: got .123.7.*not to 255"),
    "their spread": (normalise(std=58.4), "^std: got 58.4; wanted .*not to 255"),
    "a mean below 0": (normalise(mean=-0.1), r"^mean: got -0.1; wanted one of \[0, 1\]"),
    "NaN": (normalise(mean=float("nan")), "^mean: got nan"),
    "words": (normalise(mean="imagenet"), "^mean: got 'imagenet'; wanted one of"),
    "None": (normalise(std=None), "^std: got None"),
    "no numbers": (normalise(mean=()), r"^mean: got \(\); wanted"),
    "a number for each pixel": (normalise(mean=torch.full((3, 8), 0.5)), "(?s)^mean: got tensor"),
    "as many means as spreads": (
        normalise(mean=(0.5, 0.5), std=(0.2, 0.2, 0.2)),
        r"^std: got \(0.2, 0.2, 0.2\), and mean \(0.5, 0.5\); wanted as many numbers for both",
    ),
    "twice, a chain": (
        normalise(model=models.normalized(models.lenet(3, 8), 0.5, 0.5)),
        "^model: got a network that normalises already; wanted one that does not",
    ),
    "twice, a hook": (
        normalise(model=models.normalized(nn.Conv2d(3, 2, 3), 0.5, 0.5)),
        "^model: got a network that normalises already",
    ),
    "a function": (normalise(model=torch.relu), "^model: got builtin_function_or_method"),
    "scripted": (lambda: normalise(model=scripted())(), "^model: got a scripted network"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_normalised_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("make", [lambda: nn.Sequential(nn.Flatten()), nn.Flatten])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.ones(2, 1, 8, 8),
            r"^x: got shape \(2, 1, 8, 8\) of torch.float32; .* of 3 channels",
        ),
        (torch.ones(2, 8, 8, 3), r"^x: got shape \(2, 8, 8, 3\)"),
        (torch.ones(2, 192), r"^x: got shape \(2, 192\)"),
        (
            torch.ones(2, 3, 8, 8, dtype=torch.uint8),
            r"^x: got shape .* of torch.uint8; wanted .* fl",
        ),
    ],
    ids=["grey", "channels last", "rows", "bytes"],
)
def test_images_that_do_not_fit_the_mean_are_refused(make, x, message):
    """A grey image would become three, and whole numbers would lose the mean."""
    with pytest.raises(ValueError, match=message):
        models.normalized(make(), **IMAGENET)(x)
