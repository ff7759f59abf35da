"""Defences do what they say, no more, and stop the attacker who does not know of them."""

import math

import pytest
import torch

from leaklib import attacks, client, defenses, metrics, models


@pytest.fixture
def direction():
    """A direction of three tensors, sizes 6,000, 40 and 7, on different scales."""
    g = torch.Generator().manual_seed(0)
    sizes = {"a": (60, 100), "b": (40,), "c": (7, 1)}
    return {n: (i + 1) * torch.randn(s, generator=g) for i, (n, s) in enumerate(sizes.items())}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


EACH = [defenses.gaussian(0.1), defenses.gaussian(0.1, relative=True), defenses.prune(0.5)]


@pytest.mark.parametrize("defend", EACH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_input_is_left_untouched_and_form_is_kept(defend, dtype, direction):
    direction = {n: d.to(dtype) for n, d in direction.items()}
    before = {n: d.clone() for n, d in direction.items()}
    after = defend(direction, generator())
    assert list(after) == list(direction)
    for n, d in direction.items():
        assert torch.equal(d, before[n]) and after[n].shape == d.shape and after[n].dtype == dtype
        assert not torch.equal(after[n], d)


@pytest.mark.parametrize("sigma", [0.01, 2.0])
@pytest.mark.parametrize("seed", range(2))
def test_noise_has_the_standard_deviation(sigma, seed, direction):
    """Five standard errors of 6,000 draws for its mean and its variance."""
    noisy = defenses.gaussian(sigma)(direction, generator(seed))
    noise = noisy["a"].double() - direction["a"].double()
    n = noise.numel()
    assert abs(noise.mean()) < 5 * sigma / n**0.5
    assert abs(noise.var() / sigma**2 - 1) < 5 * (2 / n) ** 0.5
    assert abs((noise.abs() < sigma).double().mean() - 0.6827) < 0.03, "Gaussian"


def test_noise_relative_to_the_root_mean_square_of_all(direction):
    flat = torch.cat([d.flatten() for d in direction.values()]).double()
    rms = float(flat.square().mean().sqrt())
    noisy = defenses.gaussian(0.3, relative=True)(direction, generator())
    noise = torch.cat([(noisy[n] - d).flatten() for n, d in direction.items()])
    assert float(noise.std()) == pytest.approx(0.3 * rms, rel=0.05)


def test_noise_is_that_of_the_generator(direction):
    defend = defenses.gaussian(1.0)
    one, same, other = (defend(direction, generator(s))["b"] for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    noisy = defend({"x": torch.zeros(50), "y": torch.zeros(50)}, generator())
    assert not torch.equal(noisy["x"], noisy["y"])


def test_no_noise_changes_nothing(direction):
    after = defenses.gaussian(0)(direction, generator())
    assert all(torch.equal(after[n], d) for n, d in direction.items())


@pytest.mark.parametrize("p", [0, 0.1, 0.5, 0.9, 0.99, 1])
def test_pruning_keeps_the_largest_of_each_tensor(p, direction):
    after = defenses.prune(p)(direction, generator())
    for n, d in direction.items():
        kept = after[n] != 0
        assert int(kept.sum()) == d.numel() - math.floor(p * d.numel())
        assert torch.equal(after[n][kept], d[kept])
        if kept.any() and not kept.all():
            assert d[kept].abs().min() >= d[~kept].abs().max()


def test_pruning_of_equal_entries_keeps_the_number():
    after = defenses.prune(0.3)({"x": torch.ones(10)}, generator())["x"]
    assert after.sum() == 7


@pytest.mark.parametrize("sigma", [-1e-3, float("nan")])
def test_noise_is_not_negative(sigma):
    with pytest.raises(ValueError, match=f"^sigma: got {sigma}"):
        defenses.gaussian(sigma)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_pruned_share_is_a_share(p):
    with pytest.raises(ValueError, match=f"^p: got {p}; wanted a share"):
        defenses.prune(p)


def test_defences_stop_the_attacker_who_does_not_know(small_digits, share_each):
    """The same three digits, networks and starts; without a defence all three are recovered."""
    x, y = small_digits[0][:3], small_digits[1][:3]
    arms = {"none": None, "noise": defenses.gaussian(0.1), "pruning": defenses.prune(0.9)}
    model_of = lambda i: models.lenet(1, 12, seed=i)  # noqa: E731
    rate = {}
    for name, defense in arms.items():
        leak = share_each(model_of, x, y, defense=defense)
        out = attacks.idlg(model_of(0), leak, (1, 1, 12, 12), steps=300)
        rate[name] = metrics.success_rate(out.images, x)
        assert not (out.converged & (metrics.mse(out.images, x) >= 1e-3)).any()
    assert rate == {"none": 1, "noise": 0, "pruning": 0}


def test_pruned_leak_is_what_crosses_the_wire(small_digits):
    leak = client.share_gradient(
        models.lenet(1, 12), small_digits[0][:1], small_digits[1][:1], defense=defenses.prune(0.9)
    )
    zeros = sum(int((g == 0).sum()) for g in leak.update.values())
    assert zeros >= sum(math.floor(0.9 * g.numel()) for g in leak.update.values())
