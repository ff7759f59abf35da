"""Who knows the defence gets most of the image back, but not from DP-SGD."""

import math

import pytest
import torch
from scipy.stats import laplace
from torch import nn

from leaklib import (
    adaptive,
    attacks,
    client,
    data,
    defenses,
    distances,
    metrics,
    models,
    priors,
)
from leaklib.leak import Leak, stack


def tensors(seed, *lead, dtype=torch.float64):
    """A direction of three tensors on different scales."""
    g = torch.Generator().manual_seed(seed)
    sizes = {"a": (4, 5), "b": (7,), "c": (2, 3, 2, 2)}
    return {
        n: (i + 1) * torch.randn(*lead, *size, generator=g, dtype=dtype)
        for i, (n, size) in enumerate(sizes.items())
    }


def leak_of(direction, weights=None):
    return Leak(tensors(99) if weights is None else weights, direction)


def flat(direction):
    return torch.cat([d.flatten() for d in direction.values()])


def finite_slope(defend, gradient, leak):
    """The derivative of the distance by the attacker's own gradient holds no NaN."""
    gradient = {n: g.clone().requires_grad_() for n, g in gradient.items()}
    distances.l2(defend(gradient, leak), leak.direction).backward()
    return all(g.grad is None or g.grad.isfinite().all() for g in gradient.values())


# --- what is compared -----------------------------------------------------------------------------


def test_only_what_was_sent_is_compared():
    g, h = tensors(0), tensors(1)
    mask = {
        n: torch.rand(d.shape, generator=torch.Generator().manual_seed(2)) < 0.5
        for n, d in h.items()
    }
    leak = leak_of({n: h[n] * mask[n] for n in h})
    seen = adaptive.entries_sent(g, leak)
    for n in g:
        assert torch.equal(seen[n], g[n] * mask[n])
    wanted = sum((g[n] - h[n])[mask[n]].square().sum() for n in g)
    torch.testing.assert_close(distances.l2(seen, leak.direction), wanted)


def test_only_what_has_changed_is_compared_of_weights():
    W, h = tensors(3), tensors(1)
    h["b"][:4] = 0
    leak = Leak(W, {n: W[n] - h[n] for n in W}, "weights")
    seen = adaptive.entries_sent(tensors(0), leak)
    assert not seen["b"][:4].any() and seen["b"][4:].all() and seen["a"].all()


def test_directions_are_compared_without_their_length():
    """The distance is 2 ||h||^2 (1 - cos)."""
    g, leak = tensors(0), leak_of(tensors(1))
    scaled = adaptive.scale_free(g, leak)
    h = leak.direction
    torch.testing.assert_close(flat(scaled).norm(), flat(h).norm())
    wanted = 2 * flat(h).square().sum() * distances.cosine(g, h)
    torch.testing.assert_close(distances.l2(scaled, h), wanted)
    louder = adaptive.scale_free({n: 7 * d for n, d in g.items()}, leak)
    torch.testing.assert_close(flat(louder), flat(scaled))
    zero = {n: torch.zeros_like(d) for n, d in g.items()}
    assert not flat(adaptive.scale_free(zero, leak)).any()
    assert finite_slope(adaptive.scale_free, zero, leak)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_nothing_within_half_a_level_counts(bits):
    """Entry by entry: the distance of g from the interval of what is rounded to h."""
    sent = defenses.quantize(bits)(tensors(1), None)
    leak, g = leak_of(sent), tensors(0)
    seen = adaptive.within_cells(bits)(g, leak)
    total = 0.0
    for n, h in sent.items():
        delta = float(h.abs().max()) / (2 ** (bits - 1) - 1)
        for mine, theirs in zip(g[n].flatten().tolist(), h.flatten().tolist(), strict=True):
            total += max(abs(mine - theirs) - delta / 2, 0) ** 2
    assert float(distances.l2(seen, sent)) == pytest.approx(total, rel=1e-9)
    truth = adaptive.within_cells(bits)(tensors(1), leak)
    assert float(distances.l2(truth, sent)) < 1e-25, "what was rounded fits"
    assert float(distances.l2(tensors(1), sent)) > 1e-6
    zero = leak_of({n: torch.zeros_like(h) for n, h in sent.items()})
    assert_same(adaptive.within_cells(bits)(g, zero), g)


def assert_same(got, wanted):
    assert list(got) == list(wanted) and torch.equal(flat(got), flat(wanted))


def test_what_is_left_out_does_not_count():
    g, leak = tensors(0), leak_of(tensors(1))
    seen = adaptive.left_out("a", "c")(g, leak)
    h = leak.direction
    torch.testing.assert_close(distances.l2(seen, h), (g["b"] - h["b"]).square().sum())
    assert list(seen) == list(g)


WORDS = {
    "entries sent": adaptive.entries_sent,
    "scale free": adaptive.scale_free,
    "cells": adaptive.within_cells(4),
    "left out": adaptive.left_out("a"),
    "noisy weights": adaptive.noisy_weights(),
}


@pytest.mark.parametrize("which", WORDS)
def test_stack_is_no_message_of_one_victim(which):
    """It would be compared with each of them at once."""
    stacked = Leak(tensors(9, 3), tensors(1, 3), victims=3)
    with pytest.raises(ValueError, match="^leak: got a stack of 3; wanted the leak of one victim"):
        WORDS[which](tensors(0), stacked)


@pytest.mark.parametrize("which", WORDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-4, 1.0, 300.0])
def test_half_precision_is_compared_as_float32_is(which, dtype, size):
    """Squares of small numbers vanish in 16 bits, and those of large ones are infinite."""
    g, h, W = ({n: (size * t).to(dtype) for n, t in tensors(i).items()} for i in (0, 1, 2))
    wide = lambda d: {n: t.float() for n, t in d.items()}  # noqa: E731
    got = distances.l2(WORDS[which](g, Leak(W, h)), h)
    wanted = distances.l2(WORDS[which](wide(g), Leak(wide(W), wide(h))), wide(h))
    assert got.isfinite() and wanted > 0
    torch.testing.assert_close(got.double(), wanted.double(), rtol=0.05, atol=0)


@pytest.mark.parametrize("which", WORDS)
def test_number_without_an_axis_is_compared_as_others_are(which):
    as_is, as_list = ({n: t.reshape(-1)[:1] for n, t in tensors(i).items()} for i in (0, 1))
    alone = [{n: t[0] for n, t in d.items()} for d in (as_is, as_list)]
    got = WORDS[which](alone[0], Leak(alone[1], alone[1]))
    wanted = WORDS[which](as_is, Leak(as_list, as_list))
    assert all(t.shape == () for t in got.values())
    torch.testing.assert_close(torch.stack(list(got.values())), flat(wanted))


@pytest.mark.parametrize("which", WORDS)
def test_message_of_zeros_gives_no_nan(which):
    zero = {n: torch.zeros_like(t) for n, t in tensors(0).items()}
    for g in (tensors(0), zero):
        assert flat(WORDS[which](g, Leak(zero, zero))).isfinite().all()
        assert finite_slope(WORDS[which], g, Leak(zero, zero))


@pytest.mark.parametrize("which", WORDS)
def test_what_the_client_kept_is_not_compared(which):
    g, kept = tensors(0), {"a": tensors(1)["a"], "b": tensors(1)["b"]}
    seen = WORDS[which](g, Leak(tensors(2), kept))
    assert distances.l2(seen, kept).isfinite()


# --- what is known of noise and of images ---------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_distance_is_how_likely_the_noise_is(sigma):
    """Differences of two guesses are those of the logarithm of the density."""
    one, two, h = tensors(0), tensors(1), tensors(2)
    density = lambda g: torch.distributions.Normal(flat(g), sigma).log_prob(flat(h)).sum()  # noqa: E731
    distance = distances.likelihood(sigma)
    torch.testing.assert_close(distance(one, h) - distance(two, h), density(two) - density(one))
    assert distance(h, h) == 0


@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_prior_is_how_probable_the_differences_are(scale):
    x = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grey = torch.full_like(x, 0.5)
    neighbours = [(x[..., 1:, :] - x[..., :-1, :]), (x[..., :, 1:] - x[..., :, :-1])]
    wanted = sum(
        laplace.logpdf(0, scale=scale) - laplace.logpdf(float(d), scale=scale)
        for part in neighbours
        for d in part.flatten()
    )
    prior = priors.smooth(scale)
    assert float(prior(x)) == pytest.approx(wanted, rel=1e-9) and prior(grey) == 0


@pytest.mark.parametrize("bound", [0.2, 2.0])
def test_noise_on_weights_is_weighed_at_the_best_scale(bound):
    """No other scale s of the guess makes the noise, in units of its strength, smaller."""
    g, h, W = tensors(0), tensors(1), tensors(2)
    leak = Leak(W, {n: W[n] - h[n] for n in W}, "weights")
    f = defenses.noise_factors(W, bound)
    assert len(set(map(float, f.values()))) > 1
    defend = adaptive.noisy_weights(bound)
    got = distances.l2(defend(g, leak), h)
    of = lambda s: sum(((s * g[n] - h[n]) / f[n]).square().sum() for n in g)  # noqa: E731
    several = torch.stack([of(s) for s in torch.linspace(-5, 5, 20001, dtype=torch.float64)])
    torch.testing.assert_close(got, several.min(), rtol=1e-6, atol=0)
    louder = {n: 50 * d for n, d in g.items()}
    torch.testing.assert_close(distances.l2(defend(louder, leak), h), got)
    zero = {n: torch.zeros_like(d) for n, d in g.items()}
    torch.testing.assert_close(distances.l2(defend(zero, leak), h), of(0))
    assert finite_slope(defend, zero, leak)


@pytest.mark.parametrize("lead", [(), (3,)])
def test_weights_that_came_as_zero_count_as_not_sent(lead):
    W, new = tensors(0, *lead), tensors(1, *lead)
    dropped = {
        n: torch.rand(w.shape, generator=torch.Generator().manual_seed(2)) < 0.4
        for n, w in W.items()
    }
    sent = {n: torch.where(dropped[n], 0.0, w) for n, w in new.items()}
    leak = Leak(W, sent, "weights", victims=lead[0] if lead else None)
    h = adaptive.without_zeros(leak).direction
    for n in W:
        assert not h[n][dropped[n]].any()
        assert torch.equal(h[n][~dropped[n]], (W[n] - new[n])[~dropped[n]])
        assert torch.equal(leak.update[n], sent[n]), "the leak itself is left as it was"


# --- the best guess among known images ------------------------------------------------------------


def test_likeliest_of_the_known_images(small_digits, own_network):
    x, y = small_digits
    for model in (models.lenet(1, 12), own_network()):
        single = client.share_gradient(model, x[5:6], y[5:6], defense=defenses.gaussian(1e-4))
        assert adaptive.likeliest(model, single, x, y).tolist() == [5]
        several = stack(
            client.share_gradient(model, x[i, None], y[i, None], defense=defenses.clip(0.1), seed=i)
            for i in (3, 7, 9, 20)
        )
        knows = adaptive.likeliest(model, several, x, y, defend=defenses.clip(0.1))
        assert knows.dtype == torch.int64 and knows.tolist() == [3, 7, 9, 20]
        naive = adaptive.likeliest(model, several, x, y)
        assert naive.tolist() != [3, 7, 9, 20], "all are far from what was clipped"


def test_likeliest_is_that_of_a_plain_loop(small_digits):
    """Each victim with weights of its own, and noise so loud that some guesses are wrong."""
    x, y = small_digits[0][:8], small_digits[1][:8]
    nets = [models.mlp(1, 12, hidden=(5,), seed=i) for i in range(6)]
    leaks = [
        client.share_gradient(net, x[i, None], y[i, None], defense=defenses.gaussian(0.5), seed=i)
        for i, net in enumerate(nets)
    ]
    wanted = []
    for net, leak in zip(nets, leaks, strict=True):
        apart = [
            distances.l2(client.share_gradient(net, x[j, None], y[j, None]).update, leak.update)
            for j in range(8)
        ]
        wanted.append(int(torch.stack(apart).argmin()))
    assert adaptive.likeliest(nets[0], stack(leaks), x, y).tolist() == wanted
    assert wanted != list(range(6))


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self, kind):
        super().__init__()
        self.rows, self.head = kind(12, 8, batch_first=True), nn.Linear(8, 10)
        self.factor = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.factor * self.head(self.rows(x[:, 0])[0][:, -1])


class PerImage(nn.Module):
    """A linear layer, and arithmetic of each image that vmap does not know."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(144, 10)

    def forward(self, x):
        logits = self.head(x.flatten(1))
        total = torch.zeros(len(logits), 10, dtype=logits.dtype)
        total += torch.stack([row * (1 + row.detach().max().item() ** 2) for row in logits])
        return total


@pytest.mark.filterwarnings("ignore:this network cannot be batched")
@pytest.mark.parametrize("kind", ["GRU", "RNN", "item, in place"])
def test_likeliest_of_a_network_that_vmap_cannot_batch_is_that_of_a_plain_loop(kind, small_digits):
    """B2"""
    x, y = small_digits[0][:6].double(), small_digits[1][:6]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PerImage() if kind.startswith("item") else Rows(getattr(nn, kind))
    model = model.double()
    noise = defenses.gaussian(0.3)
    leaks = [
        client.share_gradient(model, x[i, None], y[i, None], defense=noise, seed=i)
        for i in range(4)
    ]
    wanted = []
    for leak in leaks:
        apart = [
            distances.l2(client.gradient(model)(leak.weights, x[j, None], y[j, None]), leak.update)
            for j in range(6)
        ]
        wanted.append(int(torch.stack(apart).argmin()))
    assert adaptive.likeliest(model, stack(leaks), x, y).tolist() == wanted
    assert adaptive.likeliest(model, leaks[0], x, y).tolist() == wanted[:1]


def test_likeliest_knows_the_loss(small_digits):
    """B7: targets of any kind."""
    x, y = small_digits[0][:6], torch.rand(6, 10, generator=torch.Generator().manual_seed(0))
    model, loss = models.lenet(1, 12), nn.BCEWithLogitsLoss()
    leak = client.share_gradient(model, x[2:3], y[2:3], loss=loss)
    assert adaptive.likeliest(model, leak, x, y, loss=loss).tolist() == [2]


def test_likeliest_of_weights_has_to_know_their_scale(small_digits):
    """A18: their change is the gradient times a rate that nobody sent."""
    x, y = small_digits
    model = models.lenet(1, 12)
    leak = client.share_weights(model, x[5:6], y[5:6], lr=0.01)
    with pytest.raises(ValueError, match="^leak: got weights, .*wanted a gradient, or a defend"):
        adaptive.likeliest(model, leak, x, y)
    known = lambda g, _: {n: 0.01 * t for n, t in g.items()}  # noqa: E731
    for defend in (adaptive.scale_free, known):
        assert adaptive.likeliest(model, leak, x, y, defend).tolist() == [5]


def test_nothing_is_likeliest_where_no_distance_is_a_number(small_digits):
    """Of a NaN, the smallest is the first."""
    x, y = small_digits
    model = models.lenet(1, 12)
    leak = client.share_gradient(model, x[5:6], y[5:6])
    nothing = lambda g, _: {n: t * torch.nan for n, t in g.items()}  # noqa: E731
    assert adaptive.likeliest(model, leak, x, y, nothing).tolist() == [-1]
    broken = lambda g, _: {n: t / (g["fc.bias"][y[0]] > 0) for n, t in g.items()}  # noqa: E731
    assert adaptive.likeliest(model, leak, x, y, broken).tolist() != [0]


# --- the attacks ----------------------------------------------------------------------------------


def photo_leaks(defense, size=16, count=3, lr=None):
    """What three clients send of a photograph each, and the true images and labels (V, 1)."""
    photos = data.load("photos", size=size)
    rows = torch.randperm(72, generator=torch.Generator().manual_seed(0))[:count]
    x, y = (part[rows] for part in photos)
    share = client.share_gradient if lr is None else client.share_weights
    leak = stack(
        share(
            models.lenet(3, size, seed=i), x[i, None], y[i, None], defense=defense, seed=i,
            **({} if lr is None else {"lr": lr}),
        )
        for i in range(count)
    )  # fmt: skip
    return leak, x, y[:, None]


def likeness(leak, x, y, steps, attack=attacks.idlg, **settings):
    """SSIM (V,) of the attack that knows the label."""
    size = x.shape[-1]
    out = attack(models.lenet(3, size), leak, (1, 3, size, size), labels=y, steps=steps, **settings)
    return metrics.ssim(out.images[:, 0], x)


@pytest.mark.parametrize(
    ("defense", "defend", "steps", "least"),
    [
        (defenses.random_mask(0.5), adaptive.entries_sent, 400, 0.9),
        (defenses.prune(0.9), adaptive.entries_sent, 450, 0.6),
        (defenses.clip(1), adaptive.scale_free, 120, 0.8),
    ],
    ids=["mask 0.5", "prune 0.9", "clip 1"],
)
def test_photographs_of_32_pixels_come_back(defense, defend, steps, least):
    leak, x, y = photo_leaks(defense, 32)
    knows = likeness(leak, x, y, steps, defend=defend)
    assert knows.min() > least, knows


STEPS = 100
DEFENSES = {
    "mask": defenses.random_mask(0.5),
    "prune": defenses.prune(0.8),
    "clip": defenses.clip(1),
    "Soteria": defenses.soteria("fc", 0.9),
    "3 bits": defenses.quantize(3),
}


@pytest.fixture(scope="module")
def naive():
    """SSIM {defence: (V,)} of the attacker who does not know, all in one search."""
    each = {name: photo_leaks(defense) for name, defense in DEFENSES.items()}
    leaks, x, y = zip(*each.values(), strict=True)
    pile = {
        what: {n: torch.cat([getattr(leak, what)[n] for leak in leaks]) for n in leaks[0].weights}
        for what in ("weights", "update")
    }
    together = Leak(**pile, victims=3 * len(leaks))
    scores = likeness(together, torch.cat(x), torch.cat(y), STEPS)
    return dict(zip(each, scores.split(3), strict=True))


@pytest.mark.parametrize(
    ("which", "defend", "least"),
    [
        ("mask", adaptive.entries_sent, 0.97),
        ("prune", adaptive.entries_sent, 0.85),
        ("clip", adaptive.scale_free, 0.97),
        ("clip", defenses.clip(1), 0.97),
        ("Soteria", adaptive.entries_sent, 0.97),
        ("Soteria", adaptive.left_out("fc.weight"), 0.97),
        ("3 bits", adaptive.within_cells(3), 0.7),
    ],
)
def test_who_knows_the_defence_gets_the_image_back(which, defend, least, naive):
    """The same messages, starts and evaluations, for both."""
    knows = likeness(*photo_leaks(DEFENSES[which]), STEPS, defend=defend)
    assert knows.min() > least, knows
    assert (knows > naive[which] + 0.15).all() and naive[which].mean() < 0.5, naive[which]


def test_who_knows_the_noise_finds_the_most_probable_image():
    leak, x, y = photo_leaks(defenses.gaussian(3e-2))
    naive = likeness(leak, x, y, 100)
    knows = likeness(leak, x, y, 100, distance=distances.likelihood(3e-2), prior=priors.smooth(0.1))
    assert (knows > naive).all() and knows.mean() > naive.mean() + 0.1, (naive, knows)


def test_who_knows_the_noise_on_weights_weighs_it():
    b = 3e-4
    leak, x, y = photo_leaks(defenses.weights_noise(b), lr=0.1)
    naive = likeness(leak, x, y, 100, attacks.dlm_plus)
    knows = likeness(
        leak, x, y, 100, attacks.dlm_plus, defend=adaptive.noisy_weights(),
        distance=distances.likelihood(2**0.5 * b), prior=priors.smooth(0.1),
    )  # fmt: skip
    assert (knows > naive).all() and knows.mean() > naive.mean() + 0.1, (naive, knows)


def test_weights_that_were_dropped_can_be_seen():
    leak, x, y = photo_leaks(defenses.weights_sparsify(0.5), lr=0.1)
    naive = likeness(leak, x, y, 60, attacks.dlm_plus)
    knows = likeness(
        adaptive.without_zeros(leak), x, y, STEPS, attacks.dlm_plus, defend=adaptive.entries_sent
    )
    assert knows.min() > 0.95 and naive.max() < 0.3, (naive, knows)


def test_dp_sgd_holds_against_whoever_knows_it():
    noise = 0.1
    leak, x, y = photo_leaks(defenses.dp_sgd(1, noise))
    for settings in (
        dict(defend=defenses.clip(1)),
        dict(defend=adaptive.scale_free),
        dict(
            defend=defenses.clip(1), distance=distances.likelihood(noise),
            prior=priors.smooth(0.1),
        ),
    ):  # fmt: skip
        assert likeness(leak, x, y, 60, **settings).max() < 0.35
    hardly, x, y = photo_leaks(defenses.dp_sgd(1, 1e-4))
    assert likeness(hardly, x, y, 100, defend=defenses.clip(1)).min() > 0.9, "the same, without"


def test_masked_network_of_the_readers_own(own_network, small_digits, share_each):
    x, y = small_digits[0][:3], small_digits[1][:3]
    for defense, defend in [
        (defenses.random_mask(0.5), adaptive.entries_sent),
        (defenses.soteria("head", 0.5), adaptive.left_out("head.weight")),
    ]:
        leak = share_each(own_network, x, y, defense=defense)
        out = attacks.idlg(
            own_network(), leak, (1, 1, 12, 12), labels=y[:, None], steps=200, defend=defend
        )
        assert metrics.success_rate(out.images, x) == 1


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1.0, math.nan])
def test_scales_are_positive(value):
    with pytest.raises(ValueError, match=f"^sigma: got {value}; wanted .*positive"):
        distances.likelihood(value)
    with pytest.raises(ValueError, match=f"^scale: got {value}; wanted .*positive"):
        priors.smooth(value)


def test_gradient_has_no_weights_to_drop():
    with pytest.raises(ValueError, match="^leak: got a gradient; wanted weights"):
        adaptive.without_zeros(leak_of(tensors(0)))


def test_likeliest_is_of_one_image_and_of_this_network(small_digits):
    x, y = small_digits
    model = models.lenet(1, 12)
    with pytest.raises(ValueError, match="^leak: got a batch of 2; wanted one image"):
        adaptive.likeliest(model, client.share_gradient(model, x[:2], y[:2]), x, y)
    other = client.share_gradient(models.mlp(1, 12), x[:1], y[:1])
    with pytest.raises(ValueError, match="^leak.weights: got no 'conv1.weight'"):
        adaptive.likeliest(model, other, x, y)


def test_likeliest_is_not_asked_of_a_random_network(small_digits):
    x, y = small_digits
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(144, 10)).eval()
    leak = client.share_gradient(model, x[:1], y[:1])
    with pytest.raises(ValueError, match="^model: got .*random.*'1'; wanted model.eval()"):
        adaptive.likeliest(model.train(), leak, x, y)
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(144, 10)).eval()
    leak = client.share_gradient(model, x[:1], y[:1])
    with pytest.raises(ValueError, match="^model: got .*mixes .*'0'; wanted model.eval()"):
        adaptive.likeliest(model.train(), leak, x, y)


NO_GUESSES = {
    "a list of images": ("images", [[0.5]], [0]),
    "no image": ("images", torch.zeros(0, 1, 12, 12), torch.zeros(0).long()),
    "tokens": ("images", torch.zeros(2, 1, 12, 12).long(), torch.tensor([0, 1])),
    "images of bytes": ("images", torch.zeros(2, 1, 12, 12).byte(), torch.tensor([0, 1])),
    "a NaN": ("images", torch.full((2, 1, 12, 12), torch.nan), torch.tensor([0, 1])),
    "another size": ("images", torch.zeros(2, 1, 13, 13), torch.tensor([0, 1])),
    "other numbers": ("images", torch.zeros(2, 1, 12, 12).double(), torch.tensor([0, 1])),
    "too few labels": ("labels", torch.zeros(2, 1, 12, 12), torch.tensor([0])),
    "a label": ("labels", torch.zeros(2, 1, 12, 12), torch.tensor(0)),
    "no labels": ("labels", torch.zeros(2, 1, 12, 12), None),
    "labels of floats": ("labels", torch.zeros(2, 1, 12, 12), torch.tensor([0.0, 1.0])),
    "no class": ("labels", torch.zeros(2, 1, 12, 12), torch.tensor([0, 10])),
}


@pytest.mark.parametrize("what", NO_GUESSES)
def test_guesses_are_images_of_the_network_and_their_labels(what, small_digits):
    name, images, labels = NO_GUESSES[what]
    model = models.lenet(1, 12)
    leak = client.share_gradient(model, small_digits[0][:1], small_digits[1][:1])
    with pytest.raises(ValueError, match=f"^{name}: got "):
        adaptive.likeliest(model, leak, images, labels)


@pytest.mark.parametrize("names", [(), (["a", "b"],), (1,), (None,), ({"a": 1},)])
def test_tensors_are_left_out_by_name(names):
    with pytest.raises(ValueError, match="^names: got .*; wanted names of tensors"):
        adaptive.left_out(*names)


def test_tensors_that_are_left_out_were_sent():
    with pytest.raises(ValueError, match=r"^names: got \['d'\]; wanted some of \['a', 'b', 'c'\]"):
        adaptive.left_out("a", "d")(tensors(0), leak_of(tensors(1)))
