"""A unit in the last place, and half precision that the numbers themselves show."""

import pytest
import torch

from leaklib import client, models
from leaklib._precision import unit, units
from leaklib.leak import Leak, stack

HALVES = [torch.float16, torch.bfloat16]
FLOATS = [*HALVES, torch.float32, torch.float64]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", FLOATS)
def test_unit_is_the_way_to_the_next_number(dtype):
    x = torch.cat([drawn(200), drawn(200) * 1e-3, torch.tensor([0.0, 1.0, 2.0, -4.0, 1e-6])])
    x = x.to(dtype)
    up = x.abs().nextafter(torch.tensor(torch.inf, dtype=dtype)) - x.abs()
    assert torch.equal(unit(x, dtype), up)


@pytest.mark.parametrize("held", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", HALVES)
def test_unit_of_a_coarser_dtype_bounds_what_casting_loses(dtype, held):
    x = torch.cat([drawn(500), drawn(500) * 1e-5]).to(held)
    lost = (x.to(dtype).to(held) - x).abs()
    assert (lost <= unit(x, dtype) / 2).all() and (lost > unit(x, dtype) / 4).any()


@pytest.mark.parametrize("dtype", HALVES)
def test_tensors_that_were_cast_back_have_the_units_of_what_they_were(dtype):
    tensors = {
        "w": drawn(5, 4),
        "one": torch.ones(3),
        "b": drawn(4, seed=1),
        "n": torch.tensor(0.3),
    }
    for name, off in units({n: t.to(dtype).float() for n, t in tensors.items()}).items():
        assert off.dtype == torch.float32
        assert (off >= unit(tensors[name].to(dtype).float(), dtype)).all()


def test_one_layer_of_half_precision_does_not_make_the_others_so():
    off = units({"w": drawn(5, 4).half().float(), "b": drawn(4, seed=1)})
    assert torch.equal(off["b"], unit(drawn(4, seed=1), torch.float32))
    assert torch.equal(off["w"], unit(drawn(5, 4).half().float(), torch.float16))


@pytest.mark.parametrize(
    "numbers",
    [[0.0, 0.0], [1.0, 1.0], [1.0, 2.0, 3.0], [0.5, -0.25, 0.75], [100.0, 10.0, 1.0]],
    ids=repr,
)
def test_short_numbers_alone_are_no_sign_of_half_precision(numbers):
    """Zeros, ones and halves fit every dtype, and books are full of them."""
    t = torch.tensor(numbers)
    assert torch.equal(units({"w": t})["w"], unit(t, torch.float32))


def test_networks_in_single_precision_are_never_taken_for_half():
    for seed in range(20):
        W = client.state(models.mlp(1, 12, hidden=(3,), classes=2, seed=seed))[0]
        for name, off in units(W).items():
            assert torch.equal(off, unit(W[name], torch.float32))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3)])
def test_tensors_of_any_shape_have_units(shape):
    off = units({"w": torch.full(shape, 0.1), "v": drawn(9).half().float()})
    assert off["w"].shape == shape and (off["w"] == unit(torch.tensor(0.1), torch.float32)).all()


def test_each_victim_of_a_stack_is_seen_by_itself():
    def sent(i, dtype):
        W, new = ({"w": drawn(5, 4, seed=n), "n": drawn(seed=n + 1)} for n in (10 * i, 10 * i + 5))
        return Leak(W, {n: t.to(dtype).float() for n, t in new.items()}, "weights")

    leaks = [sent(i, dtype) for i, dtype in enumerate([torch.float32, *HALVES])]
    together = stack(leaks).rounding
    for i, leak in enumerate(leaks):
        for name, off in leak.rounding.items():
            assert torch.equal(together[name][i], off)


def test_coarser_of_two_checkpoints_decides():
    W, new = drawn(5, 4), drawn(5, 4, seed=1)
    size = torch.maximum(W.abs(), new.abs())
    for dtype in HALVES:
        for before, after in ((W.to(dtype), new), (W, new.to(dtype)), (W.to(dtype), new.to(dtype))):
            off = Leak({"w": before}, {"w": after}, "weights").rounding["w"]
            coarse = before if before.dtype == dtype else after
            assert (off >= unit(coarse.float(), dtype)).all() and (off <= unit(size, dtype)).all()


def test_numbers_that_are_none_have_no_unit():
    assert units({"w": torch.tensor([torch.nan, torch.inf])})["w"].isnan().all()
