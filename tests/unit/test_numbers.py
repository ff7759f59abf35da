"""At zero, roots and quotients are zero, and so are their derivatives; and other arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from leaklib import _numbers


@pytest.mark.parametrize(
    ("fn", "wanted", "slope"),
    [
        (_numbers.root, [0.0, 2.0, 1e-3], [0.0, 0.25, 500.0]),
        (_numbers.inverse, [0.0, 0.25, 1e6], [0.0, -1 / 16, -1e12]),
    ],
)
def test_value_and_derivative_at_zero_and_elsewhere(fn, wanted, slope):
    v = torch.tensor([0.0, 4.0, 1e-6], dtype=torch.float64, requires_grad=True)
    value = fn(v)
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.tensor(wanted).double())
    torch.testing.assert_close(v.grad, torch.tensor(slope).double())


def test_norm_is_that_of_all_tensors_together():
    g = torch.Generator().manual_seed(0)
    direction = {"a": torch.randn(3, 4, generator=g), "b": torch.randn(5, generator=g)}
    flat = torch.cat([d.flatten() for d in direction.values()])
    torch.testing.assert_close(_numbers.norm(direction), flat.norm())
    d = torch.zeros(3, requires_grad=True)
    _numbers.norm({"a": d}).backward()
    assert d.grad.tolist() == [0, 0, 0]


def test_second_derivatives_at_zero_are_finite():
    """An attack differentiates twice."""
    v = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    for fn in (_numbers.root, _numbers.inverse):
        (first,) = torch.autograd.grad(fn(v).sum(), v, create_graph=True)
        if first.requires_grad:
            (second,) = torch.autograd.grad(first.sum(), v, allow_unused=True)
            assert second is None or second.isfinite().all()


@pytest.mark.parametrize(
    ("p", "n", "wanted"),
    [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.07, 100, 7),
        (0.1, 30, 3),
        (0.3, 9, 2),
        (1e-05, 100_000, 1),
        (0.9999999999999999, 10, 9),
        (np.float32(0.29), 100, 29),
        (np.float64(0.29), 100, 29),
        (Fraction(1, 3), 9, 3),
        (0, 7, 0),
        (1, 7, 7),
        (True, 7, 7),
        (0.5, 0, 0),
    ],
)
def test_floor_of_a_share_is_that_of_a_decimal_number(p, n, wanted):
    """A19"""
    assert _numbers.floor_of(p, n) == wanted


def test_floor_of_every_share_of_two_digits():
    for hundredths in range(101):
        for n in (1, 10, 50, 100, 300, 999):
            assert _numbers.floor_of(hundredths / 100, n) == hundredths * n // 100
    wrong = [h for h in range(101) if int(h / 100 * 100) != h]
    assert 29 in wrong, "what floating point makes of it"


def test_squares_of_half_precision_neither_vanish_nor_overflow():
    for size in (1e-4, 300.0):
        d = torch.full((100,), size, dtype=torch.float16)
        assert float(_numbers.norm({"d": d})) == pytest.approx(10 * size, rel=1e-3)
    for dtype in (torch.float32, torch.float64):
        assert _numbers.squared(torch.ones(3, dtype=dtype)).dtype == dtype


def test_exact_numbers_are_on_the_cpu(device):
    """B9"""
    x = torch.rand(3, requires_grad=True)
    found = _numbers.exact(device(x))
    assert found.dtype == torch.float64 and found.device.type == "cpu"
    assert torch.equal(found, x.detach().double()) and not _numbers.exact(x).requires_grad


def test_device_of_these_tests_refuses_float64_and_other_devices(device):
    x = device(torch.rand(3))
    assert x.device != torch.device("cpu") and torch.equal((2 * x).cpu(), 2 * x.cpu())
    for make in (
        lambda: x.double(),
        lambda: x.to(torch.float64),
        lambda: torch.zeros(3, dtype=torch.float64, device=x.device),
        lambda: x.new_zeros(3, dtype=torch.float64),
        lambda: torch.rand(3).double().to(x.device),
    ):
        with pytest.raises(TypeError, match="no numbers of 64 bits"):
            make()
    with pytest.raises(RuntimeError, match="same device"):
        x + torch.rand(3)
    assert math.isclose(float(x.sum()), float(x.cpu().sum()), rel_tol=1e-6)
