"""Solvers of many problems at once, against plain loops and torch's own optimisers."""

import pytest
import torch
from torch.func import vmap

from leaklib import client, distances, models, solvers
from leaklib.solvers import frequencies
from leaklib.solvers.history import Pairs

ALL = [solvers.lbfgs, solvers.lbfgs_torch, solvers.adam, solvers.sign_adam]


def named(solver):
    return repr(solver)


def idlg_problems(digits, count, seed=0):
    """The objective of iDLG for `count` digits, as one of many and one by one, in float64."""
    x, y = digits[0][:count].double(), digits[1][:count]
    model = models.lenet(1, 28).double()
    g = client.gradient(model)
    given = []
    for i in range(count):
        victim = models.lenet(1, 28, seed=seed + i).double()
        leak = client.share_gradient(victim, x[i : i + 1], y[i : i + 1])
        given.append((leak.weights, leak.direction, y[i : i + 1]))

    def one(z, W, h, label):
        return distances.l2(g(W, z.reshape(1, 1, 28, 28), label), h)

    piles = [{n: torch.stack([v[k][n] for v in given]) for n in given[0][k]} for k in (0, 1)]
    labels = torch.stack([v[2] for v in given])

    def many(z, index):
        W, h = ({n: t[index] for n, t in pile.items()} for pile in piles)
        return vmap(one)(z, W, h, labels[index])

    return many, [lambda z, v=v: one(z, *v) for v in given]


def rosenbrock(z):
    """The chained Rosenbrock function of (..., n); its minimum is 0 at (1, ..., 1)."""
    a, b = z[..., :-1], z[..., 1:]
    return (100 * (b - a.square()).square() + (1 - a).square()).sum(-1)


def quadratics(count=4, n=12, condition=1e3, seed=0):
    """objective and minima (P, n) of (z - c)'A(z - c)/2 with different A and c, in float64."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *s: torch.randn(*s, generator=generator, dtype=torch.float64)  # noqa: E731
    Q = torch.linalg.qr(draw(count, n, n)).Q
    A = Q @ (condition ** -torch.linspace(0, 1, n, dtype=torch.float64)).diag() @ Q.mT
    c = draw(count, n)

    def objective(z, index):
        away = z - c[index]
        return torch.einsum("pi,pij,pj->p", away, A[index], away) / 2

    return objective, c


def points_visited(solver, objective, z, **settings):
    """Every point (n,) at which each problem was evaluated, in order, and the solution."""
    visited = [[] for _ in z]

    def recorded(z, index):
        for i, point in zip(index.tolist(), z.detach(), strict=True):
            visited[i].append(point.clone())
        return objective(z, index)

    solution = solver(recorded, z, **settings)
    return [torch.stack(points) for points in visited], solution


def points_of_torch(optimizer_of, objective, z, calls=1):
    """Every point at which torch's optimiser evaluates one problem."""
    z = z.clone().requires_grad_()
    optimizer, visited = optimizer_of([z]), []

    def closure():
        visited.append(z.detach().clone())
        optimizer.zero_grad()
        value = objective(z)
        value.backward()
        return value

    for _ in range(calls):
        optimizer.step(closure)
    return torch.stack(visited)


# --- torch.optim.LBFGS, problem by problem ------------------------------------------------------


def torch_lbfgs(steps, history=100):
    return lambda z: torch.optim.LBFGS(
        z, lr=1, max_iter=steps, max_eval=10 * steps, history_size=history,
        tolerance_grad=0, tolerance_change=0,
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_lbfgs_torch_follows_torch_on_idlg(digits, seed):
    """Three digits from three different starts: the same 21 points to 1e-6."""
    many, ones = idlg_problems(digits, 3, seed=10 * seed)
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(3, 784, generator=generator, dtype=torch.float64)
    visited, _ = points_visited(solvers.lbfgs_torch, many, z, steps=21)
    for i, one in enumerate(ones):
        wanted = points_of_torch(torch_lbfgs(21), one, z[i])
        assert len(visited[i]) == len(wanted) == 21
        torch.testing.assert_close(visited[i], wanted, rtol=1e-6, atol=1e-6)
        assert (wanted[-1] - wanted[0]).abs().max() > 1e-3, "the problem must move"


@pytest.mark.parametrize("history", [3, 5, 100])
def test_lbfgs_torch_follows_torch_past_its_history(history):
    """40 iterations: with a history of 3 or 5 the ring of pairs is overwritten many times."""
    generator = torch.Generator().manual_seed(history)
    z = 1 + 0.2 * torch.randn(4, 30, generator=generator, dtype=torch.float64)
    visited, _ = points_visited(
        solvers.lbfgs_torch, lambda z, _: rosenbrock(z), z, steps=41, history=history
    )
    for i in range(4):
        wanted = points_of_torch(torch_lbfgs(41, history), rosenbrock, z[i])
        # ours leaves at torch's default tolerances, which are off here to see 41 points of torch
        assert len(visited[i]) > 30
        wanted = wanted[: len(visited[i])]
        torch.testing.assert_close(visited[i], wanted, rtol=1e-6, atol=1e-6)


def test_lbfgs_torch_has_no_safeguard():
    """Where torch's step overshoots, so does it: the objective rises."""
    z = torch.tensor([[-1.2, 1.0]], dtype=torch.float64)
    solution = solvers.lbfgs_torch(lambda z, _: rosenbrock(z), z, steps=30)
    assert (solution.trace[0].diff() > 0).any()
    assert solution.value[0] == solution.trace[0].min()


# --- torch.optim.Adam ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, dict(lr=0.01, betas=(0.8, 0.99), eps=1e-4)])
def test_adam_follows_torch(settings):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    visited, _ = points_visited(solvers.adam, lambda z, _: rosenbrock(z), z, steps=50, **settings)
    for i in range(3):
        of_torch = lambda z: torch.optim.Adam(z, **dict(lr=0.1) | settings)  # noqa: E731
        wanted = points_of_torch(of_torch, rosenbrock, z[i], calls=50)
        torch.testing.assert_close(visited[i], wanted, rtol=1e-6, atol=1e-6)


# --- Adam on signs ------------------------------------------------------------------------------


def points_of_signs(objective, z, steps, lr=0.1, box=None):
    """Every point of torch.optim.Adam, fed with signs, with torch's schedule and a clamp."""
    z = z.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=lr)
    drops = [3 * steps // 8, 5 * steps // 8, 7 * steps // 8]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
    visited = []
    for _ in range(steps):
        visited.append(z.detach().clone())
        optimizer.zero_grad()
        objective(z).backward()
        z.grad.sign_()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            if box is not None:
                z.clamp_(*box)
    return torch.stack(visited)


@pytest.mark.parametrize("box", [None, (0.0, 1.0), (-0.3, 0.4)])
@pytest.mark.parametrize("steps", [16, 61])
def test_sign_adam_follows_torch_fed_with_signs(box, steps):
    """Four pictures of 2 x 3 pixels, of different scale, in the same batch."""
    generator = torch.Generator().manual_seed(steps)
    target = torch.randn(4, 1, 1, 2, 3, generator=generator, dtype=torch.float64)
    scale = 10.0 ** torch.tensor([0, -3, -6, 2], dtype=torch.float64)
    start = torch.rand(target.shape, generator=generator, dtype=torch.float64)
    start = start if box is None else start.clamp(*box)

    def objective(z, index):
        away = (z - target[index]).flatten(1)
        return scale[index] * (away.square().sum(1) + away.prod(1))

    visited, _ = points_visited(solvers.sign_adam, objective, start, steps=steps, box=box)
    for i in range(4):
        one = lambda z, i=i: objective(z[None], torch.tensor([i]))[0]  # noqa: E731
        wanted = points_of_signs(one, start[i], steps, box=box)
        torch.testing.assert_close(visited[i], wanted, rtol=0, atol=1e-12)
        assert (wanted[-1] - wanted[0]).abs().max() > 0.1, "the picture must change"


def test_sign_adam_holds_pictures_in_the_box_and_nothing_else():
    """Downhill is out of the box, for pixels and for the logits of the label alike."""
    z = (torch.full((2, 1, 1, 3, 3), 7.0), torch.zeros(2, 1, 4), torch.zeros(2, 5))
    downhill = lambda z, _: sum(part.flatten(1).sum(1) for part in z)  # noqa: E731
    visited = []

    def objective(z, index):
        visited.append([part.detach().clone() for part in z])
        return downhill(z, index)

    settings = dict(steps=80, tolerance=-torch.inf)
    found = solvers.sign_adam(objective, z, box=(-0.25, 0.5), **settings)
    pixels = torch.stack([x for x, *_ in visited])
    assert (pixels[0] == 0.5).all(), "the start too is moved into the box"
    assert pixels.min() == -0.25 and (found.z[0] == -0.25).all()
    assert (found.z[1] < -1).all() and (found.z[2] < -1).all()
    free = solvers.sign_adam(downhill, z, box=None, **settings)
    assert (free.z[0] < 6).all() and (free.z[0] > 1).all()


def test_sign_adam_steps_by_its_learning_rate_which_falls_three_times():
    """On a slope of constant sign every step is one learning rate, whatever the slope."""
    slope = torch.tensor([[1e-9, -1e4]], dtype=torch.float64)
    settings = dict(steps=17, lr=0.2, eps=0, tolerance=-torch.inf)
    objective = lambda z, _: (slope * z).sum(1)  # noqa: E731
    visited, _ = points_visited(solvers.sign_adam, objective, 0 * slope, **settings)
    steps = visited[0].diff(dim=0)  # (16, 2)
    lengths = [0.2] * 6 + [0.02] * 4 + [0.002] * 4 + [0.0002] * 2
    wanted = torch.tensor(lengths, dtype=torch.float64)
    torch.testing.assert_close(steps[:, 0], -wanted)
    torch.testing.assert_close(steps[:, 1], wanted)


@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_sign_adam_does_not_see_the_scale_of_the_objective(scale):
    objective, minima = quadratics(condition=5)
    start = torch.zeros_like(minima)
    wanted = solvers.sign_adam(objective, start, steps=100)
    found = solvers.sign_adam(lambda z, i: scale * objective(z, i), start, steps=100)
    torch.testing.assert_close(found.z, wanted.z)
    assert (wanted.value < 1e-4 * wanted.trace[:, 0]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(lr=0), "^lr: got 0; .*positive"),
        (dict(box=(1.0, 0.0)), r"^box: got \(1.0, 0.0\); wanted \(low, high\) with low < high"),
        (dict(box=(0.5, 0.5)), "^box: "),
    ],
)
def test_sign_adam_refuses_a_rate_or_a_box_that_holds_nothing(wrong, message):
    with pytest.raises(ValueError, match=message):
        solvers.sign_adam(lambda z, _: z.sum(1), torch.ones(2, 3), steps=5, **wrong)


# --- they minimise ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "precision"),
    [(solvers.lbfgs, 1e-8), (solvers.lbfgs_torch, 1e-6)],
    ids=["lbfgs", "lbfgs_torch"],
)
def test_quadratics_are_solved_to_high_precision(solver, precision):
    objective, minima = quadratics(condition=100)
    solution = solver(objective, torch.zeros_like(minima), steps=300)
    assert (solution.value < precision).all()
    torch.testing.assert_close(solution.z, minima, rtol=0, atol=20 * precision**0.5)


@pytest.mark.parametrize("n", [2, 10])
def test_lbfgs_solves_rosenbrock_from_afar(n):
    generator = torch.Generator().manual_seed(n)
    z = torch.randn(6, n, generator=generator, dtype=torch.float64)
    z[0, :2] = torch.tensor([-1.2, 1.0])
    solution = solvers.lbfgs(lambda z, _: rosenbrock(z), z, steps=500)
    # from four variables on there is a second, local minimum with z_1 near -1
    reached = solution.value < 1e-10
    assert reached.all() if n == 2 else reached.sum() >= 3
    torch.testing.assert_close(
        solution.z[reached], torch.ones_like(z[reached]), rtol=1e-4, atol=1e-4
    )


def test_adam_descends():
    objective, minima = quadratics(condition=10)
    solution = solvers.adam(objective, torch.zeros_like(minima), steps=300, lr=0.05)
    start = objective(torch.zeros_like(minima), torch.arange(len(minima)))
    assert (solution.value < 1e-3 * start).all()


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 2)])
def test_shape_of_a_problem_is_kept(shape):
    z = torch.full((4, *shape), 3.0)
    solution = solvers.lbfgs(lambda z, _: (z - 1).square().flatten(1).sum(1), z, steps=50)
    assert solution.z.shape == z.shape
    torch.testing.assert_close(solution.z, torch.ones_like(z), rtol=1e-4, atol=1e-4)
    assert all(s.shape == z.shape for s in solution.snapshots.values())


@pytest.mark.parametrize("solver", ALL, ids=named)
def test_start_is_left_untouched(solver):
    z = torch.full((2, 3), 3.0)
    solver(lambda z, _: z.square().sum(1), z, steps=5)
    assert (z == 3).all() and not z.requires_grad


# --- the safeguard ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_safeguarded_objective_never_rises(seed):
    """Whatever is evaluated, the next point lies nearer to the best one than to a refused one:
    a refused step is only ever shortened, and a point that is kept has the lowest value so far."""
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(5, 4, generator=generator, dtype=torch.float64)
    points, solution = points_visited(solvers.lbfgs, lambda z, _: rosenbrock(z), z, steps=200)
    for i in range(5):
        values = solution.trace[i][solution.trace[i].isfinite()]
        for k in range(1, len(values) - 1):
            if values[k] > values[:k].min():  # refused
                best = points[i][int(values[:k].argmin())]
                step, next_step = points[i][k] - best, points[i][k + 1] - best
                assert next_step.norm() < step.norm() * 0.5001 or next_step @ step <= 0.999 * (
                    next_step.norm() * step.norm()
                ), "shortened, or another direction"
        assert solution.value[i] == values.min()


def test_safeguard_survives_an_objective_that_overflows():
    """Far left of its minimum at 0 the exponential looks flat, and Newton's step overflows."""

    def objective(z, _):
        return (torch.exp(30 * z) - 30 * z).sum(1)

    z = torch.tensor([[-1.0], [0.5]]).repeat(1, 3)
    solution = solvers.lbfgs(objective, z, steps=300)
    assert solution.trace[0].isinf().any(), "it overflowed"
    torch.testing.assert_close(solution.z, torch.zeros(2, 3), rtol=0, atol=1e-3)
    torch.testing.assert_close(solution.value, torch.full((2,), 3.0))


def test_safeguard_backs_off_from_a_cliff():
    """sqrt is NaN beyond 1: every refused step is shortened until it stays inside."""

    def objective(z, _):
        return (-z + (1 - z).sqrt() * 0.0 + 1e-2 / (1 - z)).sum(1)

    z = torch.zeros(2, 3, dtype=torch.float64)
    solution = solvers.lbfgs(objective, z, steps=200, tolerance=-torch.inf)
    assert solution.trace.isnan().any(), "it fell over the cliff"
    torch.testing.assert_close(solution.z, torch.full_like(z, 0.9), rtol=1e-5, atol=1e-5)


# --- pictures by their frequencies --------------------------------------------------------------


@pytest.mark.parametrize(("n", "dtype"), [(3, torch.float64), (8, torch.float32)])
def test_cosines_are_orthogonal_and_ordered(n, dtype):
    T = frequencies.cosines(n, dtype, torch.device("cpu"))
    torch.testing.assert_close(T @ T.mT, torch.eye(n, dtype=dtype), rtol=0, atol=1e-5)
    torch.testing.assert_close(T[0], torch.full((n,), n**-0.5, dtype=dtype))
    changes = (T[:, 1:].sign() != T[:, :-1].sign()).sum(1)
    assert changes.tolist() == list(range(n)), "row f changes its sign f times"


@pytest.mark.parametrize("C", [1, 3, 4])
def test_picture_keeps_lengths(C):
    """T is orthogonal, so that with s = 1 the search by frequency would be that by pixels."""
    generator = torch.Generator().manual_seed(C)
    v = torch.randn(2, 2, C, 6, 5, generator=generator, dtype=torch.float64)
    x = frequencies.picture(v)
    assert x.shape == v.shape
    torch.testing.assert_close(x.flatten(1).norm(dim=1), v.flatten(1).norm(dim=1))


def test_scales_fall_with_frequency_and_know_noise():
    flat = torch.full((1, 1, 3, 16, 16), 0.5, dtype=torch.float64)
    noise = torch.randn(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    grey, noisy = (frequencies.scales(start)[0, 0] for start in (flat, noise))
    # s^2 = 1 / sqrt(1 + |f|^2) for brightness, and sqrt(0.09) = 0.3 of it for colours
    torch.testing.assert_close(grey[0, 3, 4] ** 2, torch.tensor(26**-0.5, dtype=torch.float64))
    torch.testing.assert_close(grey[1] ** 2, 0.3 * grey[0] ** 2)
    assert grey[0].max() / grey[0].min() > 4, "a grey start trusts the spectrum of pictures"
    assert noisy[0].max() / noisy[0].min() < 2, "a noisy one has noise to get rid of"


def pictures_to_find(count=3):
    """Pictures (P, 1, 3, 12, 12), and the squared distance from each."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 1, 3, 12, 12, generator=generator, dtype=torch.float64)
    weights = torch.rand(3, 12, 12, generator=generator, dtype=torch.float64)
    return lambda z, index: ((z - x[index]).square() * weights).flatten(1).sum(1), x


def test_search_by_frequency_finds_what_search_by_pixel_finds():
    objective, x = pictures_to_find()
    for whiten in (True, False):
        found = solvers.lbfgs(objective, torch.full_like(x, 0.5), whiten=whiten, steps=300)
        assert (found.value < 1e-9).all() and found.z.shape == x.shape


def test_search_by_frequency_returns_pixels():
    """z, value, trace and snapshots are those of the points that were evaluated."""
    objective, x = pictures_to_find()
    visited, found = points_visited(solvers.lbfgs, objective, torch.full_like(x, 0.5), steps=20)
    everyone = torch.arange(3)
    torch.testing.assert_close(objective(found.z, everyone), found.value)
    for count, stood in found.snapshots.items():
        torch.testing.assert_close(objective(stood, everyone), found.trace[:, count - 1])
        for i in range(3):
            torch.testing.assert_close(stood[i], visited[i][count - 1])


def test_only_pictures_are_searched_by_frequency():
    """z of another shape: the same points with and without."""
    objective, minima = quadratics(condition=10)
    a, b = (solvers.lbfgs(objective, 0 * minima, steps=8, whiten=w) for w in (True, False))
    torch.testing.assert_close(a.trace, b.trace, rtol=1e-6, atol=1e-12)


# --- several tensors to a problem ---------------------------------------------------------------


@pytest.mark.parametrize("solver", ALL, ids=named)
def test_points_may_be_tuples(solver):
    """(a, b) together are searched as their numbers in one row are."""
    objective, minima = quadratics(count=3, n=10, condition=5)
    split = lambda flat: (flat[:, :6].reshape(-1, 2, 3), flat[:, 6:])  # noqa: E731
    joined = lambda a, b: torch.cat([a.flatten(1), b], 1)  # noqa: E731
    flat = solver(objective, torch.zeros_like(minima), steps=40)
    pair = solver(lambda z, i: objective(joined(*z), i), split(torch.zeros_like(minima)), steps=40)
    assert [part.shape for part in pair.z] == [(3, 2, 3), (3, 4)]
    assert torch.equal(joined(*pair.z), flat.z) and torch.equal(pair.trace[:, 0], flat.trace[:, 0])
    for count, stood in pair.snapshots.items():
        assert torch.equal(joined(*stood), flat.snapshots[count])


# --- tiny gradients -----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e-3, 1.0])
def test_small_objectives_are_minimised_as_large_ones_are(scale):
    """A message with a tiny gradient: curvature far below torch's absolute threshold."""
    objective, minima = quadratics(condition=50)
    start = objective(torch.zeros_like(minima), torch.arange(len(minima)))
    found = solvers.lbfgs(lambda z, i: scale * objective(z, i), torch.zeros_like(minima), steps=200)
    assert (found.value < 1e-8 * scale * start).all()


# --- problems leave -----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ALL, ids=named)
def test_solved_problems_leave_and_cost_nothing(solver):
    """Tolerances of their own: evaluations differ, and a trace is NaN from the end on."""
    asked = []

    def objective(z, index):
        asked.append(index.tolist())
        return rosenbrock(z)

    z = torch.tensor([[-1.2, 1.0]], dtype=torch.float64).repeat(3, 1)  # 24.2 there
    tolerance = torch.tensor([30.0, 4.2, 1.0], dtype=torch.float64)
    solution = solver(objective, z, steps=1000, tolerance=tolerance)
    assert (solution.value <= tolerance).all()
    evaluations = solution.evaluations.tolist()
    assert evaluations[0] == 1 < evaluations[1] < evaluations[2]
    assert solution.trace.shape == (3, evaluations[2])
    for i, count in enumerate(evaluations):
        assert (
            solution.trace[i, :count].isfinite().all() and solution.trace[i, count:].isnan().all()
        )
        assert solution.trace[i].nan_to_num(torch.inf).min() == solution.value[i]
        assert sum(i in index for index in asked) == count


@pytest.mark.parametrize("solver", ALL, ids=named)
def test_steps_bound_the_evaluations(solver):
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    solution = solver(lambda z, _: rosenbrock(z), z, steps=7)
    assert solution.evaluations.tolist() == [7, 7, 7] and solution.trace.shape == (3, 7)


@pytest.mark.parametrize("solver", ALL, ids=named)
@pytest.mark.parametrize("seed", range(2))
def test_problem_in_a_batch_ends_as_it_does_alone(solver, seed):
    """Its neighbours, and their leaving, change nothing."""
    objective, minima = quadratics(count=5, n=4, condition=4, seed=seed)
    tolerance = 10.0 ** -torch.arange(1, 6).double()
    z = torch.zeros_like(minima)
    together = solver(objective, z, steps=200, tolerance=tolerance)
    assert len(set(together.evaluations.tolist())) > 1
    for i in range(5):
        alone = solver(
            lambda z, _, i=i: objective(z, torch.tensor([i])), z[i : i + 1], steps=200,
            tolerance=tolerance[i],
        )  # fmt: skip
        assert alone.evaluations[0] == together.evaluations[i]
        torch.testing.assert_close(alone.z[0], together.z[i], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("solver", [solvers.lbfgs, solvers.lbfgs_torch], ids=named)
def test_problem_without_slope_leaves_at_once(solver):
    z = torch.tensor([[0.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    solution = solver(lambda z, _: z.square().sum(1), z, steps=50)
    assert solution.evaluations[0] == 1 < solution.evaluations[1]


@pytest.mark.parametrize("solver", ALL, ids=named)
def test_dead_problems_leave_and_the_others_go_on(solver):
    """A NaN from the start: the result is the finite start; the neighbour is solved."""

    def objective(z, index):
        return torch.where(index == 0, torch.nan, 1.0) * (z - 1).square().sum(1)

    z = torch.zeros(2, 3, dtype=torch.float64)
    solution = solver(objective, z, steps=300)
    assert solution.z.isfinite().all() and torch.equal(solution.z[0], z[0])
    assert solution.evaluations[0] == 1 < solution.evaluations[1]
    assert not solution.value[0].isfinite() and solution.value[1] < 1e-6


@pytest.mark.parametrize("solver", [solvers.lbfgs_torch, solvers.adam], ids=named)
def test_problem_that_dies_on_the_way_keeps_its_best(solver):
    """log is NaN below 0: an unguarded step falls in, and the best finite point remains."""

    def objective(z, _):
        return (z.log() * 1e-2 + z).sum(1) * 10

    z = torch.full((1, 3), 0.5, dtype=torch.float64)
    solution = solver(objective, z, steps=100)
    assert solution.evaluations[0] < 100, "it died"
    assert solution.z.isfinite().all() and solution.value.isfinite().all()
    assert (solution.z > 0).all() and solution.value[0] < objective(z, None)[0]


# --- what was seen on the way -------------------------------------------------------------------


@pytest.mark.parametrize("solver", ALL, ids=named)
def test_snapshots_are_where_the_problems_stood(solver):
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    visited, solution = points_visited(solver, lambda z, _: rosenbrock(z), z, steps=25)
    assert list(solution.snapshots) == [1, 2, 5, 10, 20]
    for count, stood in solution.snapshots.items():
        for i in range(2):
            torch.testing.assert_close(stood[i], visited[i][count - 1], rtol=0, atol=0)


@pytest.mark.parametrize("solver", ALL, ids=named)
def test_result_is_the_best_point_evaluated(solver):
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    visited, solution = points_visited(solver, lambda z, _: rosenbrock(z), z, steps=30)
    for i in range(3):
        values = rosenbrock(visited[i])
        assert solution.value[i] == values.nan_to_num(torch.inf).min()
        torch.testing.assert_close(rosenbrock(solution.z[i]), solution.value[i])
        trace = solution.trace[i][: len(values)]
        torch.testing.assert_close(trace, values, equal_nan=True)


def test_progress_says_how_many_problems(capsys):
    solvers.adam(lambda z, _: z.square().sum(1), torch.ones(2, 3), steps=3, progress=True)
    assert "2 problems" in capsys.readouterr().err
    solvers.adam(lambda z, _: z.square().sum(1), torch.ones(2, 3), steps=3)
    assert capsys.readouterr().err == ""


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ALL, ids=named)
@pytest.mark.parametrize("steps", [0, -3])
def test_steps_are_positive(solver, steps):
    with pytest.raises(ValueError, match=f"^steps: got {steps}; .*positive"):
        solver(lambda z, _: z.sum(1), torch.ones(2, 3), steps=steps)


@pytest.mark.parametrize("solver", ALL, ids=named)
def test_there_is_a_problem(solver):
    with pytest.raises(ValueError, match="^z: got no problem"):
        solver(lambda z, _: z.sum(1), torch.ones(0, 3), steps=5)


# --- the pairs ----------------------------------------------------------------------------------


def two_loops(pairs, g):
    """-H g by the plain recursion: Nocedal & Wright, Algorithm 7.4, one problem, oldest first."""
    q, alphas = g.clone(), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (s @ y))
        q = q - alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        q = q * (s @ y) / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + s * (alpha - y @ q / (s @ y))
    return -q


@pytest.mark.parametrize("m", [1, 3, 4, 20])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_give_the_direction_of_the_two_loops(m, seed):
    """Rings of different fill that wrap, refused steps, steps without curvature, a dead problem,
    problems that leave and pairs that are forgotten."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *s: torch.randn(*s, generator=generator, dtype=torch.float64)  # noqa: E731
    P, n = 5, 8
    A = draw(P, n, n)
    A = A @ A.mT + torch.eye(n, dtype=torch.float64)
    pairs, plain = Pairs(torch.zeros(P, n, dtype=torch.float64), m), [[] for _ in range(P)]
    numbers = list(range(P))
    for turn in range(13):
        s, g = draw(P, n), draw(P, n)
        y = (A @ s[:, :, None])[:, :, 0] + 0.1 * draw(P, n)
        y[turn % P] *= -1 if turn % 3 == 0 else 1  # no curvature, now and then
        accepted = torch.rand(P, generator=generator) < 0.7
        if turn == 7:
            accepted[2] = False  # just forgotten: its direction is -g again
        taken = accepted & ((s * y).sum(1) > 1e-10)
        got = pairs.direction(s[numbers], y[numbers], taken[numbers], g[numbers])
        for row, p in enumerate(numbers):
            if taken[p]:
                plain[p] = [*plain[p], (s[p], y[p])][-m:]
            torch.testing.assert_close(got[row], two_loops(plain[p], g[p]), rtol=1e-8, atol=1e-8)
        if turn == 6:
            forgotten = torch.tensor([p == 2 for p in numbers])
            pairs.forget(forgotten)
            plain[2] = []
        if turn == 8:
            pairs.keep(torch.tensor([0, 4, 2, 3]))
            numbers = [0, 4, 2, 3]
