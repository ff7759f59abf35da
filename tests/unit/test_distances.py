"""Distances and priors against values worked out by hand."""

import pytest
import torch

from leaklib import distances, priors


def direction(*values):
    """A direction of two tensors of different shapes."""
    v = torch.tensor(values, dtype=torch.float64)
    return {"a": v[:2].reshape(2, 1), "b": v[2:]}


def test_l2_is_the_sum_of_squares_over_all_tensors():
    assert distances.l2(direction(1, 2, 3), direction(1, 0, -1)) == 4 + 16


@pytest.mark.parametrize(
    ("g", "value"),
    [((0, 0, 2), 0), ((0, 0, -3), 2), ((1, 0, 0), 1), ((1, 0, 1), 1 - 0.5**0.5), ((0, 0, 0), 1)],
)
def test_cosine_is_of_all_tensors_together(g, value):
    assert distances.cosine(direction(*g), direction(0, 0, 1)) == pytest.approx(value)


def test_cosine_does_not_see_the_scale():
    generator = torch.Generator().manual_seed(0)
    g, h = (
        direction(*torch.randn(5, generator=generator, dtype=torch.float64).tolist())
        for _ in range(2)
    )
    wanted = distances.cosine(g, h)
    scaled = {name: 1e-3 * t for name, t in h.items()}
    torch.testing.assert_close(distances.cosine(g, scaled), wanted)


@pytest.mark.parametrize("small", [1e-3, 1e-5])
def test_cosine_keeps_its_digits_where_the_two_agree(small):
    """In float32, 1 - <g, h> / (|g| |h|) of an angle below 2e-4 is only rounding."""
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(5000, generator=generator, dtype=torch.float64)
    g = h + small * torch.randn(5000, generator=generator, dtype=torch.float64)
    of = lambda v: {"a": v[:4990].float(), "b": v[4990:].float()}  # noqa: E731
    wanted = float(1 - g @ h / (g.norm() * h.norm()))
    assert wanted == pytest.approx(small**2 / 2, rel=0.1)
    assert float(distances.cosine(of(g), of(h))) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_cosine_and_its_derivative_are_those_of_the_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    a.requires_grad_()
    of = lambda v: {"a": v[:2].reshape(2, 1), "b": v[2:]}  # noqa: E731
    plain = 1 - a @ b / (a.norm() * b.norm())
    value = distances.cosine(of(a), of(b))
    torch.testing.assert_close(value, plain)
    (wanted,), (got,) = (torch.autograd.grad(v, a) for v in (plain, value))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("zero", ["g", "h"])
def test_cosine_of_zero_has_a_finite_gradient(zero):
    z = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    other = torch.ones(4, dtype=torch.float64)
    g, h = ({"a": z}, {"a": other}) if zero == "g" else ({"a": z + 1}, {"a": 0 * other})
    distances.cosine(g, h).backward()
    assert z.grad.isfinite().all()


# --- distances that do not see a scale, or look for it ------------------------------------------

SCALE_FREE = [distances.mean_norm, distances.each_norm, distances.cosine]
DISTANCES = [*SCALE_FREE, distances.projected]


def drawn(seed, dtype=torch.float64):
    """Two directions of four tensors of different shapes and sizes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv": (3, 2, 2), "scale": (), "fc": (4, 3), "bias": (4,)}
    draw = lambda: {  # noqa: E731
        name: 10.0**-i * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for i, (name, shape) in enumerate(shapes.items())
    }
    return draw(), draw()


def flat(d, scales=None):
    return torch.cat([t.flatten() / (scales[n] if scales else 1) for n, t in d.items()])


def plain(distance, g, h):
    """Each formula written out, tensor after tensor."""
    norms_g, norms_h = ({n: t.square().sum().sqrt() for n, t in d.items()} for d in (g, h))
    if distance is distances.mean_norm:
        n_g, n_h = (sum(norms.values()) / 4 for norms in (norms_g, norms_h))
        return sum(((g[n] / n_g - h[n] / n_h) ** 2).sum() for n in h)
    if distance is distances.each_norm:
        return sum(((g[n] / norms_g[n] - h[n] / norms_h[n]) ** 2).sum() for n in h)
    a, b = flat(g), flat(h)
    cos = a @ b / (a.norm() * b.norm())
    return a @ a * (1 - cos**2) if distance is distances.projected else 1 - cos


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", DISTANCES)
def test_distance_and_its_derivative_are_those_of_the_formula(distance, seed):
    """The norm of the guess is not held fixed: the derivative goes through it."""
    g, h = drawn(seed)
    for tensor in g.values():
        tensor.requires_grad_()
    wanted, got = plain(distance, g, h), distance(g, h)
    assert got.shape == ()
    torch.testing.assert_close(got, wanted)
    slopes = [torch.autograd.grad(value, list(g.values())) for value in (got, wanted)]
    for mine, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("distance", SCALE_FREE)
def test_scale_of_either_does_not_count(distance, seed):
    g, h = drawn(seed)
    wanted = distance(g, h)
    for scale in (1e-6, 0.3, 1e5):
        scaled = lambda d: {n: scale * t for n, t in d.items()}  # noqa: B023, E731
        torch.testing.assert_close(distance(scaled(g), h), wanted)
        torch.testing.assert_close(distance(g, scaled(h)), wanted)
        torch.testing.assert_close(distance(scaled(h), h), torch.zeros_like(wanted))
    assert distance({n: -t for n, t in h.items()}, h) > 1, "and the sign does"


def test_each_norm_does_not_see_the_scale_of_any_tensor():
    g, h = drawn(5)
    uneven = {n: 10.0**i * t for i, (n, t) in enumerate(h.items())}
    torch.testing.assert_close(distances.each_norm(g, uneven), distances.each_norm(g, h))
    assert abs(distances.mean_norm(g, uneven) - distances.mean_norm(g, h)) > 0.1


@pytest.mark.parametrize("seed", range(4))
def test_projected_is_the_smallest_distance_over_all_scales(seed):
    """Against a grid of k, ever finer around the best so far."""
    g, h = drawn(seed)
    low, high = -1e3, 1e3
    for _ in range(12):
        grid = torch.linspace(low, high, 201, dtype=torch.float64)
        values = torch.stack([distances.l2(g, {n: k * t for n, t in h.items()}) for k in grid])
        best, step = grid[values.argmin()], grid[1] - grid[0]
        low, high = best - 2 * step, best + 2 * step
    torch.testing.assert_close(distances.projected(g, h), values.min())
    for scale in (1e-3, -7.0):
        scaled = {n: scale * t for n, t in h.items()}
        torch.testing.assert_close(distances.projected(g, scaled), distances.projected(g, h))
    small = {n: 1e-3 * t for n, t in g.items()}
    torch.testing.assert_close(distances.projected(small, h), 1e-6 * distances.projected(g, h))


def test_projected_falls_with_the_guess_and_cosine_does_not():
    """Why DLM collapses: a gradient that vanishes matches any message."""
    g, h = drawn(1)
    tiny = {n: 1e-6 * t for n, t in g.items()}
    assert distances.projected(tiny, h) < 1e-11 * distances.projected(g, h)
    for distance in SCALE_FREE:
        torch.testing.assert_close(distance(tiny, h), distance(g, h))


@pytest.mark.parametrize("seed", range(3))
def test_cosine_is_half_the_squared_distance_by_the_norm_of_the_whole(seed):
    """What `mean_norm` would be with another normaliser; of one tensor the three are the same."""
    g, h = drawn(seed)
    a, b = flat(g), flat(h)
    whole = (a / a.norm() - b / b.norm()).square().sum()
    torch.testing.assert_close(distances.cosine(g, h), whole / 2)
    g, h = ({"fc": d["fc"]} for d in (g, h))
    twice = 2 * distances.cosine(g, h)
    torch.testing.assert_close(distances.mean_norm(g, h), twice)
    torch.testing.assert_close(distances.each_norm(g, h), twice)


@pytest.mark.parametrize("zero", ["all", "bias", "scale"])
@pytest.mark.parametrize("which", ["g", "h"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_zeros_have_a_finite_value_and_derivative(distance, which, zero):
    g, h = drawn(2)
    for name in (g if which == "g" else h) if zero == "all" else [zero]:
        (g if which == "g" else h)[name].zero_()
    for tensor in g.values():
        tensor.requires_grad_()
    value = distance(g, h)
    slopes = torch.autograd.grad(value, list(g.values()))
    assert value.isfinite() and all(slope.isfinite().all() for slope in slopes)


def test_zero_stays_zero():
    """What a message of nothing is apart from one of norm one, by each normaliser."""
    g, h = drawn(3)
    nothing = {n: torch.zeros_like(t) for n, t in h.items()}
    of = lambda d, scales: flat(d, scales).square().sum()  # noqa: E731
    norms = {n: t.norm() for n, t in h.items()}
    mean = dict.fromkeys(h, sum(norms.values()) / 4)
    torch.testing.assert_close(distances.mean_norm(nothing, h), of(h, mean))
    torch.testing.assert_close(distances.each_norm(nothing, h), of(h, norms))
    assert distances.each_norm(nothing, h) == pytest.approx(4)
    assert distances.projected(nothing, h) == 0
    torch.testing.assert_close(distances.projected(g, nothing), flat(g).square().sum())
    for distance in DISTANCES[:2]:
        torch.testing.assert_close(distance(g, nothing), distance(nothing, g))
        assert distance(nothing, nothing) == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_are_batched_by_vmap(distance):
    pairs = [drawn(seed) for seed in range(3)]
    g, h = ({n: torch.stack([pair[i][n] for pair in pairs]) for n in pairs[0][i]} for i in (0, 1))
    wanted = torch.stack([distance(*pair) for pair in pairs])
    torch.testing.assert_close(torch.func.vmap(distance)(g, h), wanted)


@pytest.mark.parametrize("distance", [distances.mean_norm, distances.each_norm])
def test_scale_free_distance_keeps_its_digits_in_single_precision(distance):
    generator = torch.Generator().manual_seed(1)
    h = {"a": torch.randn(5000, generator=generator, dtype=torch.float64)}
    noise = torch.randn(5000, generator=generator, dtype=torch.float64)
    g = {"a": 1e-4 * (h["a"] + 1e-4 * noise)}
    single = ({"a": d["a"].float()} for d in (g, h))
    assert float(distance(*single)) == pytest.approx(float(distance(g, h)), rel=0.02)


def test_names_of_the_leak_decide_what_is_compared():
    g = direction(1, 2, 3)
    h = {"b": g["b"] + 1}
    assert distances.l2(g, h) == 1
    for distance in DISTANCES:
        assert distance(g, h) == distance({"b": g["b"]}, h)


def test_total_variation_is_the_mean_step_between_neighbours():
    x = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    assert priors.total_variation()(x) == pytest.approx((0 + 0 + 1) / 3 + (1 + 0 + 1 + 1) / 4)
    assert priors.total_variation()(torch.full((2, 3, 5, 5), 0.3)) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_total_variation_orders_real_images_and_noise(channels, digits):
    noise = torch.rand(4, channels, 28, 28, generator=torch.Generator().manual_seed(0))
    image = digits[0][:4].expand(4, channels, 28, 28)
    assert priors.total_variation()(image) < priors.total_variation()(noise) / 2
