"""Any network: its gradient, label, attack, defence and files; and it stays untouched."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from networks import NETWORKS, made

from leaklib import adaptive, attacks, client, defenses, labels, leak, metrics, models

pytestmark = pytest.mark.filterwarnings(
    "ignore:this network cannot be batched", "ignore:.*weight_norm"
)
NAMES = list(NETWORKS)
BY_NAME = pytest.mark.xfail(
    strict=True, reason="without `layer` the label rule takes the last linear layer by its name"
)


def autograd(model, x, y):
    """The gradient by PyTorch alone; buffers are put back."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    grads = torch.autograd.grad(
        F.cross_entropy(model(x), y), list(trained.values()), allow_unused=True
    )
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    pairs = zip(trained.items(), grads)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}


def close(got, wanted, rtol=1e-5):
    assert list(got) == list(wanted)
    for name, tensor in wanted.items():
        size = max(float(tensor.abs().max()), 1e-6)
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=rtol * size, msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_plain_autograd(name):
    model, x, y = made(name)
    close(client.share_gradient(model, x, y).update, autograd(model, x, y))


HEADS = ("SqueezeNet", "tied", "head first", "1x1 head", "bias only")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=BY_NAME) if n in HEADS else n for n in NAMES]
)
def test_label_is_right_or_not_told(name):
    model, x, _ = made(name)
    for y in range(10):
        sent = client.share_gradient(model, x, torch.tensor([y]))
        for told in (labels.idlg(sent, model), labels.idlg(sent)):
            assert int(told) in (y, -1)


@pytest.mark.parametrize("name", NAMES)
def test_attack_starts_from_the_right_objective(name):
    """The objective of the true image is zero, of one problem and of two."""
    model, x, y = made(name)
    sent = client.share_gradient(model, x, y)
    two = leak.stack([sent, sent])
    zero = float(sum(g.square().sum() for g in sent.direction.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for message in (sent, two):
            out = attacks.idlg(model, message, x.shape, labels=y, start=x, steps=3)
            assert (out.objective <= 1e-6 * zero).all()
            out = attacks.idlg(model, message, x.shape, labels=y, steps=3)
            assert out.objective.isfinite().all() and out.images.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_defence_is_of_the_plain_gradient(name):
    model, x, y = made(name)
    plain = autograd(model, x, y)
    norm = float(sum(g.square().sum() for g in plain.values()).sqrt())
    clipped = client.share_gradient(model, x, y, defense=defenses.clip(norm / 2)).update
    close(clipped, {n: g / 2 for n, g in plain.items()})
    x, y = torch.cat([x, 1 - x]), torch.cat([y, y])
    each = [autograd(model, x[[i]], y[[i]]) for i in range(2)]
    private = client.share_gradient(model, x, y, defense=defenses.dp_sgd(1e9, 0)).update
    close(private, {n: (each[0][n] + each[1][n]) / 2 for n in private})


@pytest.mark.parametrize("name", NAMES)
def test_two_checkpoints_are_the_leak_of_the_step_between(name):
    """In double precision, as weights near 1 round what is trained in single precision."""
    model, x, y = made(name)
    model, x = model.double(), x.double()
    before, plain = copy.deepcopy(model.state_dict()), autograd(model, x, y)
    after = copy.deepcopy(before)
    trained = dict(model.named_parameters(remove_duplicate=False))
    of = {id(p): n for n, p in model.named_parameters()}
    for key in after:
        if key in trained and trained[key].requires_grad:
            after[key] = after[key] - 0.1 * plain[of[id(trained[key])]]
    got = leak.from_state_dicts(before, after, model=model)
    client.check_leak(model, got)
    close(got.direction, {n: 0.1 * g for n, g in plain.items()})


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_is_the_same(name, tmp_path):
    model, x, y = made(name)
    sent = client.share_gradient(model, x, y)
    again = leak.load(sent.save(tmp_path / "leak.safetensors"))
    client.check_leak(model, again)
    close(again.update, sent.update, rtol=0)
    assert list(again.weights) == list(sent.weights) and list(again.buffers) == list(sent.buffers)


# --- the caller's model -------------------------------------------------------------------------


def everything(model):
    """All that a call might change: identities, numbers, modes, hooks, and what modules hold."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    held = {n: (id(t), t._version, t.detach().clone(), t.requires_grad, t.grad) for n, t in tensors}
    hooks = lambda m: (list(m._forward_hooks), list(m._forward_pre_hooks))  # noqa: E731
    modules = {
        name: (id(m), m.training, hooks(m), sorted(vars(m))) for name, m in model.named_modules()
    }
    return held, modules


def unchanged(before, after):
    assert before[1] == after[1] and list(before[0]) == list(after[0])
    for name, (place, version, numbers, needs, grad) in before[0].items():
        assert after[0][name][:2] == (place, version) and after[0][name][3:] == (needs, grad), name
        assert torch.equal(after[0][name][2], numbers), name


CALLS = {
    "share_gradient": lambda m, x, y, sent: client.share_gradient(m, x, y),
    "share_weights": lambda m, x, y, sent: client.share_weights(m, x, y, lr=0.1, steps=2),
    "gradient": lambda m, x, y, sent: client.gradient(m)(sent.weights, x, y, sent.buffers),
    "dp_sgd": lambda m, x, y, sent: client.share_gradient(m, x, y, defense=defenses.dp_sgd(1, 1)),
    "idlg": lambda m, x, y, sent: attacks.idlg(m, sent, x.shape, labels=y, steps=3),
    "many": lambda m, x, y, sent: attacks.idlg(
        m, leak.stack([sent, sent]), x.shape, labels=y, steps=3),
    "dlg": lambda m, x, y, sent: attacks.dlg(m, sent, x.shape, steps=3),
    "fedavg": lambda m, x, y, sent: attacks.fedavg(
        m, client.share_weights(m, x, y, lr=0.1), x.shape, labels=y, steps=3),
    "dlm": lambda m, x, y, sent: attacks.dlm(
        m, client.share_weights(m, x, y, lr=0.1), x.shape, labels=y, steps=3),
    "label": lambda m, x, y, sent: labels.idlg(sent, m),
    "likeliest": lambda m, x, y, sent: adaptive.likeliest(
        m, sent, torch.cat([x, 1 - x]), y.expand(2)),
    "normalized": lambda m, x, y, sent: models.normalized(m, 0.5, 0.25)(x),
    "from_gradients": lambda m, x, y, sent: leak.from_gradients(m, sent.update),
    "from_state_dicts": lambda m, x, y, sent: leak.from_state_dicts(
        m.state_dict(), {n: t if "frozen" in n else t * 1.5 for n, t in m.state_dict().items()},
        model=m),
}  # fmt: skip
TOUCHY = ["ResNet", "ViT", "tied", "shared", "GRU", "weight norm", "old weight norm",
          "spectral norm", "old spectral norm", "moving average", "instance norm", "LoRA-like",
          "parametrized"]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", TOUCHY)
def test_callers_model_is_never_touched(name, call):
    model, x, y = made(name)
    sent = client.share_gradient(model, x, y)
    before = everything(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CALLS[call](model, x, y, sent)
    unchanged(before, everything(model))
    model(x)


def test_copy_of_the_model_and_a_step_of_ones_own_are_still_possible():
    model, x, y = made("shared")
    sent = client.share_weights(model, x, y, lr=0.1, steps=3)
    attacks.dlm_plus(model, leak.stack([sent, sent]), x.shape, labels=y, steps=3)
    before = copy.deepcopy(model)[3].weight
    F.cross_entropy(model(x), y).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(model[3].weight, before) and metrics.mse(x, x) == 0
