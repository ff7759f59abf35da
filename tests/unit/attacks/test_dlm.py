"""DLM and DLM+: images out of weights, with the client's learning rate unknown to the attacker."""

import dataclasses
from functools import partial

import pytest
import torch

from leaklib import attacks, client, data, defenses, distances, labels, metrics, models, solvers
from leaklib.leak import some, stack

SMALL = (1, 1, 12, 12)
LR = 1e-2
SCALE_FREE = [distances.mean_norm, distances.each_norm, distances.cosine]
ATTACKS = [attacks.dlm, attacks.dlm_projected, attacks.dlm_plus]


def named(fn):
    return getattr(fn, "name", None) or getattr(fn, "__name__", repr(fn))


def small(seed=0):
    return models.lenet(1, 12, seed=seed)


def send(x, y, lr=LR, model_of=small, **settings):
    """The stack of what one client an image sends after its round, each from its own network."""
    return stack(
        client.share_weights(model_of(i), x[i : i + 1], y[i : i + 1], lr=lr, **settings)
        for i in range(len(x))
    )


def quality(out, x):
    return metrics.psnr(out.images[:, 0], x)


@pytest.fixture(scope="module")
def victims(small_digits):
    """Six digits, and the stack of the weights that their clients send."""
    x, y = (t[:6] for t in small_digits)
    return x, y, send(x, y)


# --- DLM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_dlm_recovers_digits_with_neither_label_nor_learning_rate(seed, victims):
    x, y, leaks = victims
    out = attacks.dlm(small(), leaks, SMALL, seed=seed, steps=150)
    right = quality(out, x) > 40
    assert right.sum() >= 4
    assert torch.equal(out.labels[right, 0], y[right])
    assert out.converged[right].all() and not out.converged[~right].any()
    torch.testing.assert_close(
        out.unknowns["k"][right], torch.full((int(right.sum()),), 1 / LR), rtol=0.01, atol=0
    )


@pytest.mark.parametrize(("k", "lr"), [(60.0, 1e-2), (20.0, 1e-1)])
def test_dlm_finds_one_over_the_learning_rate_where_the_label_is_given(k, lr, victims):
    """From below and from above."""
    x, y, _ = victims
    out = attacks.dlm(
        small(), send(x, y, lr), SMALL, unknowns={"k": k}, labels=y[:, None], steps=120
    )
    right = quality(out, x) > 40
    assert right.sum() >= 5 and out.converged[right].all()
    assert (out.unknowns["k"][right] * lr - 1).abs().max() < 1e-2
    assert not (out.converged & ~right).any()


def test_dlm_recovers_photographs():
    x, y = (t[[0, 12]] for t in data.load("photos"))
    leaks = send(x, y, model_of=lambda i: models.lenet(3, 32, seed=1))
    model, settings = models.lenet(3, 32), dict(labels=y[:, None], steps=250)
    out = attacks.dlm(model, leaks, (1, 3, 32, 32), **settings)
    assert quality(out, x).min() > 28
    assert (out.unknowns["k"] * LR - 1).abs().max() < 1e-2


def test_soft_label_leaves_k_open_below_one_over_the_learning_rate(victims):
    """q = (1 - s) p + s y has the gradient s g for every s = k lr in [0, 1], at the same image."""
    x, y, leaks = victims
    for i, s in enumerate((0.1, 0.5, 0.9)):
        W = {name: w[i] for name, w in leaks.weights.items()}
        h = {name: d[i] for name, d in leaks.direction.items()}
        p = torch.func.functional_call(small(), W, (x[i : i + 1],)).softmax(-1)
        q = (1 - s) * p + s * torch.nn.functional.one_hot(y[i : i + 1], 10)
        g = client.gradient(small())(W, x[i : i + 1], q)
        apart = distances.l2(g, {name: s / LR * d for name, d in h.items()})
        assert apart < 1e-6 * sum(tensor.square().sum() for tensor in g.values())
    out = attacks.dlm(small(), leaks, SMALL, unknowns={"k": 60.0}, steps=120)
    assert out.converged.sum() >= 4 and quality(out, x)[out.converged].min() > 40
    k = out.unknowns["k"][out.converged]
    assert (k < 1.01 / LR).all() and (k < 0.9 / LR).sum() >= 3, "the image is found, and k is not"


def test_labels_that_are_searched_are_read_against_what_the_network_says(victims):
    """The largest entry of the soft label may be what the network said before."""
    x, y, leaks = victims
    out = attacks.dlm(small(), leaks, SMALL, unknowns={"k": 20.0}, steps=250)
    right = quality(out, x) > 30
    assert right.sum() >= 3 and torch.equal(out.labels[right, 0], y[right])


def test_k_is_in_the_result_and_in_the_snapshots(victims):
    _, y, leaks = victims
    out = attacks.dlm(small(), leaks, SMALL, unknowns={"k": 150.0}, labels=y[:, None], steps=60)
    assert set(out.unknowns) == set(out.unknown_snapshots) == {"k"}
    assert out.unknowns["k"].shape == (6,)
    way = out.unknown_snapshots["k"]
    assert list(way) == list(out.snapshots) and all(k.shape == (6,) for k in way.values())
    assert (way[1] == 150).all() and (way[20] != 150).all()
    off = [(k * LR - 1).abs().median() for k in (way[1], way[50])]
    assert off[1] < off[0] / 5
    plain = attacks.dlm_plus(small(), leaks, SMALL, steps=2)
    assert dict(plain.unknowns) == dict(plain.unknown_snapshots) == {}


def test_k_multiplies_what_was_sent(victims):
    """The objective at the start, against DLM's formula written out."""
    _, y, leaks = victims
    start = torch.rand(6, 1, *SMALL, generator=torch.Generator().manual_seed(0))
    for k in (-3.0, 0.0, 50.0):
        out = attacks.dlm(
            small(), leaks, SMALL, unknowns={"k": k}, labels=y[:, None], start=start, steps=1
        )
        for i in range(6):
            g = client.share_gradient(small(i), start[i, 0], y[i : i + 1]).update
            h = {name: d[i] for name, d in leaks.direction.items()}
            wanted = sum((g[name] - k * h[name]).square().sum() for name in h)
            torch.testing.assert_close(out.objective[i], wanted, rtol=1e-4, atol=1e-6)
        assert (out.unknowns["k"] == k).all()


def test_restarts_search_each_with_a_k_of_its_own(victims):
    x, y = victims[0].double(), victims[1]
    leaks = send(x, y, model_of=lambda i: small(i).double())
    run = partial(attacks.dlm, small().double(), leaks, SMALL, start="normal", steps=60)
    one, three = run(), run(restarts=3)
    assert (three.objective <= one.objective * (1 + 1e-3)).all()
    assert (three.objective < 0.9 * one.objective).any()
    assert quality(three, x).median() > quality(one, x).median()
    assert three.unknowns["k"].shape == (6,) and (three.unknown_snapshots["k"][1] == 200).all()
    best = three.objective < 0.9 * one.objective
    assert (three.unknowns["k"] != one.unknowns["k"])[best].all()


# --- its other minimum --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_soft_label_that_the_network_gives_zeroes_the_gradient_of_any_image(seed):
    """q = p(x'): then g = 0, and k = 0 is a perfect match that says nothing."""
    x = torch.rand(SMALL, generator=torch.Generator().manual_seed(seed))
    model = small(seed)
    g = client.share_gradient(model, x, model(x).softmax(-1).detach()).update
    assert sum(tensor.square().sum() for tensor in g.values()) < 1e-9
    h = client.share_weights(model, 1 - x, torch.tensor([3]), lr=LR).direction
    assert distances.projected(g, h) < 1e-9 < 0.1 < distances.cosine(g, h)


@pytest.mark.parametrize(("start", "seed"), [("half", 0), ("normal", 1)])
def test_projected_collapses_and_is_not_believed(start, seed, victims):
    """A perfect objective, a wrong image: with the label free, the gradient vanishes first."""
    x, _, leaks = victims
    out = attacks.dlm_projected(small(), leaks, SMALL, start=start, seed=seed, steps=100)
    fooled = (quality(out, x) < 20) & (out.objective < 1e-9)
    assert fooled.sum() >= 2
    assert not out.converged[fooled].any()
    assert (quality(out, x)[out.converged] > 40).all()


@pytest.mark.parametrize(("solver", "seed"), [(solvers.lbfgs, 0), (solvers.lbfgs_torch, 1)])
def test_dlm_collapses_from_a_small_k_and_is_not_believed(solver, seed, victims):
    x, _, leaks = victims
    settings = dict(start="normal", solver=solver, seed=seed, steps=150)
    out = attacks.dlm(small(), leaks, SMALL, unknowns={"k": 1.0}, **settings)
    fooled = (quality(out, x) < 20) & (out.objective < 1e-6)
    assert fooled.sum() >= 1
    assert (out.unknowns["k"][fooled].abs() < 1e-2 / LR).all(), "k has gone to zero"
    assert not out.converged[quality(out, x) < 20].any()


@pytest.mark.parametrize(("k", "seed"), [(60.0, 0), (200.0, 1)])
def test_dlm_as_published_is_believed_only_where_it_is_right(k, seed, victims):
    x, _, leaks = victims
    settings = dict(start="normal", solver=solvers.lbfgs_torch, seed=seed, steps=150)
    out = attacks.dlm(small(), leaks, SMALL, unknowns={"k": k}, **settings)
    assert not out.converged[quality(out, x) < 20].any()
    assert out.images.isfinite().all() and out.unknowns["k"].isfinite().all()


# --- k in closed form ---------------------------------------------------------------------------


def test_projected_objective_is_the_smallest_over_all_k(victims):
    """Against a search over k, at the start and after a few steps."""
    _, y, leaks = victims
    start = torch.rand(6, 1, *SMALL, generator=torch.Generator().manual_seed(1))
    for steps in (1, 8):
        settings = dict(labels=y[:, None], start=start, steps=steps)
        out = attacks.dlm_projected(small(), leaks, SMALL, **settings)
        for i in range(6):
            g = client.share_gradient(small(i), out.images[i], y[i : i + 1]).update
            g = torch.cat([tensor.double().flatten() for tensor in g.values()])
            h = torch.cat([d[i].double().flatten() for d in leaks.direction.values()])
            low, high = -1e4, 1e4
            for _ in range(12):
                grid = torch.linspace(low, high, 101, dtype=torch.float64)
                values = (g - grid[:, None] * h).square().sum(1)
                best, width = grid[values.argmin()], grid[1] - grid[0]
                low, high = best - width, best + width
            assert float(out.objective[i]) == pytest.approx(float(values.min()), rel=1e-3)
        assert dict(out.unknowns) == {}


@pytest.mark.parametrize("start", ["half", "uniform"])
def test_projected_recovers_digits_where_the_label_is_given(start, victims):
    x, y, leaks = victims
    settings = dict(labels=y[:, None], start=start, steps=120)
    out = attacks.dlm_projected(small(), leaks, SMALL, **settings)
    assert (quality(out, x) > 40).sum() >= 5
    assert torch.equal(out.converged, quality(out, x) > 40)


# --- DLM+ ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs():
    """Three photographs, networks of two seeds and two learning rates, all in one stack."""
    x, y = (t[[0, 12, 30]] for t in data.load("photos"))
    cases = [(i, seed, lr) for lr in (1e-2, 1e-1) for seed in (1, 2) for i in range(3)]
    leaks = stack(
        client.share_weights(models.lenet(3, 32, seed=s), x[i : i + 1], y[i : i + 1], lr=lr)
        for i, s, lr in cases
    )
    rows = [i for i, _, _ in cases]
    return x[rows], y[rows], leaks


def test_dlm_plus_recovers_photographs_with_neither_label_nor_learning_rate(photographs):
    x, y, leaks = photographs
    out = attacks.dlm_plus(models.lenet(3, 32), leaks, (1, 3, 32, 32), steps=200)
    assert torch.equal(out.labels[:, 0], y)
    assert quality(out, x).min() > 30


@pytest.mark.parametrize("distance", SCALE_FREE, ids=named)
def test_dlm_plus_by_each_norm(distance, victims):
    x, y, _ = victims
    out = attacks.dlm_plus(small(), send(x, y, lr=1e-3), SMALL, distance=distance, steps=120)
    assert torch.equal(out.labels[:, 0], y)
    assert quality(out, x).min() > 40


@pytest.mark.parametrize(
    ("distance", "rule"),
    [(SCALE_FREE[0], "joint"), (SCALE_FREE[1], labels.idlg), (SCALE_FREE[2], labels.idlg)],
)
def test_scale_of_what_was_sent_does_not_change_the_answer_of_dlm_plus(
    rule, distance, small_digits
):
    """The same direction as of a learning rate a thousand times as large, or as small."""
    x, y = small_digits[0][:2].double(), small_digits[1][:2]
    model_of = lambda i: small(i).double()  # noqa: E731
    leaks = send(x, y, model_of=model_of)
    run = partial(attacks.dlm_plus, model_of(0), shape=SMALL, distance=distance, labels=rule)
    wanted = run(leak=leaks, steps=25)
    for scale in (2.0**-10, 2.0**10):
        update = {n: w - scale * leaks.direction[n] for n, w in leaks.weights.items()}
        got = run(leak=dataclasses.replace(leaks, update=update), steps=25)
        torch.testing.assert_close(got.images, wanted.images, rtol=0, atol=1e-5)
        torch.testing.assert_close(got.objective, wanted.objective, rtol=1e-4, atol=1e-12)
        assert torch.equal(got.labels, wanted.labels)


def test_labels_of_dlm_plus_are_read_searched_or_given(victims):
    x, y, leaks = victims
    x, y, leaks = x[:4], y[:4], some(leaks, range(4))
    run = partial(attacks.dlm_plus, small(), leaks, SMALL, steps=80)
    read, given, one = run(), run(labels=y[:, None]), run(labels=torch.tensor([6]))
    assert torch.equal(read.images, given.images) and torch.equal(read.labels, y[:, None])
    assert one.labels.tolist() == [[6]] * 4
    assert not one.converged[y != 6].any() and quality(one, x)[y == 6].min() > 40
    joint = run(labels="joint")
    right = quality(joint, x) > 40
    assert right.sum() >= 3 and torch.equal(joint.labels[right, 0], y[right])
    assert not torch.equal(joint.images, read.images)
    assert not (joint.converged & ~right).any()


def test_labels_of_a_batch_are_searched(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    leak = client.share_weights(small(), x, y, lr=LR)
    run = partial(attacks.dlm_plus, small(), leak, (2, *SMALL[1:]), start="uniform", steps=150)
    run = partial(run, labels="joint")
    out = run()
    assert sorted(out.labels[0].tolist()) == sorted(y.tolist())
    images = metrics.match(out.images, x)
    assert out.converged.all() and metrics.psnr(images, x).min() > 40
    with pytest.raises(ValueError, match=r"^leak: got a batch of 2.*joint.*labels\.counts"):
        run(labels=labels.idlg)


def test_gradient_will_do_too(small_digits):
    """One that came at an unknown scale, say."""
    x, y = (t[:3] for t in small_digits)
    sent = stack(client.share_gradient(small(i), x[i : i + 1], y[i : i + 1]) for i in range(3))
    scaled = dataclasses.replace(sent, update={n: g / 7 for n, g in sent.update.items()})
    assert quality(attacks.dlm_plus(small(), scaled, SMALL, steps=60), x).min() > 40
    out = attacks.dlm(small(), scaled, SMALL, unknowns={"k": 3.0}, labels=y[:, None], steps=100)
    assert quality(out, x).min() > 30
    torch.testing.assert_close(out.unknowns["k"], torch.full((3,), 7.0), rtol=1e-2, atol=0)


# --- rounding -----------------------------------------------------------------------------------


def test_image_that_rounding_hides_is_not_believed(victims):
    """As the learning rate falls: first exact, then worse and not converged, then nothing."""
    x, y = (t[:3] for t in victims[:2])
    median = []
    for lr in (1e-2, 1e-4, 1e-6, 1e-8):
        out = attacks.dlm_plus(small(), send(x, y, lr), SMALL, labels=y[:, None], steps=70)
        assert not out.converged[quality(out, x) < 30].any()
        assert out.images.isfinite().all()
        median.append(float(quality(out, x).median()))
        assert out.converged.all() if lr == 1e-2 else not out.converged.any()
    assert median[0] > 50 and median[1] > 45 and 15 < median[2] < 40 and median[3] < 12


def test_weights_that_did_not_move_tell_nothing(victims):
    leaks = victims[2]
    still = dataclasses.replace(leaks, update=leaks.weights)
    with pytest.raises(ValueError, match="^labels: got -1 from idlg"):
        attacks.dlm_plus(small(), still, SMALL, steps=20)
    out = attacks.dlm_plus(small(), still, SMALL, labels=3, steps=20)
    assert not out.converged.any() and out.images.isfinite().all()
    for attack in ATTACKS[:2]:
        out = attack(small(), still, SMALL, steps=20)
        assert not out.converged.any() and out.images.isfinite().all()


# --- many problems, networks and pieces ---------------------------------------------------------


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_stack_is_the_attacks_one_by_one(attack, small_digits):
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    each = [
        client.share_weights(small(i).double(), x[i : i + 1], y[i : i + 1], lr=10.0**-i)
        for i in range(1, 3)
    ]
    start = torch.rand(2, 1, *SMALL, generator=torch.Generator().manual_seed(1)).double()
    run = partial(attack, small().double(), shape=SMALL, steps=15)
    together = run(leak=stack(each), labels=y[1:, None], start=start)
    for i, leak in enumerate(each):
        alone = run(leak=leak, labels=y[i + 1 : i + 2], start=start[i])
        torch.testing.assert_close(together.images[i], alone.images[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(together.trace[i], alone.trace[0], rtol=1e-6, atol=1e-9)
        for name, value in together.unknowns.items():
            torch.testing.assert_close(value[i], alone.unknowns[name][0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_attack_on_a_network_of_the_readers_own(attack, own_network, small_digits):
    """No chain of layers: autograd through vmap, where LeNet has its own derivatives."""
    x, y = (t[:2] for t in small_digits)
    leaks = send(x, y, lr=0.05, model_of=own_network)
    settings = dict(unknowns={"k": 40.0}) if attack is attacks.dlm else {}
    if attack is attacks.dlm_projected:
        settings["labels"] = y[:, None]
    out = attack(own_network(), leaks, SMALL, steps=150, **settings)
    assert torch.equal(out.labels[:, 0], y)
    assert quality(out, x).min() > 40 and out.converged.all()
    if attack is attacks.dlm:
        torch.testing.assert_close(out.unknowns["k"], torch.full((2,), 20.0), rtol=0.02, atol=0)


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_weights_that_count_are_those_of_the_leak_and_the_model_stays(attack, victims):
    leaks = some(victims[2], [0, 1])
    other = models.init_uniform(small(), 2.0, seed=7)
    before = {name: p.detach().clone() for name, p in other.named_parameters()}
    random_state = torch.get_rng_state()
    wanted, got = (attack(m, leaks, SMALL, steps=10, seed=3) for m in (small(), other))
    assert torch.equal(got.images, wanted.images) and torch.equal(got.labels, wanted.labels)
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in other.named_parameters())
    assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.parametrize("attack", [attacks.dlm, attacks.dlm_plus], ids=named)
def test_attacker_who_knows_what_was_pruned(attack, small_digits):
    x, y = (t[:2] for t in small_digits)
    leaks = send(x, y, defense=defenses.prune(0.6))

    def only_what_was_sent(gradient, leak):
        assert leak.kind == "weights" and leak.victims is None
        return {name: g * (leak.direction[name] != 0) for name, g in gradient.items()}

    run = partial(attack, small(), leaks, SMALL, labels=y[:, None])
    naive, knowing = run(steps=40), run(steps=120, defend=only_what_was_sent)
    assert quality(naive, x).max() < 25 and not naive.converged.any()
    assert quality(knowing, x).min() > 40 and knowing.converged.all()


@pytest.mark.parametrize("attack", [attacks.dlm, attacks.dlm_plus], ids=named)
def test_prior_counts_in_the_objective_but_not_for_convergence(attack, victims):
    x, y, leaks = victims
    two, y = some(leaks, range(2)), y[:2, None]
    out = attack(small(), two, SMALL, labels=y, prior=lambda x: 50 + 0 * x.sum(), steps=80)
    assert (out.objective >= 50).all() and quality(out, x[:2]).min() > 30
    # 50 in float32 hides what is below 4e-6 of the distance
    flat = attack(small(), two, SMALL, labels=y, prior=lambda x: 1e6 * x.var(), steps=40)
    assert flat.images.var(dim=(1, 2, 3, 4)).max() < 1e-3 and not flat.converged.any()


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize("solver", [solvers.adam, solvers.sign_adam], ids=named)
def test_every_solver_moves_what_is_searched(attack, solver, victims):
    _, y, leaks = victims
    out = attack(small(), leaks, SMALL, labels=y[:, None], solver=solver, steps=30)
    assert (out.objective < 0.9 * out.trace[:, 0]).all() and out.images.isfinite().all()
    if attack is attacks.dlm:
        assert (out.unknowns["k"] != 200).all()


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [float("nan"), float("inf"), -float("inf")])
def test_first_k_is_finite(k, victims):
    with pytest.raises(ValueError, match=rf"^unknowns\['k'\]: got {k}; wanted a finite number"):
        attacks.dlm(small(), victims[2], SMALL, unknowns={"k": k})


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(labels=torch.tensor([10])), r"^labels: got 10 to 10; wanted 0\.\.9"),
        (dict(labels=torch.tensor([1.0])), "^labels: .*float32.*int64"),
        (dict(labels=torch.tensor([1, 2])), r"^labels: got shape \(2,\); wanted \(6, 1\)"),
        (dict(labels="both"), "^labels: got 'both'; wanted "),
        (dict(start="noise"), "^start: got 'noise'"),
        (dict(shape=(2, 1, 12, 12)), "^shape: got a batch of 2"),
        (dict(labels=torch.tensor([1]), start="half", restarts=2), "^restarts: got 2"),
        (dict(steps=0), "^steps: got 0"),
    ],
)
def test_wrong_argument_gets_an_error_that_names_it(attack, wrong, message, victims):
    with pytest.raises(ValueError, match=message):
        attack(small(), **dict(leak=victims[2], shape=SMALL) | wrong)


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_broken_leak_gets_an_error_that_names_the_tensor(attack, victims):
    leak = victims[2]
    broken = {name: tensor.clone() for name, tensor in leak.update.items()}
    broken["fc.bias"][3, 3] = torch.nan
    with pytest.raises(ValueError, match=r"^leak\.update\['fc.bias'\]: .*NaN or infinite"):
        attack(small(), dataclasses.replace(leak, update=broken), SMALL)


# --- scores of the published code ---------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.2, 0.5])
def test_psnr_of_a_known_error_does_not_depend_on_the_data(mean):
    """The published score divides by the data's standard deviation: 11.49 dB too many."""
    truth = torch.full((1, 3, 32, 32), mean)
    for error, wanted in ((0.1, 20.0), (0.01, 40.0), (0.2, 13.979)):
        assert float(metrics.psnr(truth + error, truth)) == pytest.approx(wanted, abs=1e-3)
    # the standard deviation of CIFAR-100, by which images are normalised elsewhere
    published = metrics.psnr(0.2664 * (truth + 0.1), 0.2664 * truth)
    assert float(published) == pytest.approx(20 + 11.49, abs=0.01)


def test_ssim_of_different_photographs_is_far_below_one():
    """With the range 255 on images in [0, 1] it is nearly 1 whatever the two show."""
    from skimage.metrics import structural_similarity

    x = data.load("photos", 6)[0]
    wrong_range = [
        structural_similarity(
            a.numpy(), b.numpy(), channel_axis=0, data_range=255,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for a, b in zip(x, x.roll(1, 0), strict=True)
    ]  # fmt: skip
    assert min(wrong_range) > 0.95
    assert metrics.ssim(x, x.roll(1, 0)).max() < 0.5
    assert metrics.ssim(x, x).min() == pytest.approx(1)
