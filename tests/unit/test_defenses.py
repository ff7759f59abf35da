"""Defences do what they say, no more, and stop the attacker who does not know of them."""

import math
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from scipy import optimize
from scipy.stats import chi2, norm
from torch import nn

from leaklib import (
    adaptive,
    attacks,
    client,
    defenses,
    labels,
    metrics,
    models,
    privacy,
)
from leaklib.leak import Leak, stack


@pytest.fixture
def direction():
    """A direction of three tensors, sizes 6,000, 40 and 7, on different scales."""
    g = torch.Generator().manual_seed(0)
    sizes = {"a": (60, 100), "b": (40,), "c": (7, 1)}
    return {n: (i + 1) * torch.randn(s, generator=g) for i, (n, s) in enumerate(sizes.items())}


def generator(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors.values()])


def assert_close(got, wanted, **tolerances):
    assert list(got) == list(wanted)
    for name in wanted:
        torch.testing.assert_close(
            got[name], wanted[name], **tolerances, msg=lambda m, n=name: n + m
        )


OF_DIRECTION = {
    "gaussian": defenses.gaussian(0.1),
    "gaussian relative": defenses.gaussian(0.1, relative=True),
    "laplace": defenses.laplace(0.1),
    "laplace relative": defenses.laplace(0.1, relative=True),
    "clip": defenses.clip(1.0),
    "prune": defenses.prune(0.5),
    "prune whole": defenses.prune(0.9, whole=True),
    "quantize": defenses.quantize(3),
    "half": defenses.half(),
    "bfloat16": defenses.half(torch.bfloat16),
    "mask": defenses.random_mask(0.5),
    "mask rescaled": defenses.random_mask(0.5, rescale=True),
    "compose": defenses.compose(defenses.clip(1.0), defenses.gaussian(0.1)),
}
DRAWN = ["gaussian", "gaussian relative", "laplace", "laplace relative", "mask", "mask rescaled"]
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


# --- all functions of the direction ---------------------------------------------------------------


@pytest.mark.parametrize("which", OF_DIRECTION)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_input_is_left_untouched_and_form_is_kept(which, dtype, device, direction):
    direction = {n: d.to(device, dtype) for n, d in direction.items()}
    before = {n: d.clone() for n, d in direction.items()}
    after = OF_DIRECTION[which](direction, generator(device=device))
    assert list(after) == list(direction)
    for n, d in direction.items():
        assert torch.equal(d, before[n])
        assert (after[n].shape, after[n].dtype, after[n].device) == (d.shape, dtype, d.device)
        assert not torch.equal(after[n], d)


@pytest.mark.parametrize("which", OF_DIRECTION)
def test_defence_is_that_of_the_generator(which, direction):
    """Alike of one seed; what is drawn is another of another, and of another tensor."""
    random_state = torch.get_rng_state()
    one, same, other = (OF_DIRECTION[which](direction, generator(s)) for s in (1, 1, 2))
    assert_close(one, same, rtol=0, atol=0)
    assert torch.equal(flat(one), flat(other)) == (which not in [*DRAWN, "compose"])
    assert torch.equal(random_state, torch.get_rng_state()), "the global generator is left alone"


@pytest.mark.parametrize("which", DRAWN)
def test_tensors_of_a_message_are_drawn_apart(which):
    after = OF_DIRECTION[which]({"x": torch.ones(50), "y": torch.ones(50)}, generator())
    assert not torch.equal(after["x"], after["y"])


@pytest.mark.parametrize("which", OF_DIRECTION)
def test_zero_direction_gives_no_nan(which):
    after = OF_DIRECTION[which]({"x": torch.zeros(3, 4), "y": torch.zeros(5)}, generator())
    assert all(d.isfinite().all() for d in after.values())
    if which not in ("gaussian", "laplace", "compose"):
        assert not flat(after).any()


# --- noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.01, 2.0])
@pytest.mark.parametrize("seed", range(2))
def test_noise_has_the_standard_deviation(sigma, seed, direction):
    """The sum of n squares follows the chi-square law; one in a million lies outside."""
    noisy = defenses.gaussian(sigma)(direction, generator(seed))
    noise = (noisy["a"].double() - direction["a"].double()) / sigma
    n = noise.numel()
    low, high = chi2.interval(1 - 1e-6, n)
    assert low < noise.square().sum() < high
    assert abs(noise.mean()) < 5 / n**0.5
    assert abs((noise.abs() < 1).double().mean() - 0.6827) < 0.03, "Gaussian"


@pytest.mark.parametrize("b", [0.01, 2.0])
def test_laplace_noise_has_its_law(b, direction):
    """E L^2 = 2 and Var L^2 = 20; |L| follows the exponential law."""
    noisy = defenses.laplace(b)(direction, generator())
    noise = (noisy["a"].double() - direction["a"].double()) / b
    n = noise.numel()
    assert abs(noise.mean()) < 5 * (2 / n) ** 0.5
    assert abs(noise.square().mean() - 2) < 5 * (20 / n) ** 0.5
    for size in (0.5, 1.0, 3.0):
        share = (noise.abs() > size).double().mean()
        assert abs(share - math.exp(-size)) < 5 * (math.exp(-size) / n) ** 0.5


@pytest.mark.parametrize(("kind", "spread"), [("gaussian", 1.0), ("laplace", 2**0.5)])
def test_noise_relative_to_the_root_mean_square_of_all(kind, spread, direction):
    rms = float(flat(direction).double().square().mean().sqrt())
    noisy = getattr(defenses, kind)(0.3, relative=True)(direction, generator())
    noise = flat(noisy) - flat(direction)
    assert float(noise.std()) == pytest.approx(0.3 * rms * spread, rel=0.05)


@pytest.mark.parametrize("none", [defenses.gaussian(0), defenses.laplace(0), defenses.compose()])
def test_no_noise_changes_nothing(none, direction):
    assert_close(none(direction, generator()), direction, rtol=0, atol=0)


# --- clipping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [1e-3, 1.0, 50.0])
def test_clipping_shortens_what_is_longer_and_keeps_where_it_points(C, direction):
    size = flat(direction).norm()
    assert size > 50
    after = defenses.clip(C)(direction, generator())
    assert float(flat(after).norm()) == pytest.approx(C, rel=1e-5)
    torch.testing.assert_close(flat(after) / C, flat(direction) / size, rtol=1e-4, atol=1e-7)
    longer = defenses.clip(float(size) + 1)(direction, generator())
    assert_close(longer, direction, rtol=0, atol=0)


# --- pruning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0, 0.1, 0.5, 0.9, 0.99, 1])
def test_pruning_keeps_the_largest_of_each_tensor(p, direction):
    after = defenses.prune(p)(direction, generator())
    for n, d in direction.items():
        kept = after[n] != 0
        assert int(kept.sum()) == d.numel() - math.floor(p * d.numel())
        assert torch.equal(after[n][kept], d[kept])
        if kept.any() and not kept.all():
            assert d[kept].abs().min() >= d[~kept].abs().max()


@pytest.mark.parametrize("p", [0, 0.3, 0.99, 1])
def test_pruning_of_the_whole_keeps_the_largest_of_all(p, direction):
    after = flat(defenses.prune(p, whole=True)(direction, generator()))
    d, kept = flat(direction), after != 0
    assert int(kept.sum()) == d.numel() - math.floor(p * d.numel())
    assert torch.equal(after[kept], d[kept])
    if kept.any() and not kept.all():
        assert d[kept].abs().min() >= d[~kept].abs().max()


@pytest.mark.parametrize("p", [0.29, 0.57, 0.58])
def test_share_that_is_dropped_is_that_of_a_decimal_number(p):
    """A19: p n in floating point is just below the whole number that it is."""
    n = round(100 * p)
    assert int(p * 100) == n - 1
    entries = {"x": torch.arange(1.0, 101)}
    for drop in (
        defenses.prune(p),
        defenses.prune(p, whole=True),
        defenses.weights_sparsify(p).change,
    ):
        assert int((drop(entries, generator())["x"] == 0).sum()) == n
    model, x = nn.Linear(100, 3), torch.rand(1, 100, generator=generator())
    g = defenses.soteria("", p).gradient(model, generator())
    assert int((g(client.state(model)[0], x, torch.tensor([1]))["weight"] == 0).all(0).sum()) == n


def test_pruning_of_equal_entries_keeps_the_number():
    after = defenses.prune(0.3)({"x": torch.ones(10)}, generator())["x"]
    assert after.sum() == 7


# --- fewer bits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_quantising_rounds_to_the_nearest_level(bits, direction):
    direction = {n: d.double() for n, d in direction.items()}
    after = defenses.quantize(bits)(direction, generator())
    for n, d in direction.items():
        delta = d.abs().max() / (2 ** (bits - 1) - 1)
        level = after[n] / delta
        torch.testing.assert_close(level, level.round(), rtol=1e-9, atol=1e-9)
        assert level.abs().max().round() == 2 ** (bits - 1) - 1
        assert (after[n] - d).abs().max() <= delta / 2 * (1 + 1e-9)
    assert len(after["a"].unique()) <= 2**bits - 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounding(dtype, direction):
    after = defenses.half(dtype)(direction, generator())
    relative = 2.0 ** (-11 if dtype == torch.float16 else -8)
    for n, d in direction.items():
        assert torch.equal(after[n].to(dtype).float(), after[n]), "a number of few bits"
        assert ((after[n] - d).abs() <= relative * d.abs() + 1e-7).all()


@pytest.mark.parametrize("bits", [2, 8, 12])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_quantising_of_half_precision_is_that_of_float32(bits, dtype, size):
    """The spacing of levels has no place in 16 bits where the numbers themselves have."""
    g = (size * torch.randn(200, generator=generator())).to(dtype)
    got = defenses.quantize(bits)({"x": g}, generator())["x"]
    wanted = defenses.quantize(bits)({"x": g.float()}, generator())["x"]
    assert got.dtype == dtype and torch.equal(got, wanted.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-5, 1.0, 1e3])
def test_clipping_of_half_precision_is_that_of_float32(dtype, size):
    """Squares of small numbers vanish in 16 bits, and those of large ones are infinite."""
    g = {"x": torch.full((400,), size).to(dtype), "y": torch.tensor(size).to(dtype)}
    got = defenses.clip(size)(g, generator())
    wanted = defenses.clip(size)({n: t.float() for n, t in g.items()}, generator())
    for n in g:
        assert got[n].dtype == dtype
        torch.testing.assert_close(got[n].float(), wanted[n], rtol=0.01, atol=1e-7)


def test_slope_of_clipping_at_zero_is_a_number():
    """It may be a word of an attack, which begins anywhere."""
    g = torch.zeros(3, requires_grad=True)
    defenses.clip(0.5)({"x": g}, generator())["x"].sum().backward()
    assert g.grad.tolist() == [1, 1, 1]


# --- masking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_mask_drops_its_share_and_leaves_the_rest(p, seed, direction):
    after = defenses.random_mask(p)(direction, generator(seed))
    for n, d in direction.items():
        kept = after[n] != 0
        off = (p * (1 - p) / d.numel()) ** 0.5  # the standard deviation of a share
        assert abs((~kept).double().mean() - p) <= 5 * off
        assert torch.equal(after[n][kept], d[kept])


def test_rescaled_mask_is_right_on_average():
    """Over 4,000 rounds, within five standard errors of g."""
    g, defend = {"x": torch.tensor([1.0, -2.0, 0.0, 5.0])}, defenses.random_mask(0.8, rescale=True)
    rounds = torch.stack([defend(g, generator(seed))["x"] for seed in range(4000)]).double()
    off = g["x"].abs() * (0.8 / 0.2) ** 0.5 / 4000**0.5
    assert ((rounds.mean(0) - g["x"]).abs() <= 5 * off).all()
    torch.testing.assert_close(
        rounds[rounds != 0].abs().unique(), torch.tensor([5, 10, 25.0]).to(rounds)
    )


def test_mask_is_another_every_round(small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    share = lambda seed: flat(  # noqa: E731
        client.share_gradient(
            models.lenet(1, 12), x, y, defense=defenses.random_mask(0.5), seed=seed
        ).update
    )
    one, same, other = share(1) != 0, share(1) != 0, share(2) != 0
    assert torch.equal(one, same)
    assert abs((one & other).double().mean() - 0.25) < 0.03, "and independent"


# --- several --------------------------------------------------------------------------------------


def test_composed_defences_do_not_share_draws(direction):
    """Two masks of 1/2 leave a quarter, and what is masked says nothing of its noise."""
    mask = defenses.random_mask(0.5)
    ones = {name: torch.ones_like(d) for name, d in direction.items()}
    twice = flat(defenses.compose(mask, mask)(ones, generator()))
    assert abs(twice.mean() - 0.25) < 5 * (0.25 * 0.75 / len(twice)) ** 0.5
    for order in ((mask, defenses.gaussian(1.0)), (defenses.gaussian(1.0), mask)):
        both = defenses.compose(*order)({"x": torch.ones(10_000)}, generator())["x"]
        kept = defenses.compose(*order)({"x": 100 * torch.ones(10_000)}, generator())["x"] > 50
        noise = (both - kept.to(both))[kept] if order[0] is not mask else both - kept.to(both)
        assert abs(noise.mean()) < 5 / len(noise) ** 0.5
        assert abs(noise.square().mean() - 1) < 5 * (2 / len(noise)) ** 0.5


def test_composed_is_one_after_the_other(direction):
    together = defenses.compose(defenses.clip(1), defenses.gaussian(0.01))(direction, generator(3))
    clipped = defenses.clip(1)(direction, draws := generator(3))
    assert_close(together, defenses.gaussian(0.01)(clipped, draws), rtol=0, atol=0)
    other_way = defenses.compose(defenses.gaussian(0.01), defenses.clip(1))
    assert not torch.allclose(flat(other_way(direction, generator(3))), flat(together))


@pytest.mark.parametrize("other", [defenses.dp_sgd(1, 1), defenses.weights_noise(1e-3), "prune"])
def test_other_kinds_cannot_be_composed(other):
    with pytest.raises(ValueError, match=r"^defend\[1\]: got .*; wanted a function of the direct"):
        defenses.compose(defenses.clip(1), other)


# --- dp_sgd ---------------------------------------------------------------------------------------


def clipped_sum(model, x, y, C):
    """The slow truth: image after image, clipped by hand."""
    total = None
    for i in range(len(x)):
        g = client.share_gradient(model, x[i : i + 1], y[i : i + 1]).update
        scale = min(1.0, C / float(flat(g).norm()))
        total = {n: scale * d + (total[n] if total else 0) for n, d in g.items()}
    return total


@pytest.mark.parametrize("C", [0.1, 3.0, 1e4])
def test_clipped_sum_is_that_of_a_plain_loop(C, small_digits, own_network):
    x, y = small_digits[0][:5].double(), small_digits[1][:5]
    for model in (models.lenet(1, 12).double(), own_network().double()):
        got = client.share_gradient(model, x, y, defense=defenses.dp_sgd(C, 0)).update
        wanted = {n: d / 5 for n, d in clipped_sum(model, x, y, C).items()}
        assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    if C == 1e4:
        assert_close(got, client.share_gradient(model, x, y).update, rtol=1e-9, atol=1e-12)


class Recurrent(nn.Module):
    """Reads an image row by row."""

    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.rows, self.head = kind(12, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.rows(x[:, 0])[0][:, -1])


class Linear(nn.Module):
    """A linear layer and what comes after it, `then(model, logits)`."""

    def __init__(self, then):
        super().__init__()
        self.head, self.then = nn.Linear(144, 10), then
        self.factor = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.then(self, self.head(x.flatten(1)))


def of_rows(change):
    """Image by image, which is no business of the others."""
    return lambda model, logits: torch.stack([change(row) for row in logits])


def in_place(model, logits):
    total = torch.zeros(len(logits), 10, dtype=logits.dtype)
    total += logits
    return total


NOT_BATCHED = {
    "GRU": Recurrent,
    "RNN": lambda: Recurrent(nn.RNN),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "item": lambda: Linear(of_rows(lambda row: row * (1 + row.detach().max().item() ** 2))),
    "in place": lambda: Linear(in_place),
    "branch": lambda: Linear(of_rows(lambda row: row if row.sum() > 0 else -row)),
}


@pytest.mark.parametrize("kind", NOT_BATCHED)
def test_network_that_vmap_cannot_batch_is_clipped_image_by_image(kind, small_digits):
    """B2"""
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = NOT_BATCHED[kind]().double()
    wanted = {n: d / 4 for n, d in clipped_sum(model, x, y, 0.5).items()}
    with pytest.warns(UserWarning, match="cannot be batched by vmap"):
        got = client.share_gradient(model, x, y, defense=defenses.dp_sgd(0.5, 0)).update
    assert_close(got, wanted, rtol=1e-8, atol=1e-10)


class Tied(nn.Module):
    """Two layers with one weight, and one that is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.head = nn.Linear(144, 10), nn.Linear(10, 10), nn.Linear(10, 10)
        self.head.weight = self.twice.weight

    def forward(self, x):
        return self.head(self.twice(self.twice(self.first(x.flatten(1)).tanh()).tanh()))


def test_tied_weights_are_clipped_as_one(small_digits):
    """B2, as in A1"""
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Tied().double()
    names, parameters = list(dict(model.named_parameters())), list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for i in range(3):
        g = torch.autograd.grad(F.cross_entropy(model(x[i, None]), y[i, None]), parameters)
        scale = min(1.0, 0.5 / float(torch.cat([d.flatten() for d in g]).norm()))
        total = [t + scale * d / 3 for t, d in zip(total, g, strict=True)]
    W, buffers = client.state(model)
    got = defenses.dp_sgd(0.5, 0).gradient(model, generator())(W, x, y, buffers)
    assert_close(got, dict(zip(names, total, strict=True)), rtol=1e-8, atol=1e-10)


def batch_normalised(**settings):
    """BatchNorm that uses the statistics of the batch."""
    return nn.Sequential(nn.BatchNorm2d(1, **settings), nn.Flatten(), nn.Linear(144, 10))


MIXING = {
    "A11 without running statistics": lambda: batch_normalised(track_running_stats=False).eval(),
    "training mode": batch_normalised,
    "the mean of the batch": lambda: Linear(lambda model, logits: logits - logits.mean(0)),
}


@pytest.mark.filterwarnings("ignore:this network cannot be batched")
@pytest.mark.parametrize("kind", MIXING)
@pytest.mark.parametrize("defense", [defenses.dp_sgd(1e6, 0), defenses.soteria("2", 0.5)])
def test_images_that_a_network_mixes_have_no_gradient_of_their_own(kind, defense, small_digits):
    """A11, also where the defence is called without a client."""
    x, y = small_digits[0][:4], small_digits[1][:4]
    model = nn.Sequential(nn.Identity(), nn.Identity(), MIXING[kind]())
    if isinstance(model[2], nn.Sequential):
        model = model[2]
    else:
        defense = defenses.dp_sgd(1e6, 0)
    W, buffers = client.state(model)
    with pytest.raises(ValueError, match="^model: got .*mixes the images of a batch"):
        defense.gradient(model, generator())(W, x, y, buffers)


@pytest.mark.filterwarnings("ignore:this network cannot be batched")
def test_random_network_is_no_case_for_dp_sgd(small_digits):
    x, y = small_digits[0][:4], small_digits[1][:4]
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 10))
    W, buffers = client.state(model)
    with pytest.raises(ValueError, match="^model: got .*random"):
        defenses.dp_sgd(1e6, 0).gradient(model, generator())(W, x, y, buffers)


def test_dp_sgd_adds_up_or_averages_as_the_loss_does(small_digits):
    """B7: and where nothing is clipped it is the plain gradient."""
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    model = models.lenet(1, 12).double()
    W, buffers = client.state(model)
    for loss in (nn.CrossEntropyLoss(reduction="sum"), nn.CrossEntropyLoss(label_smoothing=0.1)):
        got = defenses.dp_sgd(1e6, 0).gradient(model, generator(), loss)(W, x, y, buffers)
        assert_close(got, client.gradient(model, loss)(W, x, y, buffers), rtol=1e-9, atol=1e-12)
    halves = defenses.dp_sgd(0.01, 0).gradient(model, generator(), nn.CrossEntropyLoss())
    wanted = {n: d / 4 for n, d in clipped_sum(model, x, y, 0.01).items()}
    assert_close(halves(W, x, y, buffers), wanted, rtol=1e-9, atol=1e-12)


def test_weighted_mean_of_images_is_no_mean_of_theirs(small_digits):
    """B7: class weights divide by the weights of the whole batch."""
    x, y = small_digits[0][:4], torch.tensor([0, 1, 2, 3])
    model = models.lenet(1, 12)
    W, buffers = client.state(model)
    loss = nn.CrossEntropyLoss(weight=torch.arange(1.0, 11))
    with pytest.raises(ValueError, match="^loss: got .*neither mean nor sum .*class weights"):
        defenses.dp_sgd(1e6, 0).gradient(model, generator(), loss)(W, x, y, buffers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dp_sgd_in_half_precision_clips_what_is_too_small_to_square(dtype):
    """Numbers below 0.0002 have no square in 16 bits."""
    g = torch.Generator().manual_seed(0)
    x, y = 1e-4 * torch.rand(3, 40, generator=g), torch.tensor([0, 1, 2])
    model = nn.Linear(40, 10, bias=False)
    share = lambda m, x: defenses.dp_sgd(1e-4, 0).gradient(m, generator())(  # noqa: E731
        client.state(m)[0], x, y
    )
    wanted = share(model, x)["weight"]
    got = share(model.to(dtype), x.to(dtype))["weight"]
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), wanted, rtol=0.05, atol=1e-7)


def test_parameter_without_an_axis_is_clipped_too(small_digits):
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    model = Linear(lambda model, logits: model.factor * logits).double()
    got = client.share_gradient(model, x, y, defense=defenses.dp_sgd(0.5, 0)).update
    assert_close(got, {n: d / 4 for n, d in clipped_sum(model, x, y, 0.5).items()})
    assert got["factor"].shape == () and got["factor"] != 0


@pytest.mark.filterwarnings("error")
def test_running_out_of_memory_is_no_reason_for_a_loop(small_digits):
    """It is an error of PyTorch's of the same kind as what vmap raises."""

    def full(model, logits):
        if torch.is_grad_enabled():  # and not where the shape of the output is asked for
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return logits

    x, y = small_digits[0][:4], small_digits[1][:4]
    with pytest.raises(torch.cuda.OutOfMemoryError):
        client.share_gradient(Linear(full), x, y, defense=defenses.dp_sgd(0.5, 0))


@pytest.mark.parametrize("C", [0.5, 5.0])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.filterwarnings("ignore")
def test_clipped_sum_is_that_of_opacus(C, activation, small_digits):
    pytest.importorskip("opacus")
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    x, y = small_digits[0][:8], small_digits[1][:8]
    make = partial(models.lenet, 1, 12, activation=activation, init="torch", seed=2)
    leak = client.share_gradient(make(), x, y, defense=defenses.dp_sgd(C, 0))
    theirs = GradSampleModule(make())
    optimizer = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=1.0),
        noise_multiplier=0.0, max_grad_norm=C, expected_batch_size=8,
    )  # fmt: skip
    F.cross_entropy(theirs(x), y).backward()
    norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in theirs.parameters()])
    assert C > 1 or (norms.norm(dim=0) > C).all(), "something is clipped"
    optimizer.pre_step()
    wanted = {n.removeprefix("_module."): p.grad for n, p in theirs.named_parameters()}
    assert_close(leak.update, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("C", "sigma", "B"), [(1.0, 1.0, 1), (0.3, 4.0, 5)])
def test_noise_of_dp_sgd_is_in_units_of_the_clip(C, sigma, B, small_digits):
    x, y = small_digits[0][:B], small_digits[1][:B]
    share = lambda noise, seed=0: flat(  # noqa: E731
        client.share_gradient(
            models.lenet(1, 12), x, y, defense=defenses.dp_sgd(C, noise), seed=seed
        ).update
    )
    noise = (share(sigma) - share(0)).double() * B / (sigma * C)
    low, high = chi2.interval(1 - 1e-6, noise.numel())
    assert low < noise.square().sum() < high
    assert abs(noise.mean()) < 5 / noise.numel() ** 0.5
    assert torch.equal(share(sigma, 3), share(sigma, 3))
    assert not torch.equal(share(sigma, 3), share(sigma, 4))


def test_one_image_changes_the_sum_by_the_clip_at_most(small_digits):
    """What the privacy rests on: neighbours that differ by one image, however odd it is."""
    x, y = small_digits[0][:4].clone(), small_digits[1][:4]
    x[3] = 1e3
    model, defense = models.lenet(1, 12, activation="relu"), defenses.dp_sgd(0.7, 0)
    share = lambda B: flat(client.share_gradient(model, x[:B], y[:B], defense=defense).update)  # noqa: E731
    assert 0.69 < float((4 * share(4) - 3 * share(3)).norm()) < 0.7 * (1 + 1e-4)


def test_dp_sgd_takes_soft_labels_and_every_local_step(small_digits):
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    model = models.lenet(1, 12).double()
    hard, soft = (
        client.share_gradient(model, x, q, defense=defenses.dp_sgd(1, 0)).update
        for q in (y, F.one_hot(y, 10).double())
    )
    assert_close(soft, hard, rtol=1e-9, atol=1e-12)
    leak = client.share_weights(model, x, y, lr=0.1, steps=2, defense=defenses.dp_sgd(1, 0))
    for _ in range(2):
        step = clipped_sum(model, x, y, 1)
        with torch.no_grad():
            for n, p in model.named_parameters():
                p -= 0.1 * step[n] / 3
    assert_close(leak.update, dict(model.named_parameters()), rtol=1e-9, atol=1e-12)


# --- the privacy spent ----------------------------------------------------------------------------


def exact_epsilon(noise, steps, delta):
    """The Gaussian mechanism in closed form (Balle & Wang 2018; Dong, Roth & Su 2022)."""
    mu = steps**0.5 / noise

    def over(eps):
        tail = norm.logcdf(-mu / 2 - eps / mu)
        return norm.cdf(mu / 2 - eps / mu) - math.exp(eps + tail) - delta

    return optimize.brentq(over, 0, 10 * mu**2 + 100)


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
@pytest.mark.filterwarnings("error:Optimal order")
def test_privacy_spent_bounds_the_exact_one_from_above(noise, steps, delta):
    pytest.importorskip("opacus")
    exact = exact_epsilon(noise, steps, delta)
    assert exact <= privacy.epsilon(noise, steps, delta=delta) < 1.2 * exact


@pytest.mark.filterwarnings("ignore")
def test_privacy_spent_grows_with_steps_and_sampling_and_falls_with_noise():
    pytest.importorskip("opacus")
    base = privacy.epsilon(1.0, 100, sample_rate=0.1)
    assert isinstance(base, float)
    assert privacy.epsilon(1.0, 101, sample_rate=0.1) > base
    assert privacy.epsilon(1.0, 100, sample_rate=0.11) > base
    assert privacy.epsilon(1.1, 100, sample_rate=0.1) < base
    assert privacy.epsilon(1.0, 100, sample_rate=0.1, delta=1e-6) > base


@pytest.mark.parametrize("noise", [5e-324, 1e-200, 1e-3, 1.0, 50.0, 1e6, 1e200, 1e308])
@pytest.mark.filterwarnings("ignore")
def test_privacy_spent_is_never_below_zero_and_never_nan(noise):
    """A8: at the ends of all ranges."""
    pytest.importorskip("opacus")
    for rate in (1e-300, 1e-3, 1 - 1e-16, 1):
        for delta in (1e-300, 0.01, 1 - 1e-16):
            assert privacy.epsilon(noise, sample_rate=rate, delta=delta) >= 0
    assert privacy.epsilon(50.0, sample_rate=0.001, delta=0.01) == 0, "as it was found"
    assert (privacy.epsilon(noise) == math.inf) == (noise < 1e-100)


def test_privacy_spent_needs_opacus(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(ImportError, match="pip install opacus"):
        privacy.epsilon(1.0)


# --- the bound ------------------------------------------------------------------------------------


def test_bound_of_reconstruction_has_its_limits():
    bound = privacy.reconstruction_bound
    assert bound(0, 1) == 0 and bound(1, 1) == 1
    assert bound(0.1, 1e9) == pytest.approx(0.1, abs=1e-6), (
        "much noise: the guess without a message"
    )
    assert bound(0.1, 1e-3) == 1, "hardly any: everything"
    assert bound(0.5, 2.0) == pytest.approx(0.691462, abs=1e-6), "Phi(1/2)"
    assert bound(0.01, 2.0, steps=4) == pytest.approx(bound(0.01, 1.0), rel=1e-9)
    for noise in (5e-324, 1e-200, 1e200, 1e308):
        for steps in (1, 10**9):
            assert bound(0, noise, steps) == 0 and bound(1, noise, steps) == 1
            assert bound(0.1, noise, steps) == pytest.approx(1 if noise < 1 else 0.1)
    several = [bound(0.01, noise) for noise in (0.3, 1, 3, 10)]
    assert several == sorted(several, reverse=True) and min(several) > 0.01


def guesses(model, x, y, noise, draws, truth=0):
    """A stack of many draws of what one client would send under dp_sgd(1, noise)."""
    clean = client.share_gradient(
        model, x[truth, None], y[truth, None], defense=defenses.dp_sgd(1, 0)
    )
    g = torch.Generator().manual_seed(1)
    noisy = {
        n: d + noise * torch.randn(draws, *d.shape, generator=g) for n, d in clean.update.items()
    }
    W = {n: w.expand(draws, *w.shape) for n, w in clean.weights.items()}
    leaks = Leak(W, noisy, victims=draws)
    return adaptive.likeliest(model, leaks, x, y, defend=defenses.clip(1.0))


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_best_attack_of_all_is_as_often_right_as_the_bound(noise, small_digits):
    """One image of two classes: the two gradients are opposite, where the bound is reached."""
    x = small_digits[0][:1].expand(2, -1, -1, -1)
    model = models.mlp(1, 12, hidden=(), classes=2)
    draws = 3000
    right = [
        (guesses(model, x, torch.tensor([0, 1]), noise, draws, truth) == truth).double().mean()
        for truth in (0, 1)
    ]
    bound = privacy.reconstruction_bound(0.5, noise)
    off = (bound * (1 - bound) / (2 * draws)) ** 0.5
    assert abs(sum(right) / 2 - bound) < 4 * off


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
def test_best_attack_among_ten_digits_stays_below_the_bound(noise, digits):
    """Ten digits of different classes, as probable as each other, and the network that is known."""
    images = F.interpolate(digits[0], size=12, mode="area")
    first = [int((digits[1] == c).nonzero()[0]) for c in range(10)]
    x, y = images[first], digits[1][first]
    model = models.mlp(1, 12, hidden=(), classes=10)
    draws = 200
    right = torch.stack([guesses(model, x, y, noise, draws, t) == t for t in range(10)])
    bound = privacy.reconstruction_bound(0.1, noise)
    share, off = float(right.double().mean()), (bound * (1 - bound) / right.numel()) ** 0.5
    assert share < bound + 4 * off, "the bound is one"
    assert share > 0.1 + 0.6 * (bound - 0.1), "and not far off"


# --- soteria --------------------------------------------------------------------------------------


def soteria_slowly(model, layer, inputs, x, y, q):
    """Feature by feature with autograd.grad; inputs(x) (1, M) are those of the layer."""
    update = client.share_gradient(model, x, y).update
    score = 0
    for image in x:
        image = image[None].clone().requires_grad_()
        r = inputs(image)[0]
        slopes = [torch.autograd.grad(feature, image, retain_graph=True)[0].norm() for feature in r]
        score = score + torch.stack(slopes) / r.detach().abs()
    kept = score.argsort()[math.floor(q * len(score)) :]
    mask = torch.zeros(len(score), dtype=torch.bool)
    mask[kept] = True
    return {**update, f"{layer}.weight": torch.where(mask, update[f"{layer}.weight"], 0.0)}


@pytest.mark.parametrize("q", [0.0, 0.3, 0.85, 1.0])
@pytest.mark.parametrize("B", [1, 3])
def test_soteria_is_that_of_a_plain_loop(q, B, small_digits, own_network):
    x, y = small_digits[0][:B].double(), small_digits[1][:B]
    lenet = models.lenet(1, 12, width=4, activation="tanh").double()
    mlp = models.mlp(1, 12, hidden=(20, 15)).double()
    own = own_network().double()

    def features(x):  # what the head of `own` sees
        h = torch.sigmoid(own.norm(own.stem(x)))
        return (h + torch.tanh(own.branch(h))).flatten(1)

    for model, layer, inputs in [
        (lenet, "fc", lenet[:-1]),
        (mlp, "fc2", mlp[:3]),
        (own, "head", features),
    ]:
        before = {n: p.clone() for n, p in model.named_parameters()}
        got = client.share_gradient(model, x, y, defense=defenses.soteria(layer, q)).update
        wanted = soteria_slowly(model, layer, inputs, x, y, q)
        assert_close(got, wanted, rtol=1e-9, atol=1e-12)
        dropped = (got[f"{layer}.weight"] == 0).all(0)
        assert int(dropped.sum()) >= math.floor(q * len(dropped))
        assert_close(dict(model.named_parameters()), before, rtol=0, atol=0)
        assert not any(m._forward_pre_hooks for m in model.modules()), "no hook is left"


class Tokens(nn.Module):
    """A layer that sees every row of an image, and one that sees them all at once."""

    def __init__(self):
        super().__init__()
        self.each, self.head, self.unused = nn.Linear(12, 6), nn.Linear(72, 10), nn.Linear(4, 4)

    def forward(self, x):
        return self.head(input=torch.tanh(self.each(x[:, 0])).flatten(1))


class Renamed(nn.Module):
    """A layer whose weight is computed of others, or is not trained."""

    def __init__(self, change):
        super().__init__()
        self.fc = change(nn.Linear(144, 10))

    def forward(self, x):
        return self.fc(x.flatten(1))


NOT_SEEN_ONCE = {
    "A13 used for each token": (Tokens, "each", "sees 144 numbers of each image; wanted one .* 12"),
    "not used": (Tokens, "unused", "sees 0 numbers"),
    "used twice": (Tied, "twice", "sees 30 numbers"),
    "a weight that has another name": (Tied, "head", "no 'head.weight' is sent"),
    "weight norm": (
        lambda: Renamed(nn.utils.parametrizations.weight_norm), "fc", "no 'fc.weight' is sent"
    ),
    "frozen": (lambda: Renamed(lambda fc: frozen(fc)), "fc", "no 'fc.weight' is sent"),
    "no image in it": (lambda: Renamed(Constant), "fc.fc", "sees 0 numbers"),
}  # fmt: skip


def frozen(layer):
    layer.weight.requires_grad_(False)
    return layer


class Constant(nn.Module):
    """A layer whose input is the same for every image."""

    def __init__(self, fc):
        super().__init__()
        self.fc = fc

    def forward(self, x):
        return x[:, :10] + self.fc(torch.ones_like(x))


@pytest.mark.parametrize("what", NOT_SEEN_ONCE)
def test_layer_that_does_not_see_an_image_once_has_no_columns_to_drop(what, small_digits):
    make, layer, told = NOT_SEEN_ONCE[what]
    model, x, y = make(), small_digits[0][:2], small_digits[1][:2]
    W, buffers = client.state(model)
    with pytest.raises(ValueError, match=f"^layer: got '{layer}', .*{told}"):
        defenses.soteria(layer, 0.5).gradient(model, generator())(W, x, y, buffers)


@pytest.mark.parametrize("kind", [*NOT_BATCHED, "tokens"])
def test_soteria_drops_the_columns_that_a_plain_loop_drops(kind, small_digits):
    """A13, B2: of networks that vmap cannot batch, and behind a layer used for each token."""
    x, y = small_digits[0][:2].double(), small_digits[1][:2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = {**NOT_BATCHED, "tokens": Tokens}[kind]().double()
    seen, named = {}, dict(with_kwargs=True)
    keep = lambda _, args, kwargs: seen.update(r=(*args, *kwargs.values())[0])  # noqa: E731

    def inputs(x):
        with model.head.register_forward_pre_hook(keep, **named):
            model(x)
        return seen["r"]

    if kind in ("item", "in place", "branch"):
        x = x + 0.1  # of a black pixel, |r| is 0
    W, buffers = client.state(model)
    got = defenses.soteria("head", 0.3).gradient(model, generator())(W, x, y, buffers)
    wanted = soteria_slowly(model, "head", inputs, x, y, 0.3)
    assert_close(got, wanted, rtol=1e-8, atol=1e-10)
    assert not model.head._forward_pre_hooks


def test_soteria_of_a_network_that_is_a_linear_layer():
    g = generator()
    model, x = nn.Linear(10, 3), torch.rand(2, 10, generator=g)
    W, buffers = client.state(model)
    got = defenses.soteria("", 0.29).gradient(model, g)(W, x, torch.tensor([0, 1]), buffers)
    assert int((got["weight"] == 0).all(0).sum()) == 2


def test_soteria_of_half_precision_takes_the_columns_of_the_same_rank():
    """Where |r| + 1e-10 is 0, all that is divided by it is NaN."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(6, 3)).half()
    x = torch.tensor([[-1.0, 0.5, -2.0, 0.1, 1.0, 2.0]]).half()
    W, buffers = client.state(model)
    got = defenses.soteria("1", 0.5).gradient(model, generator())(W, x, torch.tensor([1]), buffers)
    # what ReLU stops says nothing, and is dropped first; then the largest
    assert (got["1.weight"] == 0).all(0).nonzero().flatten().tolist() == [0, 2, 5]


def test_soteria_wants_a_linear_layer(small_digits):
    x, y = small_digits[0][:1], small_digits[1][:1]
    for wrong in ("conv1", "nothing"):
        with pytest.raises(ValueError, match=f"^layer: got '{wrong}'; wanted a linear .*: fc$"):
            client.share_gradient(models.lenet(1, 12), x, y, defense=defenses.soteria(wrong, 0.5))


# --- the two defences of DLM's paper --------------------------------------------------------------


def test_factors_of_noise_are_the_largest_norms():
    """A vector by its norm; a matrix and a kernel by their largest norm along the second axis."""
    g = generator()
    W = {
        "bias": torch.randn(7, generator=g),
        "small": 1e-3 * torch.randn(7, generator=g),
        "matrix": torch.randn(4, 9, generator=g),
        "kernel": torch.randn(5, 3, 2, 2, generator=g),
    }
    f = defenses.noise_factors(W, bound=0.2)
    largest_row = max(float(row.norm()) for row in W["matrix"])
    columns = [W["kernel"][i, :, j, k] for i in range(5) for j in range(2) for k in range(2)]
    wanted = {
        "bias": float(W["bias"].norm()) / 0.2,
        "small": 1.0,
        "matrix": largest_row / 0.2,
        "kernel": max(float(column.norm()) for column in columns) / 0.2,
    }
    assert {n: float(size) for n, size in f.items()} == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("law", "variance", "spread"), [("laplace", 2, 20), ("gaussian", 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_on_weights_has_its_law(law, variance, spread, dtype):
    W = {"w": torch.randn(60, 100, generator=generator(1), dtype=dtype), "v": torch.zeros(3000)}
    before = {n: t.clone() for n, t in W.items()}
    noisy = defenses.weights_noise(1e-2, law, bound=0.5).change(W, generator())
    f = defenses.noise_factors(W, 0.5)
    assert f["v"] == 1 < f["w"]
    for n in W:
        assert torch.equal(W[n], before[n]) and noisy[n].dtype == W[n].dtype
        noise = (noisy[n].double() - W[n].double()) / (1e-2 * float(f[n]))
        assert abs(noise.square().mean() - variance) < 5 * (spread / noise.numel()) ** 0.5
    again = defenses.weights_noise(1e-2, law, bound=0.5).change(W, generator())
    assert_close(again, noisy, rtol=0, atol=0)


@pytest.mark.parametrize("s", [0, 0.5, 0.99, 1])
def test_sparsified_weights_are_the_largest(s, direction):
    after = defenses.weights_sparsify(s).change(direction, generator())
    assert_close(after, defenses.prune(s)(direction, generator()), rtol=0, atol=0)


@pytest.mark.parametrize("both", [False, True])
def test_defence_of_both_messages_changes_both_and_not_the_training(both, small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    model = models.lenet(1, 12)
    plain = client.share_weights(model, x, y, lr=0.1, steps=3)
    sparse = client.share_weights(
        model, x, y, lr=0.1, steps=3, defense=defenses.weights_sparsify(0.5, both=both)
    )
    prune = lambda W: defenses.prune(0.5)(W, None)  # noqa: E731
    assert_close(sparse.update, prune(plain.update), rtol=0, atol=0)
    assert_close(sparse.weights, prune(plain.weights) if both else plain.weights, rtol=0, atol=0)
    noisy = client.share_weights(
        model, x, y, lr=0.1, steps=3, defense=defenses.weights_noise(1e-3, both=both)
    )
    moved = flat(noisy.weights) - flat(plain.weights)
    assert bool(moved.any()) == both
    assert not torch.equal(moved, flat(noisy.update) - flat(plain.update)), "other noise"


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [-1e-3, float("nan"), float("inf")])
def test_noise_is_not_negative(sigma):
    with pytest.raises(ValueError, match=f"^sigma: got {sigma}; .*at least 0"):
        defenses.gaussian(sigma)
    for kind in (defenses.laplace, defenses.weights_noise):
        with pytest.raises(ValueError, match=f"^b: got {sigma}; .*at least 0"):
            kind(sigma)
    with pytest.raises(ValueError, match=f"^noise: got {sigma}; .*at least 0"):
        defenses.dp_sgd(1, sigma)


@pytest.mark.parametrize("C", [0, -1.0, float("nan"), float("inf")])
def test_norm_to_clip_at_is_positive(C):
    with pytest.raises(ValueError, match=f"^C: got {C}; .*positive"):
        defenses.clip(C)
    with pytest.raises(ValueError, match=f"^clip: got {C}; .*positive"):
        defenses.dp_sgd(C, 1)
    with pytest.raises(ValueError, match=f"^bound: got {C}; .*positive"):
        defenses.weights_noise(1e-3, bound=C)
    for ask in (privacy.epsilon, partial(privacy.reconstruction_bound, 0.5)):
        with pytest.raises(ValueError, match=f"^noise: got {C}; .*positive"):
            ask(C)


NO_NUMBERS = ["0.5", None, [0.5], (0.1, 0.9), {"p": 0.5}, 0.5j, torch.tensor([0.1, 0.2]), math.sin]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_setting_of_a_defence_is_a_number(value):
    for name, make in {
        "sigma": defenses.gaussian,
        "b": defenses.laplace,
        "C": defenses.clip,
        "p": defenses.prune,
        "bits": defenses.quantize,
        "s": defenses.weights_sparsify,
        "q": partial(defenses.soteria, "fc"),
        "clip": partial(defenses.dp_sgd, noise=1),
        "noise": partial(defenses.dp_sgd, 1),
        "bound": lambda value: defenses.weights_noise(1e-3, bound=value),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: got "):
            make(value)
    with pytest.raises(ValueError, match="^bound: got "):
        adaptive.noisy_weights(value)
    with pytest.raises(ValueError, match="^bound: got "):
        defenses.noise_factors({"w": torch.ones(3)}, value)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_share_is_a_share(p):
    for kind in (defenses.prune, defenses.random_mask):
        with pytest.raises(ValueError, match=f"^p: got {p}; wanted a share"):
            kind(p)
    with pytest.raises(ValueError, match=f"^q: got {p}; wanted a share"):
        defenses.soteria("fc", p)
    with pytest.raises(ValueError, match=f"^s: got {p}; wanted a share"):
        defenses.weights_sparsify(p)
    with pytest.raises(ValueError, match=f"^prior: got {p}; wanted a prob"):
        privacy.reconstruction_bound(p, 1)


def test_nothing_left_cannot_be_rescaled():
    defenses.random_mask(1)
    with pytest.raises(ValueError, match=r"^p: got 1; wanted a share below 1"):
        defenses.random_mask(1, rescale=True)


@pytest.mark.parametrize("bits", [1, 0, 17, 2.5, True, "8"])
def test_bits_are_a_whole_number(bits):
    for kind in (defenses.quantize, adaptive.within_cells):
        with pytest.raises(ValueError, match=f"^bits: got {bits}; wanted a whole number from 2"):
            kind(bits)


def test_half_precision_has_two_kinds():
    with pytest.raises(ValueError, match=r"^dtype: got torch.float32; wanted torch.float16 or"):
        defenses.half(torch.float32)


def test_law_of_noise_on_weights_is_known():
    with pytest.raises(ValueError, match="^law: got 'cauchy'; wanted one of laplace, gaussian"):
        defenses.weights_noise(1e-3, "cauchy")


@pytest.mark.parametrize("steps", [0, -1, float("nan"), 2.5, math.inf, 10**400, True])
def test_steps_are_counted_from_one(steps):
    with pytest.raises(ValueError, match=f"^steps: got {steps}; wanted at least 1"):
        privacy.epsilon(1.0, steps)
    with pytest.raises(ValueError, match=f"^steps: got {steps}; wanted at least 1"):
        privacy.reconstruction_bound(0.1, 1.0, steps)


def test_privacy_is_asked_for_in_range():
    for rate in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"^sample_rate: got {rate}; wanted 0 < sample_rate"):
            privacy.epsilon(1.0, sample_rate=rate)
    for name, value in (("sample_rate", "often"), ("delta", None), ("noise", [1.0])):
        with pytest.raises(ValueError, match=f"^{name}: got "):
            privacy.epsilon(**{"noise": 1.0, name: value})
    with pytest.raises(ValueError, match="^prior: got "):
        privacy.reconstruction_bound("seldom", 1.0)
    for delta in (0, 1, float("nan")):
        with pytest.raises(ValueError, match=f"^delta: got {delta}; wanted 0 < delta < 1"):
            privacy.epsilon(1.0, delta=delta)


# --- the attacker who does not know ---------------------------------------------------------------

STEPS = 120
STOPPED = {
    "noise": defenses.gaussian(0.1),
    "Laplace noise": defenses.laplace(0.1),
    "clipping": defenses.clip(1),
    "pruning": defenses.prune(0.9),
    "pruning of the whole": defenses.prune(0.9, whole=True),
    "quantising": defenses.quantize(2),
    "masking": defenses.random_mask(0.5),
    "masking, rescaled": defenses.random_mask(0.5, rescale=True),
    "several": defenses.compose(defenses.clip(1), defenses.gaussian(0.01)),
    "DP-SGD": defenses.dp_sgd(1, 0.01),
    "Soteria": defenses.soteria("fc", 0.5),
}
NOT_STOPPED = {
    "none": None,
    "half": defenses.half(),
    "bfloat16": defenses.half(torch.bfloat16),
    "8 bits": defenses.quantize(8),
    "hardly any noise": defenses.gaussian(1e-4),
    "hardly clipped": defenses.clip(100),
}


def lenet(i):
    return models.lenet(1, 12, seed=i)


@pytest.mark.parametrize("arms", [STOPPED, NOT_STOPPED], ids=["stopped", "not stopped"])
def test_defences_stop_the_attacker_who_does_not_know(arms, small_digits, share_each):
    """The same three digits, networks and starts, all arms at once; too little of it stops none."""
    x, y = small_digits[0][:3], small_digits[1][:3]
    each = [share_each(lenet, x, y, defense=defense) for defense in arms.values()]
    leak = stack(one for leaks in each for one in apart(leaks))
    x, y = x.repeat(len(arms), 1, 1, 1), y.repeat(len(arms))
    assert torch.equal(labels.idlg(leak)[:, 0], y), "labels leak all the same"
    out = attacks.idlg(lenet(0), leak, (1, 1, 12, 12), steps=STEPS)
    right = (metrics.mse(out.images[:, 0], x) < 1e-3).reshape(-1, 3)
    rate = dict(zip(arms, right.double().mean(1).tolist()))
    assert rate == dict.fromkeys(arms, 0 if arms is STOPPED else 1)
    if arms is STOPPED:
        likeness = metrics.ssim(out.images[:, 0], x).reshape(-1, 3).mean(1)
        assert likeness.max() < 0.5, dict(zip(arms, likeness.tolist()))
    assert not (out.converged & (metrics.mse(out.images[:, 0], x) >= 1e-3)).any()


def apart(leaks):
    """The single leaks of a stack."""
    for i in range(leaks.victims):
        parts = {
            what: {n: t[i] for n, t in getattr(leaks, what).items()}
            for what in ("weights", "update", "buffers")
        }
        yield Leak(**parts, kind=leaks.kind)


def test_defences_of_weights_stop_the_attacker_who_does_not_know(small_digits):
    x, y = small_digits[0][:3], small_digits[1][:3]
    arms = {
        "none": None,
        "noise": defenses.weights_noise(1e-3),
        "sparse": defenses.weights_sparsify(0.5),
    }
    leak = stack(
        client.share_weights(lenet(i), x[i, None], y[i, None], lr=0.1, defense=defense, seed=i)
        for defense in arms.values()
        for i in range(3)
    )
    known = y.repeat(3)[:, None]
    out = attacks.dlm_plus(lenet(0), leak, (1, 1, 12, 12), labels=known, steps=STEPS)
    likeness = metrics.ssim(out.images[:, 0], x.repeat(3, 1, 1, 1)).reshape(3, 3)
    assert likeness[0].min() > 0.9 and likeness[1:].max() < 0.5, likeness


def test_pruned_leak_is_what_crosses_the_wire(small_digits):
    leak = client.share_gradient(
        models.lenet(1, 12), small_digits[0][:1], small_digits[1][:1], defense=defenses.prune(0.9)
    )
    zeros = sum(int((g == 0).sum()) for g in leak.update.values())
    assert zeros >= sum(math.floor(0.9 * g.numel()) for g in leak.update.values())
