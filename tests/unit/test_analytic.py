"""A linear layer gives its input away in closed form."""

import itertools

import pytest
import torch
from torch import nn

from leaklib import analytic, client, metrics, models
from leaklib.leak import stack


def mlp(seed=0, dtype=torch.float64, hidden=(20, 15)):
    return models.mlp(1, 12, hidden=hidden, seed=seed).to(dtype)


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
def test_input_of_the_first_layer_is_the_image(dtype, precision, activation, small_digits):
    x, y = small_digits[0].to(dtype), small_digits[1]
    for i in range(5):
        model = models.mlp(1, 12, hidden=(20,), activation=activation, seed=i).to(dtype)
        leak = client.share_gradient(model, x[i : i + 1], y[i : i + 1])
        torch.testing.assert_close(
            analytic.linear_input(leak), x[i].flatten(), rtol=0, atol=precision
        )


def test_inputs_of_a_stack(small_digits, share_each):
    x, y = small_digits[0].double(), small_digits[1]
    got = analytic.linear_input(share_each(mlp, x, y))
    torch.testing.assert_close(got, x.flatten(1), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("layer", "depth"), [("fc1", 1), ("fc2", 3), ("fc", 5)])
def test_layer_may_be_named(layer, depth, small_digits):
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    model = mlp()
    wanted = model[:depth](x)[0]
    got = analytic.linear_input(client.share_gradient(model, x, y), layer=layer)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-8)


def test_features_of_a_convolutional_network(small_digits):
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    model = models.lenet(1, 12).double()
    got = analytic.linear_input(client.share_gradient(model, x, y))
    torch.testing.assert_close(got, model[:-1](x)[0], rtol=0, atol=1e-9)


def test_network_that_is_one_layer(small_digits):
    class Flat(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1))

    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    leak = client.share_gradient(Flat(144, 10).double(), x, y)
    torch.testing.assert_close(analytic.linear_input(leak), x.flatten(), rtol=0, atol=1e-9)


# --- weights that a client sends ----------------------------------------------------------------


def quality(flat, x):
    """PSNR of inputs (..., 144) against images of the same number."""
    return metrics.psnr(flat.reshape(-1, 1, 12, 12), x.reshape(-1, 1, 12, 12))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_weights_of_one_sample_give_it_away_after_any_number_of_steps(
    steps, optimizer, small_digits
):
    """Each step adds a multiple of x to each row: the ratio stays x."""
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    settings = dict(lr=0.3, steps=steps, optimizer=optimizer)
    leak = client.share_weights(mlp(), x, y, **settings)
    torch.testing.assert_close(analytic.linear_input(leak), x.flatten(), rtol=0, atol=1e-9)
    rows = analytic.linear_rows(leak)
    torch.testing.assert_close(rows, x.flatten().expand(20, 144), rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("lr", [1e-3, 1e-1])
def test_weights_in_single_precision_are_enough(lr, optimizer, small_digits, weights_of_each):
    x, y = small_digits
    for seed, steps in ((0, 1), (1, 5), (2, 20)):
        leak = weights_of_each(mlp(seed, torch.float32), x, y, lr, steps, optimizer)
        assert quality(analytic.linear_input(leak), x).min() > 60


@pytest.mark.parametrize("steps", [1, 5])
def test_adam_gives_something_else(steps, small_digits, weights_of_each):
    """It divides each entry by its own size: about lr sign(g)."""
    x, y = small_digits
    for lr in (1e-1, 1e-3, 1e-5):
        leak = weights_of_each(mlp(0, torch.float32), x, y, lr, steps, "adam")
        assert quality(analytic.linear_input(leak), x).max() < 12


def test_scale_of_the_weights_change_does_not_count(small_digits, weights_of_each):
    """An update that is a million times as small, in double precision."""
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    for lr in (1e1, 1e-1, 1e-7):
        leak = weights_of_each(mlp(), x, y, lr)
        torch.testing.assert_close(analytic.linear_input(leak), x.flatten(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize(("steps", "bound"), [(1, 28), (2, 24), (5, 18)])
def test_image_that_rounding_hides_is_nan_and_never_another(
    steps, bound, optimizer, small_digits, weights_of_each
):
    """Over learning rates from 0.1 to 1e-9, by four to a decade."""
    x, y = small_digits[0][:12], small_digits[1][:12]
    shares = []
    for seed, (quarter, activation) in enumerate(
        itertools.product(range(4, 37), ("sigmoid", "relu", "tanh"))
    ):
        init = ("torch", "dlg")[seed % 2]
        model = models.mlp(1, 12, (20, 15), activation=activation, init=init, seed=seed)
        leak = weights_of_each(model, x, y, 10.0 ** (-quarter / 4), steps, optimizer)
        got, rows = analytic.linear_input(leak), analytic.linear_rows(leak)
        for read, truth in ((got, x.flatten(1)), (rows, x.flatten(1)[:, None].expand_as(rows))):
            lost = read.isnan().any(-1)
            assert torch.equal(lost, read.isnan().all(-1)), "all of an image, or nothing"
            if not lost.all():
                assert quality(read[~lost], truth[~lost]).min() > bound
        lost = got.isnan().any(-1)
        assert not lost.any() or quarter > 16, "nothing is lost at 1e-4"
        assert lost.all() or quarter < 32, "all is at 1e-8"
        shares.append(float(lost.float().mean()))
    assert any(0 < share < 1 for share in shares), "the sweep passes through where it fails"


def test_weights_that_did_not_move_are_undetermined(small_digits):
    """Rounded away, as far as one can tell; of a gradient the zero is known to be one."""
    x, y = small_digits[0][:2], small_digits[1][:2]
    model = mlp(dtype=torch.float32)
    moved, still = (
        client.share_weights(model, x[i : i + 1], y[i : i + 1], lr=lr)
        for i, lr in enumerate((0.1, 1e-12))
    )
    assert analytic.linear_input(still).isnan().all()
    assert analytic.linear_rows(still).isnan().all()
    both = analytic.linear_input(stack([moved, still]))
    assert quality(both[:1], x[:1]) > 60 and both[1].isnan().all()


@pytest.mark.parametrize("batch", [2, 5])
def test_rows_of_a_batch_are_the_mixtures_of_the_formula(batch, small_digits):
    """Row i: sum_k delta_ki x_k / sum_k delta_ki, delta_ki the loss's derivative by z_ki."""
    x, y = small_digits[0][:batch].double(), small_digits[1][:batch]
    model = mlp()
    z = model.fc1(x.flatten(1)).detach().requires_grad_()
    loss = nn.functional.cross_entropy(model[2:](z), y)
    (delta,) = torch.autograd.grad(loss, z)  # (B, N)
    wanted = (delta.T @ x.flatten(1)) / delta.sum(0)[:, None]
    got = analytic.linear_rows(client.share_gradient(model, x, y))
    torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-9)
    distance = (got[:, None] - x.flatten(1)).abs().amax(-1)  # (N, B)
    assert distance.min() > 1e-3, "no row of this batch is an image of it"


def test_rows_of_one_sample_all_say_the_same(small_digits):
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    rows = analytic.linear_rows(client.share_gradient(mlp(), x, y))
    torch.testing.assert_close(rows, x.flatten().expand(20, 144), rtol=0, atol=1e-6)


def test_row_that_one_sample_alone_reaches_is_that_sample(small_digits):
    """ReLU units that only one of the batch activates show it; those that nobody does are NaN."""
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    model = models.mlp(1, 12, hidden=(60,), activation="relu", seed=2).double()
    with torch.no_grad():
        model.fc1.bias -= 0.2
    on = model.fc1(x.flatten(1)) > 0  # (B, N)
    rows = analytic.linear_rows(client.share_gradient(model, x, y))
    alone, nobody = on.sum(0) == 1, on.sum(0) == 0
    assert alone.sum() > 2 and nobody.any()
    wanted = x.flatten(1)[on[:, alone].int().argmax(0)]
    torch.testing.assert_close(rows[alone], wanted, rtol=0, atol=1e-8)
    assert rows[nobody].isnan().all() and rows[~nobody].isfinite().all()


def test_rows_of_a_stack(small_digits, share_each):
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    rows = analytic.linear_rows(share_each(mlp, x, y), layer="fc1")
    assert rows.shape == (3, 20, 144)
    torch.testing.assert_close(rows, x.flatten(1)[:, None].expand(3, 20, 144), rtol=0, atol=1e-6)


def test_batch_is_refused_with_what_to_do(small_digits):
    leak = client.share_gradient(mlp(), small_digits[0][:3].double(), small_digits[1][:3])
    with pytest.raises(ValueError, match="^leak: .*batch of 3.*linear_rows"):
        analytic.linear_input(leak)


def test_sample_that_does_not_reach_the_layer_is_refused(small_digits):
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    model = models.mlp(1, 12, hidden=(20,), activation="relu").double()
    with torch.no_grad():
        model.fc1.bias.fill_(-1e3)
    leak = client.share_gradient(model, x, y)
    with pytest.raises(ValueError, match="^leak: .*all zeros"):
        analytic.linear_input(leak)
    assert analytic.linear_rows(leak).isnan().all()


@pytest.mark.parametrize("read", [analytic.linear_input, analytic.linear_rows])
def test_layer_without_what_it_takes_is_refused(read, small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    leak = client.share_gradient(models.lenet(1, 12), x, y)
    for layer in ("conv1", "nothing"):
        with pytest.raises(ValueError, match=rf"^layer: got '{layer}'.*\['fc'\]"):
            read(leak, layer=layer)
    no_bias = nn.Sequential(nn.Flatten(), nn.Linear(144, 10, bias=False))
    with pytest.raises(ValueError, match="^layer: .*bias"):
        read(client.share_gradient(no_bias, x, y))


def test_first_layer_without_a_bias_is_passed_over(small_digits):
    """The first layer that can be inverted is the second: its input is not the image."""
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(144, 20, bias=False), nn.Sigmoid(), nn.Linear(20, 10)
    ).double()
    got = analytic.linear_input(client.share_gradient(model, x, y))
    torch.testing.assert_close(got, model[:3](x)[0], rtol=0, atol=1e-9)
