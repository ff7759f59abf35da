"""Leaks out of other people's gradients and checkpoints: right, or refused in words."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import NETWORKS as OTHERS
from networks import made
from torch import nn

from leaklib import analytic, attacks, client, labels, models
from leaklib.leak import from_gradients, from_state_dicts, load

SHAPE = (1, 1, 12, 12)


# --- networks of other people ---------------------------------------------------------------------


class Tied(nn.Module):
    """A head that reads with the very weights of the first layer."""

    def __init__(self):
        super().__init__()
        self.encoder, self.back = nn.Linear(144, 10), nn.Linear(10, 144)
        self.decoder = nn.Linear(144, 10)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.decoder(self.back(torch.sigmoid(self.encoder(x.flatten(1)))))


class Shared(nn.Module):
    """One layer under two names, which is called by both."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.head = nn.Linear(144, 8), nn.Linear(8, 8), nn.Linear(8, 10)
        self.again = self.middle

    def forward(self, x):
        h = torch.sigmoid(self.first(x.flatten(1)))
        return self.head(torch.sigmoid(self.again(torch.sigmoid(self.middle(h)))))


class Scaled(nn.Module):
    """A buffer that is not saved, one that is, and parameters that the loss does not reach."""

    def __init__(self):
        super().__init__()
        self.unused, self.body = nn.Linear(3, 3), nn.Linear(144, 10)
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)
        self.register_buffer("shift", torch.full((144,), 0.25))

    def forward(self, x):
        return self.body(self.scale * x.flatten(1) - self.shift)


def frozen():
    model = models.mlp(1, 12, hidden=(20, 15))
    model.fc1.requires_grad_(False)
    return model


def with_statistics():
    body = nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(100, 10)
    model = nn.Sequential(*body)
    model(torch.rand(8, *SHAPE[1:]))  # moves the statistics
    return model.eval()


def weight_normalised():
    model = models.mlp(1, 12, hidden=(8,))
    nn.utils.parametrizations.weight_norm(model.fc1)
    return model


def compiled_inside():
    """As `torch.compile` of one layer names it; nothing is compiled."""
    inner = nn.Sequential(OrderedDict(_orig_mod=nn.Linear(8, 10)))
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.Sigmoid(), inner)


def called_module():
    """A layer that its author happened to call `module`, as DataParallel does."""
    layers = dict(flatten=nn.Flatten(), module=nn.Linear(144, 8), act=nn.Tanh())
    return nn.Sequential(OrderedDict(**layers, head=nn.Linear(8, 10)))


NETWORKS = [Tied, Shared, Scaled, frozen, with_statistics, weight_normalised, compiled_inside,
            called_module]  # fmt: skip
every_network = pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)


def built(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def image(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(SHAPE, generator=draw).double(), torch.tensor([3])


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def backward(model, x, y):
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()


def two_checkpoints(model, lr=0.1):
    """(before, after, {name: gradient}) of one step of a plain loop, in place."""
    before = state(model)
    backward(model, *image())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    g = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in trained.items()}
    torch.optim.SGD(trained.values(), lr=lr).step()
    return before, state(model), g


def renamed(tensors, how):
    return {how(name): tensor for name, tensor in tensors.items()}


PREFIXES = {
    "as they are": lambda name: name,
    "DataParallel": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled, then DataParallel": lambda name: f"module._orig_mod.{name}",
    "DataParallel, then compiled": lambda name: f"_orig_mod.module.{name}",
}
every_prefix = pytest.mark.parametrize("how", PREFIXES.values(), ids=PREFIXES)


def everything(model):
    """What must not be another after a call, bit by bit and object by object."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    return [(n, id(t), t.detach().clone(), t.requires_grad) for n, t in tensors], hooks, modes


def assert_untouched(model, before):
    now = everything(model)
    assert now[1:] == before[1:]
    for (name, which, tensor, trains), was in zip(now[0], before[0], strict=True):
        assert (name, which, trains) == (was[0], was[1], was[3]) and torch.equal(tensor, was[2])
    copy.deepcopy(model)


# --- gradients of a plain loop --------------------------------------------------------------------


def as_list(model, g):
    return list(g.values())


def as_listed_by_autograd(model, g):
    p = [p for p in model.parameters() if p.requires_grad]
    x, y = image()
    return torch.autograd.grad(F.cross_entropy(model(x), y), p, allow_unused=True)


def as_dict(model, g):
    return g


def as_all_parameters(model, g):
    return [p.grad for p in model.parameters()]


def as_generator(model, g):
    return (tensor for tensor in g.values())


def as_grad(model, g):
    return None


WAYS = [as_list, as_listed_by_autograd, as_dict, as_all_parameters, as_generator, as_grad]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@every_network
def test_own_gradients_are_the_leak_that_a_client_would_send(make, way):
    """Each of `named_parameters` that trains, by autograd, and all else among the buffers."""
    model = built(make)
    backward(model, *image())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    g = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in trained.items()}
    before = everything(model)
    leak = from_gradients(model, way(model, g), batch_size=2)
    assert (leak.kind, leak.batch_size, leak.victims) == ("gradient", 2, None)
    assert list(leak.update) == list(leak.weights) == list(g)
    for name, tensor in leak.update.items():
        torch.testing.assert_close(tensor, g[name], rtol=1e-12, atol=1e-15)
        assert torch.equal(leak.weights[name], trained[name])
    assert set(leak.buffers) == {
        *(n for n, p in model.named_parameters() if not p.requires_grad),
        *(n for n, _ in model.named_buffers()),
    }
    assert_untouched(model, before)
    client.check_leak(model, leak)


@every_prefix
@every_network
def test_gradients_by_name_are_understood_with_prefixes(make, how):
    model = built(make)
    backward(model, *image())
    given = {n: p.grad for n, p in model.named_parameters()}
    leak = from_gradients(model, renamed(given, how))
    assert list(leak.update) == [n for n, p in model.named_parameters() if p.requires_grad]
    for name, p in model.named_parameters():
        if p.grad is not None:
            assert torch.equal(leak.update[name], p.grad)


def test_gradients_fit_a_model_that_is_wrapped_itself():
    inner = built(Shared)
    model = nn.Sequential(OrderedDict(module=inner))  # the names that DataParallel gives
    backward(inner, *image())
    given = {n: p.grad for n, p in inner.named_parameters()}
    leak = from_gradients(model, given)
    assert list(leak.update) == [f"module.{name}" for name in given]


def test_parameter_that_the_loss_does_not_reach_has_the_gradient_zero():
    """As `client.share_gradient` sends it."""
    model, (x, y) = built(Scaled), image()
    backward(model, x, y)
    assert model.unused.weight.grad is None
    leak, sent = from_gradients(model), client.share_gradient(model, x, y)
    for name in leak.update:
        torch.testing.assert_close(leak.update[name], sent.update[name], rtol=1e-12, atol=1e-15)
    assert not leak.update["unused.weight"].any()


def test_gradient_leak_is_a_copy_that_holds_no_graph():
    model, (x, y) = built(Shared), image()
    g = torch.autograd.grad(
        F.cross_entropy(model(x), y), list(model.parameters()), create_graph=True
    )
    kept = [tensor.detach().clone() for tensor in g]
    leak = from_gradients(model, g)
    for tensor in (*leak.weights.values(), *leak.update.values()):
        assert not tensor.requires_grad and tensor.grad_fn is None
    for tensor in leak.update.values():
        tensor.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(g, kept)), "the caller's are not written to"
    with torch.no_grad():
        model.head.bias.add_(1)
    assert not torch.equal(leak.weights["head.bias"], model.head.bias)


def test_own_gradient_gives_the_image_away(small_digits):
    """The loop of a reader from end to end."""
    x, y = small_digits[0][:1], small_digits[1][:1]
    model = models.lenet(1, 12)
    F.cross_entropy(model(x), y).backward()
    out = attacks.idlg(model, from_gradients(model), SHAPE)
    assert out.converged.all() and (out.images[0] - x).abs().max() < 1e-2


def test_gradient_of_sparse_rows_is_made_dense():
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Flatten(), nn.Linear(6, 4))
    F.cross_entropy(model(torch.tensor([[1, 2]])), torch.tensor([3])).backward()
    assert model[0].weight.grad.is_sparse
    leak = from_gradients(model)
    assert torch.equal(leak.update["0.weight"], model[0].weight.grad.to_dense())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_are_held_in_single_precision_and_known_as_rounded(dtype):
    model, (x, y) = built(frozen).float(), image()
    backward(model, x.float(), y)
    exact = from_gradients(model)
    sent = {n: p.grad if p.grad is None else p.grad.to(dtype) for n, p in model.named_parameters()}
    leak = from_gradients(model, sent)
    for name, tensor in leak.update.items():
        assert tensor.dtype == leak.weights[name].dtype == torch.float32
        off = (tensor - exact.update[name]).abs()
        assert (off <= leak.rounding[name]).all() and off.max() > leak.rounding[name].min() / 8
    attacks.idlg(model, leak, SHAPE, labels=y, steps=2)  # runs


def test_double_precision_is_kept_only_where_all_is_double():
    model = built(Shared)
    backward(model, *image())
    assert {t.dtype for t in from_gradients(model).weights.values()} == {torch.float64}
    single = from_gradients(model, [p.grad.float() for p in model.parameters()])
    parts = single.weights, single.update
    assert {t.dtype for part in parts for t in part.values()} == {torch.float32}


# --- two checkpoints ------------------------------------------------------------------------------


@every_prefix
@every_network
def test_checkpoints_with_a_model_are_what_its_own_loop_trained(make, how):
    """What trains, under its first name, and all else as it was before."""
    model = built(make)
    before, after, g = two_checkpoints(model)
    network = built(make, seed=1)  # of the same architecture: its own weights do not count
    network.load_state_dict(before)
    left = everything(network)
    leak = from_state_dicts(renamed(before, how), renamed(after, how), model=network, batch_size=1)
    assert list(leak.weights) == list(leak.update) == list(g)
    for name, d in leak.direction.items():
        torch.testing.assert_close(d, 0.1 * g[name], rtol=1e-9, atol=1e-15)
        assert torch.equal(leak.weights[name], before[name])
    for name, tensor in leak.buffers.items():
        assert torch.equal(tensor, before.get(name, dict(network.named_buffers()).get(name)))
    assert_untouched(network, left)
    client.check_leak(network, leak)


@pytest.mark.parametrize("given", [True, False], ids=["with the model", "without"])
@pytest.mark.parametrize("make", [Tied, Shared], ids=lambda make: make.__name__)
def test_tied_tensors_of_checkpoints_are_matched_at_the_true_image(make, given):
    """A3: the objective at the true image was 1.389, because the second name stood still."""
    model, (x, y) = built(make), image()
    before, after, _ = two_checkpoints(model)
    leak = from_state_dicts(before, after, model=model if given else None)
    assert list(leak.weights) == [name for name, _ in model.named_parameters()]
    out = attacks.dlm_plus(model, leak, SHAPE, start=x, labels=y, steps=1)
    assert out.objective.item() < 1e-12


def tensors_of(**numbers):
    """{"a.weight": (2, 3) of this number, or "a.bias": (3,)}."""
    shapes = {"weight": (2, 3), "bias": (3,)}
    return {n.replace("_", "."): torch.full(shapes[n[2:]], v) for n, v in numbers.items()}


@pytest.mark.parametrize(
    ("before", "after", "second"),
    [
        (dict(a_weight=0.1, b_weight=0.1), dict(a_weight=0.2, b_weight=0.2), ["b.weight"]),
        (dict(a_weight=0.1, b_weight=0.1), dict(a_weight=0.2, b_weight=0.3), []),
        (dict(a_weight=0.1, b_weight=0.3), dict(a_weight=0.2, b_weight=0.2), []),
        (dict(a_weight=0.1, b_weight=0.1, c_bias=0.0),
         dict(a_weight=0.1, b_weight=0.1, c_bias=0.1), []),
        (dict(a_bias=0.0, b_bias=0.0), dict(a_bias=0.1, b_bias=0.1), []),
        (dict(a_weight=0.1, a_bias=0.0, b_weight=0.1, b_bias=0.0),
         dict(a_weight=0.2, a_bias=0.1, b_weight=0.2, b_bias=0.1), ["b.weight", "b.bias"]),
        (dict(a_weight=0.1, a_bias=0.0, b_weight=0.1, b_bias=0.0),
         dict(a_weight=0.2, a_bias=0.1, b_weight=0.2, b_bias=0.3), ["b.weight"]),
    ],
    ids=["tied", "moved apart", "began apart", "neither moved", "biases that add up",
         "a layer twice", "biases of their own"],
)  # fmt: skip
def test_without_a_model_tied_is_what_moved_alike(before, after, second):
    before, after = tensors_of(**before), tensors_of(**after)
    kept = list(from_state_dicts(before, after).weights)
    assert kept == [name for name in before if name not in second]


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("name", OTHERS)
def test_checkpoints_without_a_model_are_right_or_do_not_fit_it(name):
    model, x, y = made(name)
    model, x = model.double(), x.double()
    before = state(model)
    backward(model, x, y)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    g = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in trained}
    torch.optim.SGD([p for _, p in trained], lr=0.1).step()
    leak = from_state_dicts(before, state(model))
    needs_model = ("LoRA-like", "bias only", "spectral norm", "old spectral norm", "moving average")
    if name in needs_model:
        with pytest.raises(ValueError, match="^leak.weights: got .*; wanted the model's names"):
            client.check_leak(model, leak)
        return
    client.check_leak(model, leak)
    for n, d in leak.direction.items():
        torch.testing.assert_close(d, 0.1 * g[n], rtol=1e-9, atol=1e-14)


def test_tied_checkpoint_that_was_saved_once_will_do():
    """As files that drop the second name of tied tensors hold it."""
    model = built(Tied)
    before, after, _ = two_checkpoints(model)
    whole = from_state_dicts(before, after, model=model)
    for state in (before, after):
        del state["encoder.weight"]
    leak = from_state_dicts(before, after, model=model)
    assert list(leak.weights) == list(whole.weights)
    assert torch.equal(leak.update["encoder.weight"], whole.update["encoder.weight"])


def test_buffer_and_frozen_layer_that_were_not_saved_are_the_models_own():
    """B6, and adapters, of which the trained part alone is saved."""
    model = built(frozen)
    before, after, _ = two_checkpoints(model)
    whole = from_state_dicts(before, after, model=model)
    for state in (before, after):
        del state["fc1.weight"], state["fc1.bias"]
    leak = from_state_dicts(before, after, model=model)
    assert set(leak.buffers) == {"fc1.weight", "fc1.bias"} and list(leak.weights) == list(
        whole.weights
    )
    assert torch.equal(leak.buffers["fc1.weight"], model.fc1.weight)
    leak.buffers["fc1.weight"].add_(1)
    assert not torch.equal(leak.buffers["fc1.weight"], model.fc1.weight), "a copy"


def test_checkpoints_of_a_normalised_network_fit_either_of_the_two():
    model = models.lenet(1, 12).double()
    before, after, _ = two_checkpoints(model)
    normalised = models.normalized(model, 0.5, 0.5)
    one, other = (from_state_dicts(before, after, model=m) for m in (model, normalised))
    assert list(one.weights) == list(other.weights) and not other.buffers


# --- half precision (A6) --------------------------------------------------------------------------


def half(tensors, dtype):
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}


def cast_back(tensors, dtype):
    return half(half(tensors, dtype), torch.float32)


HALVES = {
    "after, float16": (None, half, torch.float16),
    "after, bfloat16": (None, half, torch.bfloat16),
    "after, float16 cast back": (None, cast_back, torch.float16),
    "after, bfloat16 cast back": (None, cast_back, torch.bfloat16),
    "both, float16": (half, half, torch.float16),
    "both, float16 cast back": (cast_back, cast_back, torch.float16),
    "both, bfloat16 cast back": (cast_back, cast_back, torch.bfloat16),
    "before, float16": (half, None, torch.float16),
    "before, bfloat16 cast back": (cast_back, None, torch.bfloat16),
}


@pytest.mark.parametrize("given", [True, False], ids=["with the model", "without"])
@pytest.mark.parametrize(("first", "second", "dtype"), HALVES.values(), ids=HALVES)
def test_half_precision_checkpoints_have_honest_rounding(first, second, dtype, given, small_digits):
    """A6: rounding said 1.5e-8 where it was 3e-5."""
    x, y = small_digits[0][:1], small_digits[1][:1]
    model = models.mlp(1, 12, hidden=(32,), classes=10)
    exact = client.share_weights(model, x, y, lr=1e-4)
    before = first(exact.weights, dtype) if first else exact.weights
    after = second(exact.update, dtype) if second else exact.update
    leak = from_state_dicts(before, after, model=model if given else None)
    for name, off in leak.rounding.items():
        assert leak.weights[name].dtype == leak.update[name].dtype == off.dtype == torch.float32
        size = torch.maximum(leak.weights[name].abs(), leak.update[name].abs())
        one_unit = size * torch.finfo(dtype).eps / 2
        assert (off >= one_unit).all()
        assert ((leak.direction[name] - exact.direction[name]).abs() <= off).all()
    assert labels.idlg(leak).tolist() == [-1]
    assert analytic.linear_input(leak).isnan().all()
    assert (
        labels.idlg(exact).tolist() == y.tolist() and analytic.linear_input(exact).isfinite().all()
    )


def test_half_precision_that_suffices_is_not_refused(small_digits):
    """A step so large that float16 tells it: the label and the image are read."""
    x, y = small_digits[0][:1], small_digits[1][:1]
    exact = client.share_weights(models.mlp(1, 12, hidden=(32,)), x, y, lr=100.0)
    leak = from_state_dicts(exact.weights, half(exact.update, torch.float16))
    assert labels.idlg(leak).tolist() == y.tolist()
    assert (analytic.linear_input(leak) - x.flatten()).abs().max() < 0.05


def test_layers_kept_in_single_precision_beside_half_ones_run_in_an_attack():
    """As mixed-precision training saves its norms: one dtype for all, so that the network runs."""
    model, (x, y) = built(with_statistics).float(), image()
    before = state(model)
    backward(model, x.float(), y)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    mixed = [
        {n: t.half() if n.startswith(("0.", "4.")) else t for n, t in of.items()}
        for of in (before, state(model))
    ]
    leak = from_state_dicts(*mixed, model=model)
    floats = [t for part in (leak.weights, leak.update, leak.buffers) for t in part.values()]
    assert {t.dtype for t in floats} == {torch.float32, torch.int64}
    off = leak.rounding
    assert (off["4.bias"] / leak.update["4.bias"].abs()).min() > 2**-11
    assert off["1.bias"].max() < 1e-7, "single precision, which began at zero"
    assert attacks.dlm_plus(model, leak, SHAPE, labels=y, steps=2).objective.isfinite().all()


def test_double_before_and_single_after_are_a_leak_in_single_precision():
    model = built(Shared)
    before, after, _ = two_checkpoints(model)
    leak = from_state_dicts(before, half(after, torch.float32))
    assert {t.dtype for t in (*leak.weights.values(), *leak.update.values())} == {torch.float32}
    assert leak.rounding["head.bias"].min() > 0


def test_weights_that_only_a_cast_has_changed_are_not_trained():
    before = models.mlp(1, 12).state_dict()
    with pytest.raises(ValueError, match="^after: got the weights of before"):
        from_state_dicts(before, half(before, torch.float16))


# --- refused in words -----------------------------------------------------------------------------

NET = models.mlp(1, 12, hidden=(5,))
GRADS = {name: torch.ones_like(p) for name, p in NET.named_parameters()}
LAST = "fc.bias"
FROZEN = frozen()


def changed(name=LAST, value=None):
    return {**GRADS, name: value}


BAD_GRADIENTS = {
    "no model": (lambda: from_gradients(GRADS), "^model: got dict; wanted an nn.Module"),
    "a batch size for gradients": (lambda: from_gradients(NET, 3), "^gradients: got int; wanted a"),
    "one tensor": (lambda: from_gradients(NET, torch.ones(4, 2)), "^gradients: got Tensor; wanted"),
    "a string": (lambda: from_gradients(NET, "grad"), "^gradients: got str; wanted a list of 4"),
    "too few": (lambda: from_gradients(NET, list(GRADS.values())[:3]), "^gradients: got 3 of them"),
    "too many": (lambda: from_gradients(NET, [*GRADS.values()] * 2), "^gradients: got 8 of them"),
    "in another order": (
        lambda: from_gradients(NET, list(GRADS.values())[::-1]),
        r"^gradients\['fc1.weight'\]: got \(10,\) of torch.float32; wanted \(5, 144\)",
    ),
    "numpy": (
        lambda: from_gradients(NET, {n: g.numpy() for n, g in GRADS.items()}),
        r"^gradients\['fc1.weight'\]: got ndarray; wanted a tensor",
    ),
    "numpy in a list": (
        lambda: from_gradients(NET, [g.numpy() for g in GRADS.values()]),
        r"^gradients\['fc1.weight'\]: got ndarray; wanted a tensor",
    ),
    "a name of no parameter": (
        lambda: from_gradients(NET, changed("fc2.bias", torch.ones(3))),
        "^gradients: got the name 'fc2.bias'; wanted names of the model",
    ),
    "a name that is no string": (lambda: from_gradients(NET, {3: torch.ones(3)}), r"^gradients\[3"),
    "a name missing": (
        lambda: from_gradients(NET, {n: g for n, g in GRADS.items() if n != LAST}),
        r"^gradients\['fc.bias'\]: got nothing; wanted a tensor; `without` leaves",
    ),
    "another shape": (
        lambda: from_gradients(NET, changed(value=torch.ones(3))),
        r"^gradients\['fc.bias'\]: got \(3,\) of torch.float32; wanted \(10,\) of real numbers",
    ),
    "whole numbers": (
        lambda: from_gradients(NET, changed(value=torch.ones(10).int())),
        r"^gradients\['fc.bias'\]: got \(10,\) of torch.int32; wanted \(10,\) of real numbers",
    ),
    "complex numbers": (
        lambda: from_gradients(NET, changed(value=torch.ones(10) + 1j)),
        r"^gradients\['fc.bias'\]: got \(10,\) of torch.complex64; wanted \(10,\) of real",
    ),
    "eight bits": (
        lambda: from_gradients(NET, changed(value=torch.ones(10).to(torch.float8_e4m3fn))),
        r"^gradients\['fc.bias'\]: got \(10,\) of torch.float8_e4m3fn; wanted .* in 16 to 64 bits",
    ),
    "no numbers at all": (
        lambda: from_gradients(NET, changed(value=torch.ones(10, device="meta"))),
        r"^gradients\['fc.bias'\]: got",
    ),
    "NaN": (
        lambda: from_gradients(NET, changed(value=torch.full((10,), torch.nan))),
        r"^gradients\['fc.bias'\]: got NaN or infinite entries; wanted finite numbers",
    ),
    "overflow of half precision": (
        lambda: from_gradients(NET, changed(value=torch.full((10,), 1e6).half())),
        r"^gradients\['fc.bias'\]: got NaN or infinite",
    ),
    "no backward pass": (lambda: from_gradients(models.mlp(1, 12)), "^gradients: got zeros alone"),
    "cleared": (
        lambda: from_gradients(NET, [torch.zeros_like(p) for p in NET.parameters()]),
        "^gradients: got zeros alone, or None; wanted those of loss.backward",
    ),
    "of a frozen layer": (
        lambda: from_gradients(FROZEN, [torch.ones_like(p) for p in FROZEN.parameters()]),
        r"^gradients\['fc1.weight'\]: got a tensor; wanted None: the model does not train it",
    ),
    "no image": (lambda: from_gradients(NET, GRADS, 0), "^batch_size: got 0; wanted how many"),
    "half an image": (lambda: from_gradients(NET, GRADS, 1.5), "^batch_size: got 1.5; wanted"),
    "true images": (lambda: from_gradients(NET, GRADS, True), "^batch_size: got True; wanted"),
    "nothing trains": (
        lambda: from_gradients(models.mlp(1, 12).requires_grad_(False), GRADS),
        "^model: got no trainable parameter",
    ),
    "a lazy layer": (
        lambda: from_gradients(nn.Sequential(nn.LazyLinear(3)), [torch.ones(3)]),
        r"^model: got no values yet in \['0.weight'",
    ),
    "diverged weights": (
        lambda: from_gradients(diverged(), GRADS),
        r"^model\['fc.bias'\]: got NaN or infinite entries",
    ),
}  # fmt: skip


def diverged():
    model = copy.deepcopy(NET)
    model.fc.bias.data.fill_(torch.nan)
    return model


@pytest.mark.parametrize(("call", "message"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
def test_gradients_that_are_no_message_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


BEFORE, AFTER = models.mlp(1, 12, seed=0).state_dict(), models.mlp(1, 12, seed=1).state_dict()
MLP = models.mlp(1, 12)


def of_two(before=BEFORE, after=AFTER, **settings):
    return lambda: from_state_dicts(before, after, **settings)


def both(**tensors):
    """Two checkpoints with more in them."""
    return {**BEFORE, **tensors}, {**AFTER, **tensors}


def untied():
    """Checkpoints that differ where the model ties."""
    before, after, _ = two_checkpoints(built(Tied))
    return before, after | {"decoder.weight": after["encoder.weight"] + 1}


BAD_CHECKPOINTS = {
    "wrapped": (
        of_two({"state_dict": BEFORE, "epoch": 3}),
        r"^before\['state_dict'\]: got \w*[dD]ict; wanted a tensor; .*before\['state_dict'\]",
    ),
    "wrapped as model": (of_two(BEFORE, {"model": AFTER}), r"^after\['model'\]: got \w*[dD]ict"),
    "an epoch beside": (of_two({**BEFORE, "epoch": 3}), r"^before\['epoch'\]: got int; wanted a t"),
    "a path": (of_two("before.pt"), "^before: got str; wanted a dict"),
    "a network": (of_two(MLP, MLP), "^before: got Sequential; wanted a dict, as model.state_dict"),
    "a list, as Flower sends": (of_two(list(BEFORE.values())), "^before: got list; wanted a dict"),
    "numpy": (
        of_two({n: t.numpy() for n, t in BEFORE.items()}),
        r"^before\['fc1.weight'\]: got ndarray; wanted a tensor",
    ),
    "empty": (of_two({}, {}), "^before: got an empty dict"),
    "numbers for names": (of_two({0: torch.ones(2)}), "^before: got the key 0; wanted names"),
    "one name for a list": (of_two(buffers="fc.bias"), "^buffers: got the string 'fc.bias'"),
    "buffers with a model": (of_two(model=MLP, buffers=["fc.bias"]), r"^buffers: got \['fc.b"),
    "no model": (of_two(model="mlp"), "^model: got str; wanted an nn.Module"),
    "another model": (
        of_two(model=models.lenet(1, 12)),
        "^before: got the name 'fc1.weight'; wanted names of the model",
    ),
    "a wider model": (
        of_two(model=models.mlp(1, 12, hidden=(7,))),
        r"^before\['fc1.weight'\]: got \(300, 144\) of torch.float32; wanted \(7, 144\)",
    ),
    "a name that the model lacks": (
        of_two(*both(more=torch.ones(2)), model=MLP),
        "^before: got the name 'more'; wanted names of the model",
    ),
    "a name that the checkpoints lack": (
        of_two(*({n: t for n, t in d.items() if n != LAST} for d in (BEFORE, AFTER)), model=MLP),
        "^before: got no 'fc.bias'; wanted all that the model trains",
    ),
    "a prefix on one of the two": (
        of_two(BEFORE, renamed(AFTER, PREFIXES["DataParallel"])),
        r"^after\['fc1.weight'\]: got missing",
    ),
    "both names, with and without a prefix": (
        of_two({**BEFORE, "module.fc.bias": torch.ones(10)}, AFTER, model=MLP),
        r"^before\['module.fc.bias'\]: got other numbers; wanted those of 'fc.bias'",
    ),
    "a tie that the checkpoint breaks": (
        lambda: from_state_dicts(*untied(), model=built(Tied)),
        r"^after\['decoder.weight'\]: got other numbers; wanted those of 'encoder.weight'",
    ),
    "a frozen layer that moved": (
        lambda: from_state_dicts(
            models.mlp(1, 12, (20, 15)).state_dict(),
            models.mlp(1, 12, (20, 15), seed=1).state_dict(), model=FROZEN,
        ),
        r"^after\['fc1.\w+'\]: got other numbers; wanted as before: the model does not train it",
    ),
    "training that diverged": (
        of_two(after=AFTER | {LAST: torch.full((10,), torch.nan)}),
        r"^after\['fc.bias'\]: got NaN or infinite entries; wanted finite numbers",
    ),
    "a start that diverged": (
        of_two(BEFORE | {LAST: torch.full((10,), torch.inf)}, model=MLP),
        r"^before\['fc.bias'\]: got NaN or infinite entries",
    ),
    "complex weights": (
        of_two(*both(phase=torch.ones(2) + 1j)),
        r"^before\['phase'\]: got \(2,\) of torch.complex64; wanted \(2,\) of real numbers",
    ),
    "eight bits": (
        of_two(after=half(AFTER, torch.float8_e5m2)),
        r"^after\['fc1.weight'\]: got \(300, 144\) of torch.float8_e5m2; wanted",
    ),
    "the live state": (of_two(BEFORE, BEFORE, model=MLP), "^after: got the weights of before"),
    "no images": (of_two(batch_size=0), "^batch_size: got 0; wanted how many images"),
    "images of numpy": (of_two(batch_size=np.float64(2.0)), "^batch_size: got .*2.0.*; wanted how"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_checkpoints_that_are_no_message_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_complex_buffer_is_kept_where_it_is_named():
    before, after = both(phase=torch.ones(2) + 1j)
    leak = from_state_dicts(before, after, buffers=["phase"])
    assert leak.buffers["phase"].dtype == torch.complex64 and "phase" not in leak.weights


def test_foreign_leak_is_read_back_as_it_was_saved(tmp_path):
    model = built(with_statistics).float()
    before, (x, y) = state(model), image()
    backward(model, x.float(), y)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    after = state(model)
    leak = from_state_dicts(before, half(after, torch.float16), model=model, batch_size=1)
    read = load(leak.save(tmp_path / "leak"))
    for name, off in leak.rounding.items():
        assert torch.equal(read.rounding[name], off) and torch.equal(
            read.update[name], leak.update[name]
        )
