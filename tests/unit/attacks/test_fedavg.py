"""Many local steps: matched as if they were one, by a surrogate on the way, and by simulation."""

import dataclasses
from functools import partial

import pytest
import torch
from torch import nn

from leaklib import attacks, client, data, distances, metrics, models, random, solvers
from leaklib.leak import stack

SMALL = (1, 1, 12, 12)
OPTIMIZERS = ["sgd", "momentum", "adam"]


def small(seed=0):
    return models.lenet(1, 12, seed=seed)


def send(x, y, lr=1e-2, model_of=small, **settings):
    """The stack of what one client an image sends after its round, each from its own network."""
    return stack(
        client.share_weights(model_of(i), x[i : i + 1], y[i : i + 1], lr=lr, **settings)
        for i in range(len(x))
    )


def quality(out, x):
    return metrics.psnr(out.images[:, 0], x)


def matched(out, x):
    """PSNR of one batch, its images matched with those of the client."""
    images = out.images[0]
    return metrics.psnr(metrics.match(images, x), x)


@pytest.fixture(scope="module")
def four(small_digits):
    return tuple(t[:4] for t in small_digits)


@pytest.fixture(scope="module")
def distinct(small_digits):
    """Four digits of four classes."""
    rows = [0, 1, 3, 4]
    return tuple(t[rows] for t in small_digits)


# --- the three ways -----------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 1e-2), ("momentum", 1e-1)])
def test_simulation_beats_the_surrogate_and_that_a_single_step(lr, optimizer, four):
    """Five honest steps; labels read off the weights."""
    x, y = (t[:3] for t in four)
    settings = dict(steps=5, optimizer=optimizer)
    leaks = send(x, y, lr, **settings)
    single, surrogate, simulated = (
        attacks.fedavg(small(), leaks, SMALL, predict=predict, steps=100)
        for predict in (
            attacks.single_step, attacks.surrogate(), attacks.simulated(lr, **settings)
        )
    )  # fmt: skip
    for out in (single, surrogate, simulated):
        assert torch.equal(out.labels[:, 0], y)
    assert (quality(surrogate, x) > quality(single, x) + 3).all()
    assert (quality(simulated, x) > quality(surrogate, x) + 10).all()
    assert quality(simulated, x).min() > 50 and simulated.converged.all()
    assert not single.converged.any()


def test_photograph_out_of_five_steps():
    x, y = (t[:1] for t in data.load("photos"))
    model, settings = models.lenet(3, 32, seed=1), dict(steps=5)
    leak = client.share_weights(model, x, y, lr=1e-2, **settings)
    run = partial(attacks.fedavg, model, leak, (1, 3, 32, 32), steps=100)
    locals_ = (attacks.single_step, attacks.surrogate(), attacks.simulated(1e-2, **settings))
    single, surrogate, simulated = (
        float(quality(run(predict=predict), x)[0]) for predict in locals_
    )
    assert single + 3 < surrogate < simulated - 2 and simulated > 30


def test_adam_is_undone_by_simulation_alone(four):
    x, y = (t[:2] for t in four)
    settings = dict(steps=3, optimizer="adam")
    leaks = send(x, y, 1e-2, **settings)
    run = partial(attacks.fedavg, small(), leaks, SMALL)
    simulated = run(predict=attacks.simulated(1e-2, **settings), steps=90)
    assert torch.equal(simulated.labels[:, 0], y)
    assert quality(simulated, x).min() > 14
    for predict in (attacks.single_step, attacks.surrogate()):
        assert quality(run(predict=predict, steps=40), x).max() < 10
    wrong = run(predict=attacks.simulated(1e-2, steps=3), steps=40)
    assert quality(wrong, x).max() < 10, "SGD is not what the client did"


def test_leakage_fades_with_steps_and_simulation_wins_it_back(four):
    x, y = (t[:3] for t in four)
    median = {}
    for steps in (1, 3, 8):
        leaks = send(x, y, steps=steps)
        locals_ = dict(single=attacks.single_step, simulated=attacks.simulated(1e-2, steps=steps))
        for name, predict in locals_.items():
            out = attacks.fedavg(small(), leaks, SMALL, predict=predict, steps=60)
            median[name, steps] = float(quality(out, x).median())
    assert median["single", 1] > 50 > 35 > median["single", 3] > median["single", 8] + 2
    assert all(median["simulated", steps] > 50 for steps in (1, 3, 8))


def test_one_step_is_the_same_by_each_way(four):
    """A simulation of one step predicts lr g, and single_step g: the cosine sees no difference."""
    x, y = four
    leaks = send(x.double(), y, model_of=lambda i: small(i).double())
    run = partial(attacks.fedavg, small().double(), leaks, SMALL, steps=15)
    plain = run(predict=attacks.single_step)
    torch.testing.assert_close(
        run(predict=attacks.simulated(1e-2)).images, plain.images, rtol=0, atol=1e-6
    )
    plus = attacks.dlm_plus(small().double(), leaks, SMALL, distance=distances.cosine, steps=15)
    torch.testing.assert_close(plus.images, plain.images, rtol=0, atol=1e-9)


def test_default_is_the_surrogate(four):
    x, y = four
    leaks = send(x[:2], y[:2], steps=4)
    default, named = (
        attacks.fedavg(small(), leaks, SMALL, steps=8, **settings)
        for settings in ({}, dict(predict=attacks.surrogate()))
    )
    assert torch.equal(default.images, named.images) and set(default.unknowns) == {"alpha"}


# --- what each predicts -------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("training", "batch"),
    [
        (dict(steps=1), 3), (dict(steps=6), 3), (dict(epochs=4), 3),
        (dict(steps=2, batch_size=8), 3),
        (dict(epochs=1, batch_size=2), 6), (dict(epochs=1, batch_size=4), 6),
        (dict(steps=3, batch_size=2), 6), (dict(steps=2, batch_size=2), 6),
    ],
)  # fmt: skip
def test_simulation_at_the_true_images_is_what_was_sent(training, batch, optimizer, small_digits):
    """In the order of the client's first epoch: mini-batches of another order are other steps."""
    x, y = small_digits[0][:batch].double(), small_digits[1][:batch]
    model = small().double()
    told = dict(training, optimizer=optimizer)
    leak = client.share_weights(model, x, y, lr=0.05, seed=8, **told)
    shuffled = training.get("batch_size", batch) < batch
    generator = random.generator(8, "batches")
    order = torch.randperm(batch, generator=generator) if shuffled else torch.arange(batch)
    q = nn.functional.one_hot(y, 10).double()
    predict = attacks.simulated(0.05, **told)
    g = client.gradient(model)
    got = predict(g, leak, x[order], q[order], {})
    assert list(got) == list(leak.direction)
    for name, wanted in leak.direction.items():
        torch.testing.assert_close(got[name], wanted, rtol=1e-9, atol=1e-12)
    if shuffled:
        other = predict(g, leak, x[order.flip(0)], q[order.flip(0)], {})
        assert not torch.allclose(other["fc.weight"], leak.direction["fc.weight"], rtol=1e-3)


def test_later_epochs_are_in_another_order_than_the_guess(small_digits):
    """The stated limit: the client reshuffles, and the guess stays as it is cut."""
    x, y = small_digits[0][:6].double(), small_digits[1][:6]
    model, told = small().double(), dict(epochs=2, batch_size=2)
    leak = client.share_weights(model, x, y, lr=0.05, seed=8, **told)
    order = torch.randperm(6, generator=random.generator(8, "batches"))
    q = nn.functional.one_hot(y, 10).double()[order]
    got = attacks.simulated(0.05, **told)(client.gradient(model), leak, x[order], q, {})
    apart = distances.cosine(got, leak.direction)
    single = distances.cosine(client.share_gradient(model, x, y).update, leak.direction)
    assert 1e-5 < apart < single / 2, "near, and nearer than a single step"


def test_simulation_keeps_buffers_and_its_weights(own_network, small_digits):
    """A network with BatchNorm in evaluation mode: its statistics come from the leak."""
    x, y = small_digits[0][:2].double(), small_digits[1][:2]

    def network():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten()]
            return nn.Sequential(*layers, nn.Linear(100, 10)).double()

    model = network()
    model(small_digits[0].double())
    leak = client.share_weights(model.eval(), x, y, lr=0.05, steps=4)
    before = {name: w.clone() for name, w in leak.weights.items()}
    q = nn.functional.one_hot(y, 10).double()
    predict = attacks.simulated(0.05, steps=4)
    got = predict(client.gradient(network().eval()), leak, x, q, {})
    for name, wanted in leak.direction.items():
        torch.testing.assert_close(got[name], wanted, rtol=1e-9, atol=1e-12)
        assert torch.equal(leak.weights[name], before[name])


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.3, 1.0])
def test_surrogate_is_the_gradient_between_the_two(alpha, four):
    x, y = four[0][:2].double(), four[1][:2]
    model = small().double()
    leak = client.share_weights(model, x, y, lr=0.1, steps=3)
    q = nn.functional.one_hot(y, 10).double()
    c = {"alpha": torch.tensor([alpha], dtype=torch.float64)}
    g = client.gradient(model)
    got = attacks.surrogate()(g, leak, x, q, c)
    way = {n: (1 - alpha) * w + alpha * leak.update[n] for n, w in leak.weights.items()}
    wanted = g(way, x, y)
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name], rtol=1e-9, atol=1e-12)
    plain = attacks.single_step(g, leak, x, q, {})
    wanted = g(leak.weights, x, q)
    assert all(torch.equal(plain[name], wanted[name]) for name in wanted)


def test_objective_of_each_way_is_the_distance_of_its_prediction(four):
    """At the start, against the formula written out."""
    x, y = four
    settings = dict(steps=3, optimizer="momentum")
    leaks = send(x, y, **settings)
    start = torch.rand(4, 1, *SMALL, generator=torch.Generator().manual_seed(0))
    for predict in (attacks.surrogate(0.25), attacks.simulated(1e-2, **settings)):
        for distance in (distances.cosine, distances.mean_norm, distances.l2):
            out = attacks.fedavg(
                small(), leaks, SMALL, predict=predict, distance=distance, start=start, steps=1
            )
            for i in range(4):
                one = client.share_weights(
                    small(i), x[i : i + 1], y[i : i + 1], lr=1e-2, **settings
                )
                q = nn.functional.one_hot(y[i : i + 1], 10).float()
                begins = getattr(predict, "unknowns", {})
                c = {name: torch.tensor([first]) for name, first in begins.items()}
                g = client.gradient(small(i))
                guess = predict(g, one, start[i, 0], q, c)
                wanted = distance(guess, one.direction)
                torch.testing.assert_close(out.objective[i], wanted, rtol=1e-3, atol=1e-6)


# --- the surrogate's alpha ----------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "alpha"), [(5, 0.5), (5, 0.0), (3, 1.0)])
def test_alpha_is_found_half_way_between_the_first_step_and_the_last(steps, alpha, four):
    """Small steps begin at j / T of the way, j = 0..T-1, whose mean is (T - 1) / 2T."""
    x, y = four
    leaks = send(x, y, 1e-3, steps=steps)
    out = attacks.fedavg(small(), leaks, SMALL, predict=attacks.surrogate(alpha), steps=120)
    assert quality(out, x).min() > 40
    assert (out.unknowns["alpha"] - (steps - 1) / (2 * steps)).abs().max() < 0.05
    way = out.unknown_snapshots["alpha"]
    assert list(way) == list(out.snapshots) and all(a.shape == (4,) for a in way.values())
    assert (way[1] == alpha).all()
    others = attacks.fedavg(small(), leaks, SMALL, predict=attacks.single_step, steps=2)
    assert dict(others.unknowns) == {}


def test_restarts_and_labels(four):
    x, y = four
    x, y, leaks = x[:2], y[:2], send(x[:2], y[:2], steps=3)
    run = partial(attacks.fedavg, small(), leaks, SMALL)
    read, given = run(steps=5), run(labels=y[:, None], steps=5)
    assert torch.equal(read.images, given.images)
    joint = run(labels="joint", predict=attacks.simulated(1e-2, steps=3), restarts=2, steps=120)
    assert quality(joint, x).max() > 40 and joint.images.shape == (2, *SMALL)
    right = quality(joint, x) > 40
    assert torch.equal(joint.labels[right, 0], y[right]) and not joint.converged[~right].any()
    normal = run(start="normal", restarts=3, steps=5)
    one = run(start="normal", steps=5)
    assert (normal.objective <= one.objective * (1 + 1e-4)).all()
    assert normal.unknowns["alpha"].shape == (2,)


# --- batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["given", "joint"])
def test_batch_after_several_steps_is_recovered_by_simulation(labels, distinct):
    x, y = (t[:2] for t in distinct)
    leak = client.share_weights(small(), x, y, lr=1e-2, steps=4)
    run = partial(attacks.fedavg, small(), leak, (2, *SMALL[1:]), start="uniform", steps=120)
    labels = y if labels == "given" else "joint"
    simulated = run(predict=attacks.simulated(1e-2, steps=4), labels=labels)
    assert matched(simulated, x).min() > 40 and simulated.converged.all()
    assert sorted(simulated.labels[0].tolist()) == sorted(y.tolist())
    single = run(predict=attacks.single_step, labels=y)
    assert matched(single, x).max() < 30


def test_epoch_of_mini_batches_needs_labels_in_the_order_of_the_client(distinct):
    x, y = (t[:3] for t in distinct)
    told = dict(epochs=1, batch_size=1)
    leak = client.share_weights(small(), x, y, lr=1e-2, seed=3, **told)
    order = torch.randperm(3, generator=random.generator(3, "batches"))
    run = partial(
        attacks.fedavg, small(), leak, (3, *SMALL[1:]), predict=attacks.simulated(1e-2, **told),
        start="uniform", steps=130,
    )  # fmt: skip
    right, wrong = run(labels=y[order]), run(labels=y[order.flip(0)])
    assert metrics.psnr(right.images[0], x[order]).min() > 40 and right.converged.all()
    assert matched(wrong, x).max() < 30 and not wrong.converged.any()


# --- many problems, networks and pieces ---------------------------------------------------------


@pytest.mark.parametrize(
    "predict",
    [attacks.single_step, attacks.surrogate(), attacks.simulated(0.05, steps=3)],
    ids=["single", "surrogate", "simulated"],
)
def test_stack_is_the_attacks_one_by_one(predict, four):
    x, y = four[0][:2].double(), four[1][:2]
    each = [
        client.share_weights(small(i).double(), x[i : i + 1], y[i : i + 1], lr=0.05, steps=3)
        for i in range(2)
    ]
    run = partial(attacks.fedavg, small().double(), shape=SMALL, predict=predict, steps=12)
    together = run(leak=stack(each))
    for i, leak in enumerate(each):
        alone = run(leak=leak)
        torch.testing.assert_close(together.images[i], alone.images[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(together.trace[i], alone.trace[0], rtol=1e-6, atol=1e-9)
        for name, value in together.unknowns.items():
            torch.testing.assert_close(value[i], alone.unknowns[name][0], rtol=1e-6, atol=1e-6)


def test_attack_on_a_network_of_the_readers_own(own_network, small_digits):
    x, y = (t[:2] for t in small_digits)
    settings = dict(steps=5)
    leaks = send(x, y, 0.02, model_of=own_network, **settings)
    locals_ = (attacks.single_step, attacks.surrogate(), attacks.simulated(0.02, **settings))
    outs = [
        attacks.fedavg(own_network(), leaks, SMALL, predict=predict, steps=steps)
        for predict, steps in zip(locals_, (60, 60, 130), strict=True)
    ]
    single, surrogate, simulated = (quality(out, x) for out in outs)
    assert all(torch.equal(out.labels[:, 0], y) for out in outs)
    assert (single + 5 < surrogate).all() and (surrogate + 5 < simulated).all()
    assert simulated.min() > 40


def test_defence_that_the_attacker_knows_is_applied_to_its_prediction(four):
    x, y = (t[:2] for t in four)
    leaks = send(x, y, steps=3)
    seen = []

    def half(direction, leak):
        seen.append((leak.kind, leak.victims, {n: d.shape for n, d in direction.items()}))
        return {name: d / 2 for name, d in direction.items()}

    predict = attacks.simulated(1e-2, steps=3)
    run = partial(attacks.fedavg, small(), leaks, SMALL, predict=predict, distance=distances.l2)
    plain, halved = run(steps=1), run(defend=half, steps=1)
    assert (halved.objective != plain.objective).all()
    shapes = {name: w.shape for name, w in client.state(small())[0].items()}
    assert seen and all(what == ("weights", None, shapes) for what in seen)


@pytest.mark.parametrize("solver", [solvers.lbfgs_torch, solvers.adam], ids=repr)
def test_another_solver_moves_image_and_alpha(solver, four):
    x, y = (t[:2] for t in four)
    out = attacks.fedavg(small(), send(x, y, steps=3), SMALL, solver=solver, steps=20)
    assert (out.objective < 0.9 * out.trace[:, 0]).all() and out.images.isfinite().all()
    assert (out.unknowns["alpha"] != 0.5).all()


def test_rounding_is_not_believed(four):
    x, y = (t[:2] for t in four)
    leaks = send(x, y, 1e-6, steps=3)
    for predict in (attacks.surrogate(), attacks.simulated(1e-6, steps=3)):
        out = attacks.fedavg(small(), leaks, SMALL, labels=3, predict=predict, steps=50)
        assert not out.converged.any() and out.images.isfinite().all()
    still = dataclasses.replace(leaks, update=leaks.weights)
    with pytest.raises(ValueError, match="^labels: got -1 from idlg"):
        attacks.fedavg(small(), still, SMALL, steps=10)
    out = attacks.fedavg(small(), still, SMALL, labels=3, steps=10)
    assert not out.converged.any() and out.images.isfinite().all()


# --- errors -------------------------------------------------------------------------------------


def test_gradient_is_refused(four):
    leak = client.share_gradient(small(), four[0][:1], four[1][:1])
    with pytest.raises(
        ValueError, match="^leak: got a gradient; wanted weights, as client.share_w"
    ):
        attacks.fedavg(small(), leak, SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(lr=0.0), dict(lr=-1e-2), dict(lr=float("nan")), dict(steps=0), dict(steps=-1),
        dict(epochs=0), dict(batch_size=0),
    ],
)  # fmt: skip
def test_settings_of_a_simulation_are_positive(wrong):
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"^{name}: got {value}; wanted a positive"):
        attacks.simulated(**dict(lr=1e-2) | wrong)


def test_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="^optimizer: got 'lion'; wanted one of sgd, momentum, ad"):
        attacks.simulated(1e-2, optimizer="lion")


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), -float("inf")])
def test_first_alpha_is_finite(alpha):
    with pytest.raises(ValueError, match=f"^alpha: got {alpha}; wanted a finite number"):
        attacks.surrogate(alpha)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(labels=torch.tensor([10])), r"^labels: got 10 to 10; wanted 0\.\.9"),
        (dict(labels="both"), "^labels: got 'both'"),
        (dict(start="noise"), "^start: got 'noise'"),
        (dict(shape=(2, 1, 12, 12)), "^shape: got a batch of 2"),
        (dict(steps=0), "^steps: got 0"),
    ],
)
def test_wrong_argument_gets_an_error_that_names_it(wrong, message, four):
    leak = client.share_weights(small(), four[0][:1], four[1][:1], lr=0.1)
    with pytest.raises(ValueError, match=message):
        attacks.fedavg(small(), **dict(leak=leak, shape=SMALL) | wrong)
