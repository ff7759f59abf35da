"""Numbers that are searched for beside the images: one, or many for each victim."""

import pytest
import torch

from leaklib import attacks, metrics, models, solvers
from leaklib.leak import Leak

SHAPE = (1, 1, 12, 12)


def lenet(i=0):
    return models.lenet(1, 12, seed=i)


def scaled(g, leak, x, q, c):
    """A gradient whose tensors are each multiplied by a number of their own."""
    update = g(leak.weights, x, q, leak.buffers)
    return {name: c["s"][i] * d for i, (name, d) in enumerate(update.items())}


def search(leak, unknowns, labels, predict=scaled, **changed):
    settings = dict(labels=labels, unknowns=unknowns, predict=predict, steps=300) | changed
    return attacks.dlg(lenet(), leak, SHAPE, **settings)


@pytest.fixture
def leaks(small_digits, share_each):
    """Three digits, whose messages are multiplied tensor by tensor by 0.7 to 1.3."""
    x, y = small_digits[0][:3], small_digits[1][:3]
    s = 0.7 + 0.6 * torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    leak = share_each(lenet, x, y)
    update = {
        name: d * s[:, i].reshape(3, *[1] * (d.ndim - 1))
        for i, (name, d) in enumerate(leak.update.items())
    }
    return Leak(leak.weights, update, victims=3), s, x, y[:, None]


def test_many_unknowns_are_found_with_the_image(leaks):
    leak, s, x, y = leaks
    out = search(leak, {"s": torch.ones(3, 8)}, y)
    assert metrics.success_rate(out.images, x) == 1
    assert out.unknowns["s"].shape == (3, 8)
    assert (out.unknowns["s"] - s).abs().max() < 0.05
    assert (out.unknown_snapshots["s"][1] == 1).all(), "from where they were told to start"


def test_each_victim_and_each_restart_starts_at_its_own(leaks):
    leak, _, _, y = leaks
    first = torch.arange(24.0).reshape(3, 8) / 24
    for restarts, start in ((1, "half"), (4, "uniform")):
        out = search(leak, {"s": first}, y, steps=1, restarts=restarts, start=start)
        torch.testing.assert_close(out.unknowns["s"], first)
    seen = []

    def stop(objective, z, **settings):
        seen.append(z[-1])
        return solvers.lbfgs(objective, z, **{**settings, "steps": 1})

    search(leak, {"s": first}, y, restarts=2, start="uniform", solver=stop)
    assert torch.equal(seen[0], first.repeat_interleave(2, 0)), "(V R, n), victim by victim"


def test_true_numbers_that_are_given_are_kept_where_they_fit(leaks):
    """At the true numbers and the true image there is nothing left to gain."""
    leak, s, x, y = leaks
    out = search(leak, {"s": s}, y, start=x[:, None, None], steps=20)
    torch.testing.assert_close(out.unknowns["s"], s, rtol=1e-3, atol=1e-4)
    assert out.converged.all() and metrics.mse(out.images, x).max() < 1e-8


def test_one_number_is_told_as_one(leaks):
    """A number, and a tensor (V, 1): both (V,), with the same search."""
    leak, _, _, y = leaks
    louder = lambda g, leak, x, q, c: {  # noqa: E731
        n: c["s"] * d for n, d in g(leak.weights, x, q, leak.buffers).items()
    }
    one = search(leak, {"s": 1.0}, y, louder, steps=10)
    many = search(leak, {"s": torch.ones(3, 1)}, y, louder, steps=10)
    assert one.unknowns["s"].shape == many.unknowns["s"].shape == (3,)
    assert torch.equal(one.unknowns["s"], many.unknowns["s"])
    assert torch.equal(one.images, many.images)


def test_two_unknowns_of_different_lengths(leaks):
    leak, _, _, y = leaks

    def both(g, leak, x, q, c):
        update = scaled(g, leak, x, q, {"s": c["s"]})
        return {name: c["k"] * d for name, d in update.items()}

    out = search(leak, {"k": 2.0, "s": torch.ones(3, 8)}, y, both, steps=5)
    assert out.unknowns["k"].shape == (3,) and out.unknowns["s"].shape == (3, 8)
    assert (out.unknown_snapshots["k"][1] == 2).all()
    assert (out.unknowns["k"] != 2).any() and (out.unknowns["s"] != 1).any()
