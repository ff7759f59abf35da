"""Losses of one's own: what client and attack do with them, and what they refuse."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leaklib import _loss, attacks, client, distances, labels, metrics, models
from leaklib.leak import stack

SMALL = (2, 1, 12, 12)


def net(outputs=10, seed=0):
    return models.mlp(1, 12, hidden=(40,), classes=outputs, seed=seed).double()


def batch(small_digits, n=2):
    return small_digits[0][:n].double(), small_digits[1][:n]


def mean_square(output, target):
    return (output - target).square().mean()


WEIGHTS = torch.linspace(0.5, 2, 10).double()
LOSSES = {
    "multi-label": (nn.BCEWithLogitsLoss(), lambda y: F.one_hot(y, 10).double()),
    "regression": (nn.MSELoss(), lambda y: torch.linspace(-1, 1, 20).double().reshape(2, 10)),
    "of one's own": (mean_square, lambda y: torch.linspace(-1, 1, 20).double().reshape(2, 10)),
    "label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), lambda y: y),
    "class weights": (nn.CrossEntropyLoss(weight=WEIGHTS), lambda y: y),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), lambda y: y),
    "soft labels": (F.cross_entropy, lambda y: F.one_hot(y, 10).double() * 0.8 + 0.02),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_gradient_of_a_loss_is_that_of_autograd(kind, small_digits):
    (x, y), (loss, targets), model = batch(small_digits), LOSSES[kind], net()
    sent = client.share_gradient(model, x, targets(y), loss=loss).update
    wanted = torch.autograd.grad(loss(model(x), targets(y)), list(model.parameters()))
    for got, g in zip(sent.values(), wanted, strict=True):
        torch.testing.assert_close(got, g)


@pytest.mark.parametrize("kind", LOSSES)
def test_attack_that_knows_the_loss_and_the_targets_finds_the_images(kind, small_digits):
    (x, y), (loss, targets), model = batch(small_digits), LOSSES[kind], net()
    t = targets(y)
    sent = client.share_gradient(model, x, t, loss=loss)
    many = stack([sent, sent])
    for leak, given in ((sent, t), (many, t), (many, torch.stack([t, t]))):
        out = attacks.idlg(model, leak, SMALL, loss=loss, labels=given, steps=400)
        assert out.converged.all()
        assert (metrics.mse(out.images, x.expand_as(out.images)) < 1e-3).all()
        assert out.labels.shape[:2] == (leak.victims or 1, 2)
    mine = attacks.Attack("Mine", labels=t, loss=loss, steps=12)
    images, _, _ = attacks.plain(mine, model, sent, SMALL)
    out = mine(model, sent, SMALL)
    torch.testing.assert_close(out.images[0], images, rtol=1e-6, atol=1e-8)


def test_wrong_loss_misses_the_images(small_digits):
    """The control: the same message, taken for one of cross-entropy."""
    (x, y), model = batch(small_digits), net()
    loss, targets = LOSSES["multi-label"]
    sent = client.share_gradient(model, x, targets(y), loss=loss)
    out = attacks.idlg(model, sent, SMALL, labels=y, steps=400)
    assert not out.converged.any() and (metrics.mse(out.images, x[None]) > 1e-2).all()


def test_binary_network_of_one_output(small_digits):
    (x, _), model, loss = batch(small_digits), net(outputs=1), nn.BCEWithLogitsLoss()
    t = torch.tensor([[0.0], [1.0]]).double()
    sent = client.share_gradient(model, x, t, loss=loss)
    out = attacks.idlg(model, sent, SMALL, loss=loss, labels=t)
    assert out.converged.all() and torch.equal(out.labels, t[None])
    assert (metrics.mse(out.images, x[None]) < 1e-3).all()


def test_joint_labels_are_those_of_losses_that_take_probabilities(small_digits):
    (x, y), model = batch(small_digits, 1), net()
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    sent = client.share_gradient(model, x, y, loss=loss)
    out = attacks.dlg(model, sent, (1, 1, 12, 12), loss=loss)
    assert out.converged.all() and out.labels.tolist() == [y.tolist()]
    with pytest.raises(ValueError, match='^labels: got "joint".*targets'):
        attacks.dlg(model, sent, (1, 1, 12, 12), loss=nn.MSELoss())


def test_weights_of_a_loss_of_ones_own(small_digits):
    (x, y), model = batch(small_digits, 1), net()
    loss, targets = nn.BCEWithLogitsLoss(), F.one_hot(y, 10).double()
    sent = client.share_weights(model, x, targets, lr=0.1, steps=3, loss=loss)
    out = attacks.fedavg(
        model, sent, (1, 1, 12, 12), loss=loss, labels=targets,
        predict=attacks.simulated(0.1, steps=3), distance=distances.l2,
    )  # fmt: skip
    assert metrics.mse(out.images, x[None]) < 1e-3


def test_whether_a_loss_is_cross_entropy_is_told_by_what_it_does():
    output = torch.zeros(3, 5)
    assert _loss.is_cross_entropy(F.cross_entropy) and _loss.is_cross_entropy(nn.CrossEntropyLoss())
    assert _loss.is_cross_entropy(lambda z, y: F.cross_entropy(z, y))
    for kind in ("multi-label", "regression", "label smoothing", "class weights", "sum"):
        assert not _loss.is_cross_entropy(LOSSES[kind][0]), kind
    takes = {kind for kind, (loss, _) in LOSSES.items() if _loss.takes_classes(loss, output)}
    assert takes >= {"label smoothing", "sum", "soft labels"}
    assert not takes & {"multi-label", "regression", "of one's own"}


def refused(small_digits):
    (x, y), hot = batch(small_digits), F.one_hot(batch(small_digits)[1], 10).double()
    return {
        "no function": (dict(loss="bce"), x, y, r"^(y|loss): .*"),
        "a number for each image": (
            dict(loss=nn.CrossEntropyLoss(reduction="none")), x, y, "^loss: got a value of shape"),
        "no tensor": (dict(loss=lambda z, y: 1.0), x, y, "^loss: got a value of float"),
        "infinite": (dict(loss=lambda z, y: z.sum() / 0), x, y, "^y: got a loss of"),
        "class numbers for BCE": (dict(loss=nn.BCEWithLogitsLoss()), x, y, "^y: .*takes for"),
        "too few classes": (dict(loss=nn.BCEWithLogitsLoss()), x, hot[:, :9], "^y: .*takes for"),
        "shapes that broadcast": (dict(loss=nn.MSELoss()), x, hot[:, :1], "^y: .*broadcast"),
        "targets of another batch": (dict(loss=nn.MSELoss()), x, hot[:1], "^y: got 1 labels.*2"),
        "targets without an axis": (dict(loss=nn.MSELoss()), x, hot[0, 0], "^y: .*without"),
        "one output, softmax": (dict(), x, torch.tensor([0, 0]), "^model: got one output"),
        "rows that do not sum to 1": (dict(), x, hot * 2, "^y: .*sum to 1"),
        "whole numbers": (dict(), x.long(), y, "^x: .*tokens"),
        "NaN": (dict(), x * torch.nan, y, "^x: got NaN"),
    }  # fmt: skip


@pytest.mark.parametrize("case", list(refused((torch.zeros(2, 1, 12, 12), torch.tensor([0, 1])))))
def test_targets_that_do_not_fit_are_refused(case, small_digits):
    settings, x, y, message = refused(small_digits)[case]
    model = net(outputs=1 if case.startswith("one output") else 10)
    with pytest.raises(ValueError, match=message):
        client.share_gradient(model, x, y, **settings)
    with pytest.raises(ValueError, match=message):
        client.share_weights(model, x, y, lr=0.1, **settings)


@pytest.mark.parametrize("given", [torch.zeros(2, 9), torch.zeros(3, 10), 7, "joint", labels.idlg])
def test_targets_that_do_not_fit_the_attack_are_refused(given, small_digits):
    (x, y), model, loss = batch(small_digits), net(), nn.BCEWithLogitsLoss()
    sent = client.share_gradient(model, x, F.one_hot(y, 10).double(), loss=loss)
    with pytest.raises(ValueError, match="^(labels|leak|loss): "):
        attacks.idlg(model, sent, SMALL, labels=given, loss=loss, steps=3)
