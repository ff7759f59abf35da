"""Where a search begins, and what it does not begin with; the ids are those of the review."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from leaklib import _batching, adaptive, attacks, client, defenses, distances, metrics, models
from leaklib.leak import Leak, stack

SMALL = (1, 1, 12, 12)


def net(seed=0, **settings):
    return models.mlp(1, 12, hidden=(40,), seed=seed, **settings)


@pytest.fixture
def leak(small_digits):
    return client.share_gradient(net(), small_digits[0][:1], small_digits[1][:1])


@pytest.fixture
def weights(small_digits):
    return client.share_weights(net(), small_digits[0][:1], small_digits[1][:1], lr=0.1)


# --- starts -------------------------------------------------------------------------------------


def test_a_batch_with_one_label_twice_begins_grey_with_a_little_noise(small_digits):
    x, y = small_digits[0][:3], torch.tensor([4, 4, 1])
    sent = client.share_gradient(net(), x, y)
    out = attacks.idlg(net(), sent, (3, 1, 12, 12), labels=y, steps=1)
    assert 0.01 < out.images.std() < 0.03 and abs(float(out.images.mean()) - 0.5) < 0.01
    named = attacks.idlg(net(), sent, (3, 1, 12, 12), labels=y, steps=1, start="grey")
    assert torch.equal(named.images, out.images)
    differ = attacks.idlg(net(), sent, (3, 1, 12, 12), labels=[4, 5, 1], steps=1)
    assert (differ.images == 0.5).all()


def test_restarts_begin_grey_and_differ(leak):
    out = attacks.idlg(net(), leak, SMALL, restarts=3, steps=1)
    assert out.images.std() > 0.01 and attacks.idlg(net(), leak, SMALL, steps=1).images.std() == 0


def test_images_that_begin_alike_with_one_label_are_refused(small_digits):
    """A16: whatever the start is called; joint labels, drawn apart, are no such case."""
    x, y = small_digits[0][:2], torch.tensor([4, 4])
    sent, shape = client.share_gradient(net(), x, y), (2, 1, 12, 12)
    for start in ("half", "zeros", torch.full(shape, 0.3), torch.full((1, 1, *shape), 0.3)):
        for attack in (attacks.idlg, attacks.dlg):
            with pytest.raises(ValueError, match="^start: got .*stay alike"):
                attack(net(), sent, shape, labels=y, start=start, steps=2)
        attacks.dlg(net(), sent, shape, start=start, steps=2)
    with pytest.raises(ValueError, match="^restarts: got 2 that are all the same"):
        attacks.idlg(net(), sent, shape, labels=[1, 2], start="half", restarts=2, steps=2)


def test_start_from_where_nothing_is_a_number_is_said(leak, small_digits):
    """B10: a network that standardises each picture has no value at a flat one."""

    class Standardising(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            apart = x - x.mean((1, 2, 3), keepdim=True)
            return self.net(apart / apart.square().mean((1, 2, 3), keepdim=True).sqrt())

    model, y = Standardising(), small_digits[1][:1]
    sent = client.share_gradient(model, small_digits[0][:1], y)
    with pytest.raises(ValueError, match="^start: got None, from where no evaluation.*uniform"):
        attacks.idlg(model, sent, SMALL, labels=y)
    assert attacks.idlg(model, sent, SMALL, labels=y, start="uniform").objective.isfinite().all()


# --- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [attacks.idlg, attacks.dlg], ids=lambda a: a.name)
def test_attack_by_the_size_of_a_gradient_refuses_weights(attack, weights):
    """A18: weights say it at an unknown scale."""
    with pytest.raises(ValueError, match="^leak: got weights, .*rate.*dlm_plus.*distance"):
        attack(net(), weights, SMALL, labels=3, steps=3)


@pytest.mark.parametrize(
    "changes",
    [
        dict(distance=distances.cosine), dict(distance=distances.mean_norm),
        dict(distance=distances.projected), dict(defend=adaptive.scale_free),
        dict(predict=attacks.simulated(0.1)), dict(unknowns={"k": 9.0}, sent=attacks.scaled),
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_attack_that_does_not_need_the_scale_reads_weights(changes, weights):
    out = replace(attacks.idlg, **changes)(net(), weights, SMALL, steps=3)
    assert out.images.isfinite().all()


# --- labels -------------------------------------------------------------------------------------


def test_no_label_is_an_error_and_says_what_to_give(leak):
    silent = replace(leak, update={n: torch.zeros_like(g) for n, g in leak.update.items()})
    with pytest.raises(ValueError, match='^labels: got -1 from idlg.*class numbers, or "joint"'):
        attacks.idlg(net(), silent, SMALL, steps=3)
    with pytest.raises(ValueError, match="^labels: got -1 for every image"):
        attacks.idlg(net(), leak, SMALL, labels=-1, steps=3)


def test_one_victim_of_many_without_a_label_is_marked(leak):
    silent = replace(leak, update={n: torch.zeros_like(g) for n, g in leak.update.items()})
    out = attacks.idlg(net(), stack([leak, silent]), SMALL, steps=300)
    assert int(out.labels[0]) >= 0 and int(out.labels[1]) == -1
    assert out.converged.tolist() == [True, False]


# --- converged ----------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.01, 0.05])
def test_flat_network_whose_every_image_looks_matched_is_not_converged(a, small_digits):
    """S1.4: with joint labels too."""
    x, y = small_digits[0][:6], small_digits[1][:6]
    model = models.init_uniform(models.lenet(1, 12), a)
    sent = stack([client.share_gradient(model, x[i : i + 1], y[i : i + 1]) for i in range(6)])
    for labels in ("joint", y[:, None]):
        out = attacks.idlg(model, sent, SMALL, labels=labels, steps=300)
        wrong = metrics.mse(out.images, x) > 1e-3
        assert not (out.converged & wrong).any()


def test_guard_leaves_the_standard_network_alone(leak):
    assert attacks.dlg(net(), leak, SMALL).converged and attacks.idlg(net(), leak, SMALL).converged


# --- surroundings -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=lambda m: m.__name__)
def test_client_and_attack_work_where_gradients_are_switched_off(mode, small_digits):
    """B8."""
    x, y = small_digits[0][:1], small_digits[1][:1]
    wanted = attacks.idlg(net(), client.share_gradient(net(), x, y), SMALL, steps=20)
    with mode():
        model, x = net(), x.clone()
        sent = client.share_gradient(model, x, y)
        client.share_weights(model, x, y, lr=0.1)
        got = attacks.idlg(model, sent, SMALL, steps=20)
    assert torch.equal(got.images, wanted.images)


def test_nothing_that_is_sent_holds_a_graph(small_digits):
    """A15: whatever the caller's tensors belong to."""
    x = small_digits[0][:2].clone().requires_grad_()
    soft = torch.full((2, 10), 0.1).requires_grad_()
    keeps_graph = lambda g, generator: {n: d + 0 * x.sum() for n, d in g.items()}  # noqa: E731
    for defense in (None, defenses.clip(1.0), defenses.dp_sgd(1.0, 0.1), keeps_graph):
        for sent in (
            client.share_gradient(net(), x, soft, defense=defense),
            client.share_weights(net(), x, soft, lr=0.1, steps=2, defense=defense),
        ):
            parts = (sent.weights, sent.update, sent.buffers)
            assert not any(t.requires_grad for part in parts for t in part.values())


def test_out_of_memory_is_said_as_such(leak):
    """A23: and no slow loop is tried."""
    calls = []

    def starved(t):
        calls.append(t.shape)
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    with pytest.raises(RuntimeError, match="can't allocate memory") as error:
        _batching.batched(starved)(torch.zeros(3, 2))
    assert len(calls) == 1 and "Lower the victims" in error.value.__notes__[0]


def test_error_of_the_problem_itself_is_its_own():
    def wrong(t):
        raise KeyError("mine")

    with warnings.catch_warnings(), pytest.raises(KeyError, match="mine"):
        warnings.simplefilter("error")
        _batching.batched(wrong)(torch.zeros(3, 2))


# --- networks -----------------------------------------------------------------------------------


class Returning(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.net, self.what = net(), what

    def forward(self, x):
        return self.what(self.net(x))


class Random(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.net, self.how = net(), how

    def forward(self, x):
        return self.net(self.how(x, self.training))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows, self.head = nn.LSTM(12, 8, 2, dropout=0.5, batch_first=True), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.rows(x[:, 0])[0][:, -1])


def normalized_by_batch(track):
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=track)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(400, 10))


always, in_training = "^model: .*random.*without", r"^model: .*random.*model\.eval\(\)"
UNFIT = {
    "tuple": (lambda: Returning(lambda z: (z, z)), "^model: got an output of tuple"),
    "dict": (lambda: Returning(lambda z: {"logits": z}), "^model: got an output of dict"),
    "too few rows": (lambda: Returning(lambda z: z[:1].sum(0)), "^model: got an output of shape"),
    "number": (lambda: Returning(lambda z: z.sum()), "^model: got an output of shape"),
    "whole numbers": (lambda: Returning(lambda z: z.argmax(-1)), "^model: got an output of shape"),
    "other images": (lambda: models.lenet(3, 32), "^(x|shape): .*that the network takes"),
    "scripted": (lambda: torch.jit.script(net()), "^model: got a scripted network"),
    "no network": (lambda: lambda x: x, "^model: got function"),
    "nothing to learn": (lambda: net().requires_grad_(False), "^model: got no trainable"),
    "dropout": (lambda: Random(lambda x, on: nn.functional.dropout(x, 0.1, on)), in_training),
    "RReLU": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 10), nn.RReLU()), in_training),
    "always dropout": (lambda: Random(lambda x, on: nn.functional.dropout(x, 0.1)), always),
    "noise": (lambda: Random(lambda x, on: x + 1e-6 * torch.randn_like(x)), always),
    "rare noise": (lambda: Random(lambda x, on: x * (torch.rand(()) > 1e-6)), always),
    "LSTM dropout": (
        lambda: Recurrent(), in_training),
    "BatchNorm": (lambda: normalized_by_batch(True), r"^model: .*mixes.*'1'.*model\.eval\(\)"),
    "BatchNorm without statistics": (
        lambda: normalized_by_batch(False).eval(), "^model: .*mixes .*wanted a network without"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_network_that_does_not_fit_is_refused_by_client_and_attack(case, small_digits, leak):
    make, message = UNFIT[case]
    x, y = small_digits[0][:2], small_digits[1][:2]
    model = make()
    with pytest.raises(ValueError, match=message):
        client.share_gradient(model, x, y)
    if isinstance(model, nn.Module) and case not in ("scripted", "nothing to learn"):
        W, buffers = client.state(model)
        sent = Leak(W, W, "gradient", buffers, 2)
        with pytest.raises(ValueError, match=message):
            attacks.idlg(model, sent, (2, *x.shape[1:]), labels=y, steps=2)


@pytest.mark.parametrize(
    ("shape", "message"),
    [(32, "^shape: got 32"), ((2, 1, 12, 12), "^shape: got a batch of 2"),
     ((), r"^shape: got \(\)"), ((1, 1, 12, 0), "^shape: "),
     ((1, 3, 12, 12), "^shape: .*takes"), ("abcd", "^shape: ")],
)  # fmt: skip
def test_shape_that_does_not_fit_is_refused(shape, message, leak):
    with pytest.raises(ValueError, match=message):
        attacks.idlg(net(), leak, shape, steps=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: dict(update={**s.update, "other": s.update["fc.bias"]}), "^leak.update: .*oth"),
        (lambda s: dict(weights={**s.weights, "x": s.update["fc.bias"]}), "^leak.weights: .*x"),
        (lambda s: dict(update={n: g for n, g in s.update.items() if n != "fc.bias"}),
         "^leak.update: got no 'fc.bias'"),
        (lambda s: dict(update={n: g * torch.nan for n, g in s.update.items()}), "NaN"),
        (lambda s: dict(update={n: g[None] for n, g in s.update.items()}), "shape"),
    ],
)  # fmt: skip
def test_leak_that_does_not_fit_the_model_is_refused(change, message, leak):
    """B5."""
    with pytest.raises(ValueError, match=message):
        attacks.idlg(net(), replace(leak, **change(leak)), SMALL, labels=3, steps=2)


def test_a_constant_of_the_whole_batch_is_warned_of(small_digits):
    model = Returning(lambda z: z * (1 + z.detach().square().sum().item()))
    with pytest.warns(UserWarning, match="treats as a constant"):
        client.share_gradient(model, small_digits[0][:3], small_digits[1][:3])


def test_settings_of_steps_are_whole_numbers(small_digits):
    """B8."""
    x, y = small_digits[0][:2], small_digits[1][:2]
    for wrong in (dict(epochs=1.5), dict(steps=2.0), dict(batch_size=0.5)):
        name = next(iter(wrong))
        with pytest.raises(ValueError, match=f"^{name}: got .*whole"):
            client.share_weights(net(), x, y, lr=0.1, **wrong)
