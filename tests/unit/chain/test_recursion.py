"""The recursion finds the image behind a gradient exactly, or says why it cannot."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from leaklib import analytic, attacks, client, data, metrics, models
from leaklib.chain import layers, recursion

SMALL = (1, 1, 12, 12)


def invert(model, x, y, **settings):
    return analytic.invert_network(model, client.share_gradient(model, x, y, **settings), x.shape)


def chain(activation=nn.Sigmoid, channels=1, width=6, seed=0, bias=True, **convolution):
    """A small convolutional network for 12 x 12 pixels, unlike leaklib's own."""
    first = dict(kernel_size=3, stride=1, padding=1) | convolution
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv2d(channels, width, bias=bias, **first),
            activation(),
            nn.Conv2d(width, width, 3, padding=1, bias=bias),
            activation(),
            nn.Flatten(),
        )
        n = body(torch.zeros(1, channels, 12, 12)).shape[1]
        return nn.Sequential(body, nn.Sequential(nn.Linear(n, 10)))


@pytest.fixture(scope="module")
def photos():
    """Four photographs of 12 x 12 pixels."""
    return data.load("photos", 4, size=12, seed=0)


# ------------------------------------------------------------------ it works
def test_photographs_of_32_pixels_come_back_to_the_last_digits():
    x, y = data.load("photos", 2, seed=3)
    for i in range(2):
        out = invert(models.lenet(seed=i), x[i : i + 1], y[i : i + 1])
        assert out.images.shape == (1, 1, 3, 32, 32) and out.images.dtype == torch.float32
        assert metrics.mse(out.images[0], x[i : i + 1]) < 1e-8
        assert out.labels.tolist() == [[y[i]]]
        assert out.converged.all() and out.residual < 1e-10


def test_digits_of_lenet_in_a_stack(digits, share_each):
    x, y = digits[0][:4], digits[1][:4]
    leak = share_each(lambda i: models.lenet(1, 28, seed=i), x, y)
    out = analytic.invert_network(models.lenet(1, 28), leak, (1, 1, 28, 28))
    assert out.images.shape == (4, 1, 1, 28, 28)
    assert (metrics.mse(out.images[:, 0], x) < 1e-9).all()
    assert torch.equal(out.labels[:, 0], y)
    assert out.converged.shape == out.residual.shape == (4,) and out.converged.all()
    assert set(out.condition) == {"conv1", "conv2", "conv3", "fc"}
    assert all(c.shape == (4,) and (c >= 0.99).all() for c in out.condition.values())


def test_stack_gives_what_each_leak_gives_alone(small_digits, share_each):
    x, y = small_digits[0][:3], small_digits[1][:3]
    stacked = analytic.invert_network(
        chain(), share_each(lambda i: chain(seed=i), x, y), (1, 1, 12, 12)
    )
    for i in range(3):
        alone = invert(chain(seed=i), x[i : i + 1], y[i : i + 1])
        torch.testing.assert_close(stacked.images[i], alone.images[0])
        assert stacked.labels[i] == alone.labels[0]


ACTIVATIONS = [
    *(nn.Sigmoid, nn.Tanh, nn.ELU, nn.Softplus, nn.Identity, nn.Dropout),
    lambda: nn.LeakyReLU(0.2, inplace=True),
    lambda: nn.ELU(alpha=0.5),
    lambda: nn.Softplus(beta=3),
]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("init", [None, 0.3])
def test_every_invertible_activation_is_undone(activation, init, photos):
    x, y = photos
    for i in range(2):
        model = chain(activation, channels=3, width=10, seed=i).eval()
        if init:
            models.init_uniform(model, init, seed=i)
        out = invert(model, x[i : i + 1], y[i : i + 1])
        assert metrics.mse(out.images[0], x[i : i + 1]) < 1e-8
        assert out.converged.all()


@pytest.mark.parametrize(
    "convolution",
    [
        dict(bias=False),
        dict(kernel_size=5, stride=2, padding=2, width=8),
        dict(kernel_size=3, stride=(1, 2), padding=(0, 1), width=8),
        dict(dilation=2, padding=2),
        dict(kernel_size=(2, 3), padding="same", dilation=(2, 1)),
        dict(padding="valid", width=8),
        dict(padding_mode="reflect"),
        dict(padding_mode="circular", bias=False),
    ],
)
def test_every_convolution_is_undone(convolution, small_digits):
    x, y = small_digits
    for i in range(2):
        out = invert(chain(seed=i, **convolution), x[i : i + 1], y[i : i + 1])
        assert metrics.mse(out.images[0], x[i : i + 1]) < 1e-9
        assert out.converged.all() and out.labels[0] == y[i]


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_below_others_need_no_bias(bias, small_digits):
    x, y = small_digits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(864, 30, bias=bias),
            nn.Sigmoid(),
            nn.Linear(30, 20, bias=bias),
            nn.Tanh(),
            nn.Linear(20, 10),
        )
    out = invert(model, x[:1], y[:1])
    assert metrics.mse(out.images[0], x[:1]) < 1e-9 and out.converged.all()


def test_fully_connected_network_needs_one_layer(small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    leak = client.share_gradient(models.mlp(1, 12), x, y)
    out = analytic.invert_network(models.mlp(1, 12), leak, SMALL)
    torch.testing.assert_close(
        out.images.flatten(), analytic.linear_input(leak, "fc1"), rtol=0, atol=1e-6
    )
    only = nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
    assert metrics.mse(invert(only, x, y).images[0], x) < 1e-12


def test_weights_are_those_of_the_leak(small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    leak = client.share_gradient(chain(seed=1), x, y)
    out = analytic.invert_network(chain(seed=2), leak, SMALL)
    assert metrics.mse(out.images[0], x) < 1e-9 and out.converged.all()


@pytest.mark.parametrize("sure", [6.0, 12.0, 17.0])
def test_network_that_knows_the_label_already_gives_the_image_away(sure, small_digits):
    """Then p - y is the difference of two numbers that are nearly one, rounded all the same."""
    x, y = small_digits
    for i in range(3):
        model = chain(seed=i)
        with torch.no_grad():
            model[1][0].bias[y[i]] += sure
        out = invert(model, x[i : i + 1], y[i : i + 1])
        assert metrics.mse(out.images[0], x[i : i + 1]) < 1e-9
        assert out.converged.all() and out.labels[0] == y[i]


def test_expected_error_is_the_error(photos):
    """The attacker knows, without the image, how well it is recovered: to a factor of ten."""
    x, y = photos
    for depth, activation in [(0, nn.Sigmoid), (2, nn.Sigmoid), (2, nn.Tanh), (3, nn.Softplus)]:
        for i in range(2):
            body, head = chain(activation, 3, 10, seed=i)
            for k in range(depth):
                more = chain(activation, 10, 10, seed=10 * i + k)[0][2:4]
                body = nn.Sequential(*body[:-1], *more, body[-1])
            out = invert(nn.Sequential(body, head), x[i : i + 1], y[i : i + 1])
            error = metrics.mse(out.images[0], x[i : i + 1])
            assert 0.1 < out.expected_mse / error < 10
    assert error < 1e-5


# ------------------------------------------------------------------ against the plain truth
def plain_recursion(model, leak):
    """The recursion of a Sequential body and head in dense matrices, equations unweighted."""
    body, _ = model
    W, h = leak.weights, leak.direction
    db, dV = h["1.0.bias"], h["1.0.weight"]
    a, u = dV.T @ db / (db @ db), W["1.0.weight"].T @ db
    sizes, x = [], torch.zeros(SMALL, dtype=torch.float64)
    for layer in body:
        sizes.append(x.shape[1:])
        x = layer(x)
    for k in (3, 1):
        s = body[k]
        z = torch.logit(a)
        d = torch.autograd.functional.jacobian(s, z).diagonal() * u
        name, layer, size = f"0.{k - 1}", body[k - 1], sizes[k - 1]
        shape = layer(torch.zeros(size, dtype=torch.float64)).shape

        def outputs(x, w, layer=layer, size=size):
            return nn.functional.conv2d(
                x.reshape(1, *size), w, None, layer.stride, layer.padding, layer.dilation
            ).flatten()

        def weights(x, outputs=outputs, name=name, d=d):
            return torch.func.grad(lambda w: outputs(x, w) @ d)(W[f"{name}.weight"]).flatten()

        zero = torch.zeros(size, dtype=torch.float64).flatten()
        by_output = torch.func.jacrev(outputs)(zero, W[f"{name}.weight"])
        by_weight = torch.func.jacrev(weights)(zero)
        b = W[f"{name}.bias"][:, None].expand(-1, shape[1] * shape[2]).flatten()
        right = torch.cat([z - b, h[f"{name}.weight"].flatten()])
        a = np.linalg.lstsq(torch.cat([by_output, by_weight]).numpy(), right.numpy(), rcond=None)[0]
        a, u = torch.from_numpy(a), by_output.T @ d
    return a.reshape(SMALL)


@pytest.mark.parametrize("convolution", [{}, dict(stride=2, padding=2, kernel_size=5, width=8)])
def test_as_dense_least_squares_do(convolution, small_digits):
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    for seed in range(2):
        model = chain(seed=seed, **convolution).double()
        leak = client.share_gradient(model, x, y)
        out = analytic.invert_network(model, leak, SMALL)
        torch.testing.assert_close(out.images[0], plain_recursion(model, leak), rtol=0, atol=1e-6)
        assert metrics.mse(out.images[0], x) < 1e-16


def test_weighted_least_squares_with_deviations_and_condition():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(90, 50, generator=generator).double()
    A *= torch.logspace(0, 2, 50)  # columns of many lengths
    A[torch.rand(90, 50, generator=generator) < 0.5] = 0
    truth = torch.randn(50, generator=generator).double()
    sd = torch.logspace(-6, 0, 90).double()
    right = A @ truth + sd * torch.randn(90, generator=generator).double()
    x, condition = recursion._least_squares(sparse.csr_array(A.numpy()), right, sd)

    weighted = A / sd[:, None]
    wanted = np.linalg.lstsq(weighted.numpy(), (right / sd).numpy(), rcond=None)[0]
    np.testing.assert_allclose(x.value, wanted, rtol=1e-6, atol=1e-9)
    deviation = torch.linalg.inv(weighted.T @ weighted).diagonal().sqrt()
    ratio = x.sd / deviation
    assert ratio.min() > 0.6 and ratio.max() < 1.8
    scaled = weighted / weighted.norm(dim=0)
    assert condition == pytest.approx(np.linalg.cond(scaled.numpy()), rel=0.02)


def test_deviations_grow_where_equations_do_not_agree():
    A = sparse.csr_array(np.ones((100, 1)))
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    small, _ = recursion._least_squares(A, 1e-3 * noise, torch.full((100,), 1e-3).double())
    large, _ = recursion._least_squares(A, 1e-1 * noise, torch.full((100,), 1e-3).double())
    assert large.sd / small.sd == pytest.approx(100, rel=0.2)


def test_windows_are_the_layers_own():
    layer = nn.Conv2d(2, 3, (2, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 2)).double()
    stage = layers.Stage("c", layer, torch.Size((2, 6, 7)), None)
    x = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    where = layers.windows(stage)  # (C k l, H' W')
    met = torch.where(where >= 0, x.flatten()[where.clamp(min=0)], 0.0)
    wanted = layer(x[None])[0].flatten(1)
    got = layer.weight.flatten(1) @ met + layer.bias[:, None]
    torch.testing.assert_close(got, wanted)


# ------------------------------------------------------------------ the plan
def test_plan_counts_what_the_lenet_has():
    plan = analytic.plan(models.lenet(), (1, 3, 32, 32))
    assert plan.cause is None
    assert [step[:5] for step in plan.steps] == [
        ("fc", "Linear", 768, 0, 7680),
        ("conv3", "Conv2d", 768, 768, 3600),
        ("conv2", "Conv2d", 3072, 768, 3600),
        ("conv1", "Conv2d", 3072, 3072, 900),
    ]
    assert (plan.steps[-1].equations, plan.steps[-1].differ) == (3972, 3972 - 144)
    assert plan.verdict.endswith("to the first; the largest matrix takes 0.075 GB.")


def test_plan_refuses_64_pixels_until_the_network_is_wider():
    plan = analytic.plan(models.lenet(size=64), (1, 3, 64, 64))
    assert "conv2" in plan.cause and "12,288 unknowns against 6,672 equations" in plan.cause
    assert "3,072 of its outputs and 3,600 of its weights" in plan.cause
    assert plan.verdict == f"Stops: {plan.cause}."
    assert [step.layer for step in plan.steps if step.cause] == ["conv2"]
    refused = analytic.plan(models.lenet(size=64, width=34), (1, 3, 64, 64)).cause
    assert "34,816 unknowns against 37,604 equations" in refused, "but many say the same"
    assert analytic.plan(models.lenet(size=64, width=35), (1, 3, 64, 64)).cause is None


SHAPES = [
    (3, 12, 4, dict(kernel_size=5, stride=2, padding=2)),
    (6, 6, 4, dict(kernel_size=3, stride=2, padding=1)),
    (6, 6, 5, dict(kernel_size=3, stride=2, padding=1)),
    (2, 8, 3, dict(kernel_size=3, stride=1, padding=1)),
    (1, 12, 2, dict(kernel_size=5, stride=3, padding=1)),
    (8, 4, 12, dict(kernel_size=3, stride=2, padding=1)),
    (8, 5, 3, dict(kernel_size=3, padding=1)),
    (1, 6, 12, dict(kernel_size=3, stride=3)),
    (4, 9, 3, dict(kernel_size=3, stride=2, padding=2, dilation=3)),
    (4, 8, 3, dict(kernel_size=3, stride=2, padding=1, padding_mode="reflect")),
    (5, 8, 4, dict(kernel_size=(3, 2), stride=(2, 3), padding=(1, 0))),
]


@pytest.mark.parametrize(("channels", "size", "filters", "how"), SHAPES)
def test_equations_that_differ_are_as_many_as_the_rank(channels, size, filters, how):
    """The count, against the rank of the dense system of random weights and slopes."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(channels, filters, bias=False, **how).double()
    W = torch.randn(layer.weight.shape, generator=generator).double()
    x = torch.zeros(channels, size, size).double()
    outputs = lambda x, W: torch.func.functional_call(layer, {"weight": W}, (x[None],))[0]  # noqa: E731
    d = torch.randn(outputs(x, W).shape, generator=generator).double()
    weights = torch.func.grad(lambda W, x: (outputs(x, W) * d).sum())
    A = torch.func.jacrev(lambda x: outputs(x, W).flatten())(x).flatten(1)
    G = torch.func.jacrev(lambda x: weights(W, x).flatten())(x).flatten(1)
    stage = layers.Stage("c", layer, x.shape, d.shape)
    of_outputs, of_weights, repeated = stage.equations
    assert (of_outputs, of_weights) == (len(A), len(G))
    rank = int(torch.linalg.matrix_rank(torch.cat([A, G])))
    assert rank == min(of_outputs + of_weights - repeated, stage.unknowns)


def test_wide_enough_is_solved_and_narrower_is_refused(photos):
    x, y = photos
    x, y = x[:1], y[:1]
    conv = dict(channels=3, kernel_size=5, stride=2, padding=2)
    assert metrics.mse(invert(chain(width=6, **conv), x, y).images[0], x) < 1e-8
    with pytest.raises(ValueError, match=r"^model: .*Conv2d '0\.0' .*432 unknowns against 333 eq"):
        invert(chain(width=3, **conv), x, y)


def with_layer(layer, channels=1):
    """A chain with another layer in its middle."""
    body, _ = chain(channels=channels)
    body = nn.Sequential(*body[:2], layer, *body[2:])
    n = body(torch.zeros(2, channels, 12, 12)).shape[1]
    return nn.Sequential(body, nn.Linear(n, 10))


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        return x + self.inner(x)


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (nn.ReLU(), r"ReLU '0\.2' gives many inputs the same output"),
        (nn.GELU(), r"GELU '0\.2' gives two inputs the same"),
        (nn.LeakyReLU(-0.1), r"LeakyReLU '0\.2' gives many"),
        (nn.MaxPool2d(2), r"MaxPool2d '0\.2' keeps less than it reads"),
        (nn.AdaptiveAvgPool2d(4), r"AdaptiveAvgPool2d '0\.2' keeps less"),
        (nn.BatchNorm2d(6).eval(), r"BatchNorm2d '0\.2' divides by a spread"),
        (nn.GroupNorm(2, 6), r"GroupNorm '0\.2' divides"),
        (Branch(), r"Branch '0\.2' .*may branch"),
        (nn.Conv2d(6, 6, 3, padding=1, groups=2), r"Conv2d '0\.2' has 2 groups"),
        (nn.Conv2d(6, 6, 1, stride=2), r"Conv2d '0\.2' never reads 648 of its inputs"),
        (nn.Conv2d(6, 6, 3, padding=1).requires_grad_(False), r"Conv2d '0\.2' has frozen"),
        (nn.Linear(12, 12), r"Linear '0\.2' reads inputs of shape \(6, 12, 12\)"),
    ],
)
def test_layer_that_cannot_be_undone_is_named_with_its_cause(layer, cause, small_digits):
    model = with_layer(layer)
    plan = analytic.plan(model, SMALL)
    assert plan.cause is not None and plan.steps[-1].layer == "0.0"
    with pytest.raises(ValueError, match=f"^model: got {cause}"):
        invert(model, small_digits[0][:1], small_digits[1][:1])


def test_layer_that_stands_in_two_places_is_refused(small_digits):
    model = with_layer(nn.Identity())
    model[0][2] = model[0][3]
    with pytest.raises(ValueError, match=r"^model: .*'0\.3' has frozen or shared weights"):
        invert(model, small_digits[0][:1], small_digits[1][:1])


@pytest.mark.parametrize(
    "end", [[nn.Linear(864, 10, bias=False)], [nn.Linear(864, 10), nn.Sigmoid()]]
)
def test_network_must_end_in_a_linear_layer_with_bias(end, small_digits):
    model = nn.Sequential(*chain()[0], *end)
    with pytest.raises(ValueError, match="^model: .*ends the network.*with a bias"):
        invert(model, small_digits[0][:1], small_digits[1][:1])


def test_network_that_is_no_chain_is_refused(own_network, small_digits):
    plan = analytic.plan(own_network(), SMALL)
    assert "Residual" in plan.cause and "nn.Sequential" in plan.cause
    with pytest.raises(ValueError, match="^model: got Residual .*may branch"):
        invert(own_network(), small_digits[0][:1], small_digits[1][:1])


def test_dropout_in_training_mode_is_refused():
    model = with_layer(nn.Dropout(0.5)).train()
    assert "drops entries at random" in analytic.plan(model, SMALL).cause
    assert analytic.plan(model.eval(), SMALL).cause is None


def test_batch_is_refused(small_digits):
    x, y = small_digits
    assert "batch of 2" in analytic.plan(chain(), (2, 1, 12, 12)).cause
    with pytest.raises(ValueError, match="^leak: got a batch of 2 images"):
        invert(chain(), x[:2], y[:2])
    leak = client.share_gradient(chain(), x[:2], y[:2])
    with pytest.raises(ValueError, match="^shape: "):
        analytic.invert_network(chain(), leak, SMALL)


def test_weights_are_refused(small_digits):
    x, y = small_digits
    leak = client.share_weights(chain(), x[:1], y[:1], lr=0.1)
    with pytest.raises(ValueError, match="^leak: got weights.*wanted a gradient"):
        analytic.invert_network(chain(), leak, SMALL)


def test_gradient_of_zeros_is_refused(small_digits):
    leak = client.share_gradient(chain(), small_digits[0][:1], small_digits[1][:1])
    for tensor in leak.update.values():
        tensor.zero_()
    with pytest.raises(ValueError, match=r"^leak: .*all zeros at '1\.0'"):
        analytic.invert_network(chain(), leak, SMALL)


def test_images_that_the_network_does_not_take_are_refused():
    with pytest.raises(ValueError, match="^shape: "):
        analytic.plan(chain(), (1, 2, 12, 12))


# ------------------------------------------------------------------ and never as if it were right
@pytest.mark.parametrize("scale", [1e-2, 1e-3])
def test_noise_is_noticed(scale, small_digits):
    x, y = small_digits

    def noise(direction, generator):
        return {
            name: g + scale * g.std() * torch.randn(g.shape, generator=generator)
            for name, g in direction.items()
        }

    for i in range(3):
        out = invert(chain(seed=i), x[i : i + 1], y[i : i + 1], defense=noise, seed=i)
        assert not out.converged.any() and out.images.isfinite().all()
        assert out.expected_mse > 1e-7  # without noise it is below 1e-9


def test_equations_that_say_the_same_twice_are_noticed(small_digits):
    """Enough by count, but every filter of the layer is the same one."""
    x, y = small_digits
    model = chain()
    with torch.no_grad():
        model[0][2].weight.copy_(model[0][2].weight[:1].expand(6, -1, -1, -1))
    assert analytic.plan(model, SMALL).cause is None
    out = invert(model, x[:1], y[:1])
    assert not out.converged.any() and out.images.isfinite().all()
    assert out.condition["0.2"] > 1e5 and out.expected_mse > 1e-3


def test_matching_gradient_of_a_wrong_image_is_noticed(photos):
    """Below nine layers of sigmoids every image has the same gradient, to seven digits."""
    x, y = photos
    for i in range(2):
        body, head = chain(channels=3, width=8, seed=i)
        for k in range(7):
            body = nn.Sequential(*body[:-1], *chain(channels=8, width=8, seed=10 * i + k)[0][2:])
        out = invert(nn.Sequential(body, head), x[i : i + 1], y[i : i + 1])
        assert out.residual < attacks.CONVERGED and out.images.isfinite().all()
        assert metrics.mse(out.images[0], x[i : i + 1]) > 1e-2
        assert out.expected_mse > 1e-2 and not out.converged.any()


def test_filters_that_leave_something_open_are_noticed(small_digits):
    """Many images give this very gradient: each matches it, and none may be called right."""
    x, y = small_digits
    for i in range(3):
        model = chain(width=3, kernel_size=5, stride=2, padding=2, seed=i)
        with torch.no_grad():
            model[0][0].weight[1:] = model[0][0].weight[0]
        out = invert(model, x[i : i + 1], y[i : i + 1])
        assert out.residual < attacks.CONVERGED and out.images.isfinite().all()
        assert metrics.mse(out.images[0], x[i : i + 1]) > 1e-3
        assert out.condition["0.0"].isinf().all() and out.expected_mse > 1e-3
        assert not out.converged.any()


def test_layer_that_lets_nothing_through_is_noticed(small_digits):
    x, y = small_digits
    model = chain()
    with torch.no_grad():
        model[0][2].weight.zero_()
    out = invert(model, x[:1], y[:1])
    assert not out.converged.any() and out.images.isfinite().all()
    assert out.condition["0.2"].isinf().all()


def test_saturated_units_do_not_make_nans(small_digits):
    x, y = small_digits
    model = models.init_uniform(chain(), 30.0, seed=0)
    out = invert(model, x[:1], y[:1])
    assert out.images.isfinite().all() and not out.converged.any()
