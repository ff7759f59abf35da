"""A linear layer gives its input away in closed form."""

import pytest
import torch
from torch import nn

from leaklib import analytic, client, models


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


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_weights_of_one_sample_give_it_away_after_any_number_of_steps(steps, small_digits):
    """Each step adds a multiple of x to each row: the ratio stays x."""
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    leak = client.share_weights(mlp(), x, y, lr=0.3, steps=steps)
    torch.testing.assert_close(analytic.linear_input(leak), x.flatten(), rtol=0, atol=1e-9)


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
