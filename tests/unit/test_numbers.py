"""At zero, roots and quotients are zero, and so are their derivatives."""

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
