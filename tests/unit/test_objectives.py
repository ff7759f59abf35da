"""Distances and priors against values worked out by hand."""

import pytest
import torch

from leaklib import objectives


def direction(*values):
    """A direction of two tensors of different shapes."""
    v = torch.tensor(values, dtype=torch.float64)
    return {"a": v[:2].reshape(2, 1), "b": v[2:]}


def test_l2_is_the_sum_of_squares_over_all_tensors():
    assert objectives.l2(direction(1, 2, 3), direction(1, 0, -1)) == 4 + 16


@pytest.mark.parametrize(
    ("g", "value"),
    [((0, 0, 2), 0), ((0, 0, -3), 2), ((1, 0, 0), 1), ((1, 0, 1), 1 - 0.5**0.5), ((0, 0, 0), 1)],
)
def test_cosine_is_of_all_tensors_together(g, value):
    assert objectives.cosine(direction(*g), direction(0, 0, 1)) == pytest.approx(value)


def test_cosine_does_not_see_the_scale():
    generator = torch.Generator().manual_seed(0)
    g, h = (
        direction(*torch.randn(5, generator=generator, dtype=torch.float64).tolist())
        for _ in range(2)
    )
    wanted = objectives.cosine(g, h)
    scaled = {name: 1e-3 * t for name, t in h.items()}
    torch.testing.assert_close(objectives.cosine(g, scaled), wanted)


@pytest.mark.parametrize("small", [1e-3, 1e-5])
def test_cosine_keeps_its_digits_where_the_two_agree(small):
    """In float32, 1 - <g, h> / (|g| |h|) of an angle below 2e-4 is only rounding."""
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(5000, generator=generator, dtype=torch.float64)
    g = h + small * torch.randn(5000, generator=generator, dtype=torch.float64)
    of = lambda v: {"a": v[:4990].float(), "b": v[4990:].float()}  # noqa: E731
    wanted = float(1 - g @ h / (g.norm() * h.norm()))
    assert wanted == pytest.approx(small**2 / 2, rel=0.1)
    assert float(objectives.cosine(of(g), of(h))) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_cosine_and_its_derivative_are_those_of_the_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    a.requires_grad_()
    of = lambda v: {"a": v[:2].reshape(2, 1), "b": v[2:]}  # noqa: E731
    plain = 1 - a @ b / (a.norm() * b.norm())
    value = objectives.cosine(of(a), of(b))
    torch.testing.assert_close(value, plain)
    (wanted,), (got,) = (torch.autograd.grad(v, a) for v in (plain, value))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("zero", ["g", "h"])
def test_cosine_of_zero_has_a_finite_gradient(zero):
    z = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    other = torch.ones(4, dtype=torch.float64)
    g, h = ({"a": z}, {"a": other}) if zero == "g" else ({"a": z + 1}, {"a": 0 * other})
    objectives.cosine(g, h).backward()
    assert z.grad.isfinite().all()


def test_names_of_the_leak_decide_what_is_compared():
    g = direction(1, 2, 3)
    h = {"b": g["b"] + 1}
    assert objectives.l2(g, h) == 1


def test_total_variation_is_the_mean_step_between_neighbours():
    x = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    assert objectives.total_variation(x) == pytest.approx((0 + 0 + 1) / 3 + (1 + 0 + 1 + 1) / 4)
    assert objectives.total_variation(torch.full((2, 3, 5, 5), 0.3)) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_total_variation_orders_real_images_and_noise(channels, digits):
    noise = torch.rand(4, channels, 28, 28, generator=torch.Generator().manual_seed(0))
    image = digits[0][:4].expand(4, channels, 28, 28)
    assert objectives.total_variation(image) < objectives.total_variation(noise) / 2
