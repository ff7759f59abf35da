"""Inverting Gradients: the direction alone, a smooth picture, signs, and trained networks."""

import dataclasses

import pytest
import torch

from leaklib import (
    attacks,
    client,
    data,
    distances,
    federated,
    metrics,
    models,
    priors,
    solvers,
)
from leaklib.leak import stack

SMALL = (1, 1, 12, 12)


def tanh_lenet(seed=0):
    return models.lenet(1, 12, activation="tanh", init="torch", seed=seed)


def convnet(seed=0):
    return models.convnet(1, 12, width=8, seed=seed)


def psnr(out, x):
    return metrics.psnr(out.images[:, 0], x)


@pytest.fixture(scope="module")
def trained():
    """A tanh LeNet that reads 12 x 12 digits nearly without error."""
    model = tanh_lenet()
    digits = federated.Client(*data.load("digits", 600, size=12, seed=1))
    clients = federated.split(*digits, clients=2)
    accuracy = federated.train(model, clients, test=digits, rounds=14, lr=0.5)[-1]
    assert accuracy > 0.97
    return model


# --- it works -----------------------------------------------------------------------------------


def test_photos_through_a_convnet_come_out():
    """Three pictures of 32 x 32 pixels with the defaults, but for a tenth of the steps."""
    x, y = data.load("photos")
    x, y = x[:3], y[:3]
    nets = [models.convnet(seed=i) for i in range(3)]
    leak = stack(
        client.share_gradient(net, x[i : i + 1], y[i : i + 1]) for i, net in enumerate(nets)
    )
    out = attacks.invert_gradients(nets[0], leak, (1, 3, 32, 32), steps=200)
    before = metrics.psnr(out.snapshots[1][:, 0], x)
    assert torch.equal(out.labels[:, 0], y)
    assert (psnr(out, x) > before + 5).all() and psnr(out, x).mean() > 16
    assert out.images.min() >= 0 and out.images.max() <= 1
    assert not out.converged.any(), "the total variation keeps it from the very image"


@pytest.mark.parametrize("seed", [0, 5])
def test_without_a_prior_an_untrained_convnet_gives_the_image_away(seed, small_digits, share_each):
    x, y = (t[seed : seed + 3] for t in small_digits)
    leak = share_each(lambda i: convnet(seed + i), x, y)
    out = attacks.invert_gradients(convnet(), leak, SMALL, prior=None, steps=300)
    assert (psnr(out, x) > 45).all() and out.converged.all()


def test_trained_network(trained, small_digits, share_each):
    """Gradients that differ by a factor of hundreds in size; every digit can be read."""
    x, y = small_digits[0][:4], small_digits[1][:4]
    leak = share_each(lambda i: trained, x, y)
    sizes = sum(g.flatten(1).square().sum(1) for g in leak.direction.values()).sqrt()
    assert sizes.max() > 50 * sizes.min()
    out = attacks.invert_gradients(
        trained, leak, SMALL, prior=priors.total_variation(1e-2), steps=400
    )
    assert torch.equal(out.labels[:, 0], y)
    assert psnr(out, x).mean() > 20 and (psnr(out, x) > 14).all()


def test_network_of_the_readers_own(own_network, small_digits, share_each):
    x, y = small_digits[0][:2], small_digits[1][:2]
    leak = share_each(own_network, x, y)
    out = attacks.invert_gradients(
        own_network(), leak, SMALL, prior=priors.total_variation(1e-2), steps=300
    )
    assert torch.equal(out.labels[:, 0], y) and (psnr(out, x) > 20).all()


def test_batch_with_labels_that_were_counted(small_digits):
    """Two images of different classes: labels from `labels.counts`, images in any order."""
    from leaklib import labels

    x, y = small_digits[0][[0, 3]], small_digits[1][[0, 3]]
    model = convnet()
    leak = client.share_gradient(model, x, y)
    found = torch.arange(10).repeat_interleave(labels.counts(model, leak))
    assert torch.equal(found, y.sort().values)
    out = attacks.invert_gradients(
        model, leak, (2, *SMALL[1:]), labels=found, prior=None, steps=400
    )
    images = metrics.match(out.images, x)
    assert (metrics.psnr(images, x) > 25).all()


# --- the pieces ---------------------------------------------------------------------------------


def test_it_is_idlg_with_other_pieces(small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    leak = client.share_gradient(convnet(), x, y)
    prior = priors.total_variation(0.03)
    pieces = dict(distance=distances.cosine, prior=prior, solver=solvers.sign_adam)
    settings = dict(start="uniform", restarts=2, steps=20, seed=4)
    got = attacks.invert_gradients(
        convnet(), leak, SMALL, prior=priors.total_variation(0.03), **settings
    )
    wanted = attacks.idlg(convnet(), leak, SMALL, **pieces, **settings)
    assert torch.equal(got.images, wanted.images) and torch.equal(got.trace, wanted.trace)


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_scale_of_the_message_does_not_matter(scale, small_digits):
    """A learning rate nobody knows, or a gradient that was clipped: only the direction is read."""
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    model = convnet().double()
    leak = client.share_gradient(model, x, y)
    scaled = {name: scale * g for name, g in leak.update.items()}
    outs = [
        attacks.invert_gradients(model, message, SMALL, steps=60)
        for message in (leak, dataclasses.replace(leak, update=scaled))
    ]
    torch.testing.assert_close(outs[0].images, outs[1].images, rtol=0, atol=1e-6)


def test_more_weight_makes_a_smoother_picture(small_digits):
    leak = client.share_gradient(convnet(), small_digits[0][:1], small_digits[1][:1])
    rough, smooth, flat = (
        float(priors.total_variation()(out.images))
        for out in (
            attacks.invert_gradients(
                convnet(), leak, SMALL, prior=priors.total_variation(tv), steps=150
            )
            for tv in (0, 1e-3, 1e-2)
        )
    )
    assert rough > 1.2 * smooth and smooth > 1.2 * flat, (rough, smooth, flat)


@pytest.mark.parametrize("victims", [1, 3])
def test_more_restarts_are_never_worse(victims, small_digits, share_each):
    """And the one that is kept is the best by the objective."""
    x, y = small_digits[0][:victims].double(), small_digits[1][:victims]
    leak = share_each(lambda i: convnet(i).double(), x, y)
    few, more = (
        attacks.invert_gradients(convnet().double(), leak, SMALL, restarts=R, steps=12, seed=3)
        for R in (1, 3)
    )
    assert (more.objective <= few.objective * (1 + 1e-6)).all()
    assert torch.equal(more.evaluations, 3 * few.evaluations)


def test_seed_decides_everything(small_digits):
    leak = client.share_gradient(convnet(), small_digits[0][:1], small_digits[1][:1])
    one, same, other = (
        attacks.invert_gradients(convnet(), leak, SMALL, steps=10, seed=s).images for s in (5, 5, 6)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


# --- what cannot be attacked --------------------------------------------------------------------


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weight_of_the_prior_is_a_number_of_at_least_zero(weight):
    with pytest.raises(ValueError, match=f"^weight: got {weight}; wanted a weight of at least 0"):
        priors.total_variation(weight)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(shape=(1, 3, 12, 12)), r"^shape: got \(1, 3, 12, 12\)"),
        (dict(labels=torch.tensor([10])), "^labels: got 10 to 10"),
        (dict(start="noise"), "^start: got 'noise'"),
        (dict(start="half", restarts=2), "^restarts: got 2"),
        (dict(steps=0), "^steps: got 0"),
    ],
)
def test_wrong_argument_gets_an_error_that_names_it(wrong, message, small_digits):
    leak = client.share_gradient(convnet(), small_digits[0][:1], small_digits[1][:1])
    with pytest.raises(ValueError, match=message):
        attacks.invert_gradients(convnet(), **dict(leak=leak, shape=SMALL) | wrong)


def test_batch_without_labels_is_told_how_to_count_them(small_digits):
    leak = client.share_gradient(convnet(), small_digits[0][:2], small_digits[1][:2])
    with pytest.raises(ValueError, match=r"batch of 2 images.*labels\.counts"):
        attacks.invert_gradients(convnet(), leak, (2, *SMALL[1:]))


def test_zero_gradient_tells_nothing(small_digits):
    leak = client.share_gradient(convnet(), small_digits[0][:1], small_digits[1][:1])
    nothing = {name: torch.zeros_like(g) for name, g in leak.update.items()}
    silent = dataclasses.replace(leak, update=nothing)
    for weight in (0, 0.1):
        prior = priors.total_variation(weight)
        out = attacks.invert_gradients(convnet(), silent, SMALL, labels=3, prior=prior, steps=20)
        assert not out.converged.any()
        assert out.images.isfinite().all() and out.objective.isfinite().all()
