"""The attacks recover what they should, believe themselves only when they may, and never peek."""

import dataclasses
import io
import warnings
from functools import partial

import pytest
import torch
from PIL import Image
from torch import nn

from leaklib import (
    attacks,
    client,
    data,
    defenses,
    distances,
    metrics,
    models,
    priors,
    solvers,
)
from leaklib.leak import stack

SHAPE = (1, 1, 28, 28)
SMALL = (1, 1, 12, 12)
ATTACKS = [attacks.dlg, attacks.idlg]
LBFGS = (solvers.lbfgs, solvers.lbfgs_torch)


def named(fn):
    return getattr(fn, "name", None) or getattr(fn, "__name__", repr(fn))


def lenet(seed=0):
    return models.lenet(1, 28, seed=seed)


def small(seed=0):
    return models.lenet(1, 12, seed=seed)


def recovered(out, x, threshold=1e-3):
    return metrics.mse(out.images[:, 0], x) < threshold


@pytest.fixture(scope="module")
def leak(small_digits):
    """One small digit."""
    return client.share_gradient(small(), small_digits[0][:1], small_digits[1][:1])


@pytest.fixture(scope="module")
def leaks(small_digits, share_each):
    """Three small digits, each through its own network."""
    return share_each(small, small_digits[0][:3], small_digits[1][:3])


# --- a hundred digits ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hundred(digits, share_each):
    """iDLG with its defaults on 100 digits, each through its own fresh network."""
    return attacks.idlg(lenet(), share_each(lenet, *digits), SHAPE)


def test_idlg_recovers_the_digits(hundred, digits):
    assert int(recovered(hundred, digits[0]).sum()) >= 97


def test_idlg_reads_every_label(hundred, digits):
    assert torch.equal(hundred.labels, digits[1][:, None])


def test_idlg_never_believes_a_failure(hundred, digits):
    right = recovered(hundred, digits[0])
    assert not (hundred.converged & ~right).any()
    assert int(hundred.converged.sum()) >= 90


@pytest.mark.parametrize("distance", [distances.l2, distances.cosine], ids=named)
def test_message_that_hardly_depends_on_the_image_is_read_all_the_same(
    distance, small_digits, share_each
):
    """Sigmoids with PyTorch's initialisation: a grey image sends nearly what every digit sends."""
    x, y = small_digits[0][:3], small_digits[1][:3]
    faint = lambda i: models.convnet(1, 12, activation="sigmoid", seed=i, width=8)  # noqa: E731
    leak = share_each(faint, x, y)
    grey = attacks.idlg(faint(0), leak, SMALL, distance=distance, steps=1)
    zero = torch.stack(
        [sum(g[i].square().sum() for g in leak.direction.values()) for i in (0, 1, 2)]
    )
    assert (grey.objective < attacks.CONVERGED * (zero if distance is distances.l2 else 1)).all()
    assert not grey.converged.any(), "near is not near enough"
    out = attacks.idlg(faint(0), leak, SMALL, distance=distance, steps=300)
    assert recovered(out, x, 1e-4).all() and out.converged.all()


def test_shapes_of_a_reconstruction(hundred):
    assert hundred.images.shape == (100, *SHAPE)
    assert hundred.labels.shape == (100, 1) and hundred.labels.dtype == torch.int64
    assert hundred.objective.shape == hundred.evaluations.shape == (100,)
    assert hundred.converged.shape == (100,) and hundred.converged.dtype == torch.bool
    assert hundred.images.isfinite().all() and not hundred.images.requires_grad


def test_trace_is_the_objective_at_each_evaluation(hundred):
    trace, evaluations = hundred.trace, hundred.evaluations
    assert trace.shape == (100, int(evaluations.max())) and trace.shape[1] <= 2000
    spent = torch.arange(trace.shape[1]) < evaluations[:, None]
    assert trace[~spent].isnan().all(), "NaN once a problem has left"
    assert trace[:, 0].isfinite().all()
    torch.testing.assert_close(trace.nan_to_num(torch.inf).amin(1), hundred.objective)
    assert len(evaluations.unique()) > 10, "problems leave one by one"


def test_snapshots_lead_from_the_start_to_the_end(hundred, digits):
    counts = list(hundred.snapshots)
    assert counts[:6] == [1, 2, 5, 10, 20, 50] and counts[-1] <= hundred.trace.shape[1]
    assert all(s.shape == hundred.images.shape for s in hundred.snapshots.values())
    assert (hundred.snapshots[1] == 0.5).all()
    quality = [metrics.mse(s[:, 0], digits[0]).median() for s in hundred.snapshots.values()]
    assert quality[0] > 1e-2 > 1e-4 > quality[-1]


# --- other attacks that work --------------------------------------------------------------------


def test_dlg_finds_image_and_label_together(digits, share_each):
    """The label comes out of the optimised u', not out of its random start."""
    x, y = digits[0][:8], digits[1][:8]
    out = attacks.dlg(lenet(), share_each(lenet, x, y), SHAPE, steps=1000)
    right = recovered(out, x)
    assert int(right.sum()) >= 6
    assert torch.equal(out.labels[right, 0], y[right])
    assert not (out.converged & ~right).any()


def test_safeguard_recovers_more_than_torch_does(small_digits, share_each):
    """The same networks, images and starts in both arms: 24 digits from two normal starts."""
    x, y = (torch.cat([t, t]) for t in small_digits)
    leak = share_each(lambda i: small(i % 24), x, y)
    generator = torch.Generator().manual_seed(1)
    draw = torch.randn(24, 1, *SMALL, generator=generator)
    start = torch.cat([1.5 * draw, 3 * draw])
    safe, plain = (
        attacks.idlg(small(), leak, SMALL, start=start, solver=solver, steps=200)
        for solver in LBFGS
    )
    assert int(recovered(safe, x).sum()) >= int(recovered(plain, x).sum()) + 3
    for out in (safe, plain):
        assert not (out.converged & ~recovered(out, x)).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_search_by_frequency_is_shorter_and_recovers_as_much(seed, digits, share_each):
    x, y = (t[10 * seed : 10 * seed + 10] for t in digits)
    leak = share_each(lambda i: lenet(100 * seed + i), x, y)
    by_pixel = partial(solvers.lbfgs, whiten=False)
    outs = [attacks.idlg(lenet(), leak, SHAPE, solver=s) for s in (solvers.lbfgs, by_pixel)]
    shorter, longer = (int(out.evaluations.median()) for out in outs)
    assert shorter < 0.8 * longer
    assert recovered(outs[0], x).sum() >= recovered(outs[1], x).sum() >= 9


def test_weights_leak_as_much_as_a_gradient_does(small_digits):
    """The learning rate is not known: the cosine does not ask for it."""
    x, y = small_digits[0][:3], small_digits[1][:3]
    sent = stack(
        client.share_weights(small(i).double(), x[i : i + 1].double(), y[i : i + 1], lr=0.1)
        for i in range(3)
    )
    out = attacks.idlg(small().double(), sent, SMALL, distance=distances.cosine, steps=600)
    assert torch.equal(out.labels[:, 0], y)
    assert recovered(out, x).sum() >= 2


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_attack_on_a_network_of_the_readers_own(attack, own_network, small_digits, share_each):
    """A residual branch and group normalisation; no base class, no names of leaklib's."""
    x, y = small_digits[0][:2], small_digits[1][:2]
    out = attack(own_network(), share_each(own_network, x, y), SMALL, steps=400)
    assert torch.equal(out.labels[:, 0], y)
    start = metrics.mse(torch.full_like(x, 0.5), x)
    assert (metrics.mse(out.images[:, 0], x) < start / 10).all()


def test_soft_labels_are_matched_by_dlg(small_digits):
    """A client that smooths its labels: only the attack with free labels gets the image."""
    x, y = small_digits[0][:1], small_digits[1][:1]
    soft = 0.7 * torch.nn.functional.one_hot(y, 10).float() + 0.03
    leak = client.share_gradient(small(), x, soft)
    out = attacks.dlg(small(), leak, SMALL, restarts=4, steps=300)
    assert out.converged.all() and recovered(out, x).all()
    assert torch.equal(out.labels[0], y)
    assert not attacks.dlg(small(), leak, SMALL, labels=y, steps=300).converged.any()


def test_batch_is_reconstructed_in_some_order(small_digits):
    x, y = small_digits[0][:2], small_digits[1][[0, 1]]
    leak = client.share_gradient(small(), x, y)
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(1, 1, 2, 1, 12, 12, generator=generator)
    out = attacks.dlg(small(), leak, (2, *SMALL[1:]), labels=y, start=start, steps=1500)
    assert out.images.shape == (1, 2, 1, 12, 12) and out.labels.tolist() == [y.tolist()]
    assert recovered_batch(out, x) < recovered_batch(out._replace(images=start[0]), x) / 10


def recovered_batch(out, x):
    images = out.images[0]
    return metrics.mse(metrics.match(images, x), x).mean()


def test_readers_own_picture_comes_nearer(tmp_path):
    """A file is opened, shared, attacked; in a hundred evaluations the PSNR rises."""
    gradient = torch.linspace(0, 255, 60).repeat(40, 1)
    pixels = torch.stack([gradient, gradient.flip(1), gradient / 2], -1).byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    (tmp_path / "mine.png").write_bytes(file.getvalue())
    x = data.open_image(tmp_path / "mine.png", size=16)
    model = models.lenet(3, 16, classes=5)
    leak = client.share_gradient(model, x, torch.tensor([3]))
    out = attacks.idlg(model, leak, x.shape, steps=100)
    assert out.labels.tolist() == [[3]]
    before, after = metrics.psnr(out.snapshots[1][0], x), metrics.psnr(out.images[0], x)
    assert after > before + 5


# --- many problems at once ----------------------------------------------------------------------


def test_batched_attack_is_the_attacks_one_by_one(small_digits):
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    each = [client.share_gradient(small(i).double(), x[i : i + 1], y[i : i + 1]) for i in range(3)]
    generator = torch.Generator().manual_seed(1)
    start = torch.rand(3, 1, *SMALL, generator=generator, dtype=torch.float64)
    settings = dict(steps=15)
    together = attacks.idlg(small().double(), stack(each), SMALL, start=start, **settings)
    for i, leak in enumerate(each):
        alone = attacks.idlg(small().double(), leak, SMALL, start=start[i], **settings)
        torch.testing.assert_close(together.images[i], alone.images[0], rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(together.trace[i], alone.trace[0], rtol=1e-7, atol=1e-9)
        assert together.labels[i] == alone.labels[0]


def test_restarts_are_attacks_of_their_own_and_the_best_is_kept(small_digits, share_each):
    x, y = small_digits[0][:2].double(), small_digits[1][:2]
    leak = share_each(lambda i: small(i).double(), x, y)
    generator = torch.Generator().manual_seed(2)
    start = 2 * torch.randn(2, 4, *SMALL, generator=generator, dtype=torch.float64)
    model, settings = small().double(), dict(steps=20)
    out = attacks.idlg(model, leak, SMALL, start=start, restarts=4, **settings)
    singles = [
        attacks.idlg(model, leak, SMALL, start=start[:, r : r + 1], **settings) for r in range(4)
    ]
    objective = torch.stack([single.objective for single in singles])  # (R, V)
    assert len(objective[:, 0].unique()) > 1
    for v in range(2):
        best = singles[int(objective[:, v].argmin())]
        torch.testing.assert_close(out.objective[v], best.objective[v], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(out.images[v], best.images[v], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(
            out.trace[v], best.trace[v], rtol=1e-6, atol=1e-9, equal_nan=True
        )
    spent = sum(single.evaluations for single in singles)
    assert torch.equal(out.evaluations, spent)


@pytest.mark.parametrize("start", ["normal", "uniform"])
@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize("victims", [1, 3])
def test_more_restarts_are_never_worse(attack, start, victims, small_digits, share_each):
    """The first starts stay the same when more are asked for."""
    model = small().double()
    x, y = small_digits[0][:victims].double(), small_digits[1][:victims]
    leak = share_each(lambda i: small(i).double(), x, y)
    few, more = (
        attack(model, leak, SMALL, start=start, restarts=R, steps=12, seed=3) for R in (1, 3)
    )
    assert (more.objective <= few.objective * (1 + 1e-6)).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_seed_decides_everything(attack, leaks):
    settings = dict(start="normal", restarts=2, steps=10)
    random_state = torch.get_rng_state()
    one, same, other = (attack(small(), leaks, SMALL, seed=s, **settings) for s in (5, 5, 6))
    assert torch.equal(one.images, same.images) and torch.equal(one.trace, same.trace)
    assert not torch.equal(one.images, other.images)
    assert torch.equal(random_state, torch.get_rng_state()), "the global generator is not used"


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_weights_that_count_are_those_of_the_leak(attack, leak):
    """The model is only the architecture: what it happens to hold changes nothing."""
    wanted = attack(small(), leak, SMALL, steps=10)
    got = attack(models.init_uniform(small(), 2.0, seed=77), leak, SMALL, steps=10)
    assert torch.equal(got.images, wanted.images) and torch.equal(got.labels, wanted.labels)


@pytest.mark.parametrize("solver", [*LBFGS, solvers.adam], ids=named)
def test_attack_leaves_the_model_as_it_was(solver, leaks):
    model = small(4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    attacks.idlg(model, leaks, SMALL, solver=solver, steps=5)
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in model.named_parameters())


def test_frozen_layers_and_running_statistics_come_from_the_leak(small_digits):
    def network():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Conv2d(1, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.Sigmoid(),
                nn.Conv2d(8, 8, 5, 2, 2), nn.Sigmoid(), nn.Flatten(), nn.Linear(72, 10),
            )  # fmt: skip

    x, y = small_digits
    model = models.init_uniform(network(), 0.5)
    model(x)  # moves the running statistics
    model.eval()[3].requires_grad_(False)
    leak = client.share_gradient(model, x[:1], y[:1])
    fresh = network().eval()
    fresh[3].requires_grad_(False)
    out, wanted = (attacks.idlg(m, leak, SMALL, steps=300) for m in (fresh, model))
    assert torch.equal(out.images, wanted.images)
    assert recovered(out, x[:1]).all()


# --- the pieces of the sentence -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "low", "high"),
    [("half", 0.5, 0.5), ("zeros", 0, 0), ("uniform", 0, 1), ("normal", -6, 6)],
)
def test_starts(start, low, high, leaks):
    first = attacks.idlg(small(), leaks, SMALL, start=start, steps=1).snapshots[1]
    assert first.shape == (3, *SMALL) and low <= first.min() and first.max() <= high
    if start == "uniform":
        assert abs(first.mean() - 0.5) < 0.1 and 0.24 < first.std() < 0.34
    if start == "normal":
        assert abs(first.mean()) < 0.2 and 0.85 < first.std() < 1.15


@pytest.mark.parametrize("lead", [(), (1,), (1, 1), (3, 1)])
def test_start_may_be_images_that_broadcast(lead, leaks, small_digits):
    start = small_digits[0][7].expand(*lead, *SMALL)
    first = attacks.idlg(small(), leaks, SMALL, start=start, steps=1).snapshots[1]
    assert torch.equal(first, small_digits[0][7].expand(3, *SMALL))


def test_start_at_the_truth_is_solved_at_once(leak, small_digits):
    out = attacks.idlg(small(), leak, SMALL, start=small_digits[0][:1])
    assert out.evaluations.tolist() == [1] and out.converged.all()


def test_labels_may_be_given(leaks, small_digits):
    y = small_digits[1][:3]
    given = attacks.dlg(small(), leaks, SMALL, labels=y[:, None], steps=8)
    read = attacks.idlg(small(), leaks, SMALL, steps=8)
    assert torch.equal(given.images, read.images) and torch.equal(given.labels, y[:, None])
    wrong = attacks.idlg(small(), leaks, SMALL, labels=torch.tensor([0]), steps=8)
    assert wrong.labels.tolist() == [[0]] * 3
    assert (wrong.objective[y != 0] > read.objective[y != 0]).all()


def test_prior_counts_in_the_objective_but_not_for_convergence(leak, small_digits):
    flat = lambda x: 100 + 0 * x.sum()  # noqa: E731
    out = attacks.idlg(small(), leak, SMALL, prior=flat, steps=300)
    assert out.objective >= 100 and out.converged.all()
    assert recovered(out, small_digits[0][:1]).all()

    strong = priors.total_variation(1e6)
    out = attacks.idlg(small(), leak, SMALL, start="uniform", prior=strong, steps=150)
    assert not out.converged.any()
    assert priors.total_variation()(out.images) < 0.02, "what the prior asks for"


def test_prior_may_be_negative(leak, small_digits):
    """A log-density has no sign; the attack goes on all the same."""
    below = lambda x: (x - 0.5).square().sum() * 1e-6 - 50  # noqa: E731
    out = attacks.idlg(small(), leak, SMALL, prior=below, steps=100)
    assert out.evaluations > 20


def test_distance_is_what_is_minimised(leak):
    weighted = lambda g, h: 3 * distances.l2(g, h)  # noqa: E731
    plain, three = (
        attacks.idlg(small(), leak, SMALL, distance=d, steps=1) for d in (distances.l2, weighted)
    )
    torch.testing.assert_close(3 * plain.trace, three.trace)


def test_attacker_who_knows_what_was_pruned(small_digits, share_each):
    """`defend` sets the attacker's own entries to zero where the client did."""
    x, y = small_digits[0][:3], small_digits[1][:3]
    leak = share_each(small, x, y, defense=defenses.prune(0.6))

    def only_what_was_sent(gradient, leak):
        return {name: g * (leak.direction[name] != 0) for name, g in gradient.items()}

    naive = attacks.idlg(small(), leak, SMALL, steps=300)
    knowing = attacks.idlg(small(), leak, SMALL, steps=1000, defend=only_what_was_sent)
    assert not recovered(naive, x).any() and not naive.converged.any()
    assert recovered(knowing, x).all()


def test_defend_sees_one_problem_with_its_own_leak(leaks):
    seen = []

    def spy(gradient, leak):
        seen.append((leak.victims, leak.kind, leak.batch_size))
        assert {n: g.shape for n, g in gradient.items()} == {
            n: h.shape for n, h in leak.direction.items()
        }
        return gradient

    attacks.idlg(small(), leaks, SMALL, steps=2, defend=spy)
    assert set(seen) == {(None, "gradient", 1)}


# --- networks that vmap cannot batch ------------------------------------------------------------


class Plain(nn.Module):
    """Its forward pass asks the data which way to go (`branching`), always the same way."""

    def __init__(self, branching):
        super().__init__()
        self.branching = branching
        self.fc1, self.fc2 = nn.Linear(144, 20), nn.Linear(20, 10)
        models.init_uniform(self, 0.3)

    def forward(self, x):
        h = self.fc1(x.flatten(1)).sigmoid()
        if self.branching and not bool(h.sum() > 0):
            raise AssertionError("sigmoids are positive")
        return self.fc2(h)


class Recurrent(nn.Module):
    """Reads an image row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.fc = nn.LSTM(12, 8, batch_first=True), nn.Linear(8, 10)
        models.init_uniform(self, 0.5)

    def forward(self, x):
        return self.fc(self.rows(x[:, 0])[0][:, -1])


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_network_that_vmap_cannot_batch_runs_in_a_loop_and_says_so_once(small_digits, share_each):
    x, y = small_digits[0][:3].double(), small_digits[1][:3]
    settings = dict(steps=12)
    batched, looped = (Plain(branching=b).double() for b in (False, True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wanted = attacks.idlg(batched, share_each(lambda i: batched, x, y), SMALL, **settings)
    with pytest.warns(UserWarning) as said:
        got = attacks.idlg(looped, share_each(lambda i: looped, x, y), SMALL, **settings)
    assert sum("cannot be batched" in str(w.message) for w in said) == 1
    torch.testing.assert_close(got.images, wanted.images, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got.objective, wanted.objective, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_recurrent_network_is_attacked(small_digits, share_each):
    x, y = small_digits[0][:2].double(), small_digits[1][:2]
    model = Recurrent().double()
    out = attacks.idlg(model, share_each(lambda i: model, x, y), SMALL, steps=60)
    assert torch.equal(out.labels[:, 0], y)
    assert (out.objective < out.trace[:, 0] / 20).all()


# --- what cannot be attacked --------------------------------------------------------------------


def test_zero_gradient_tells_nothing(leak):
    nothing = {name: torch.zeros_like(g) for name, g in leak.update.items()}
    silent = dataclasses.replace(leak, update=nothing)
    with pytest.raises(ValueError, match="^labels: got -1 from idlg.*joint"):
        attacks.idlg(small(), silent, SMALL, steps=20)
    for attack in (dataclasses.replace(attacks.idlg, labels=3), attacks.dlg):
        out = attack(small(), silent, SMALL, steps=20)
        assert not out.converged.any()
        assert out.images.isfinite().all() and out.objective.isfinite().all()


def test_undetermined_label_is_never_believed(small_digits):
    """Two classes without a bias: the label cannot be told."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(144, 20), nn.Sigmoid(), nn.Linear(20, 2, bias=False)
    )
    model = models.init_uniform(model, 0.5)
    leak = client.share_gradient(model, small_digits[0][:1], torch.tensor([0]))
    with pytest.raises(ValueError, match="^labels: got -1 from idlg"):
        attacks.idlg(model, leak, SMALL, steps=300)
    known = attacks.idlg(model, leak, SMALL, labels=torch.tensor([0]), steps=300)
    assert known.converged.all()


@pytest.mark.parametrize("distance", [distances.l2, distances.cosine], ids=named)
@pytest.mark.parametrize("solver", [*LBFGS, solvers.adam], ids=named)
def test_result_is_never_nan(leak, solver, distance):
    """A start so far out that every sigmoid is flat, or the objective overflows."""
    for scale in (1e3, 1e30):
        start = scale * torch.ones(SMALL)
        out = attacks.idlg(
            small(), leak, SMALL, start=start, solver=solver, distance=distance, steps=20
        )
        assert out.images.isfinite().all() and not out.converged.any()


def changed(leak, what, name, tensor):
    """The leak with one tensor replaced, or without it when `tensor` is None."""
    tensors = {n: t for n, t in getattr(leak, what).items() if n != name or tensor is not None}
    if tensor is not None:
        tensors[name] = tensor
    return dataclasses.replace(leak, **{what: tensors})


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize("what", ["weights", "update"])
@pytest.mark.parametrize("name", ["conv1.weight", "fc.weight", "fc.bias"])
def test_broken_leak_gets_an_error_that_names_the_tensor(attack, what, name, leak):
    tensor = getattr(leak, what)[name]
    for value in (torch.nan, torch.inf):
        broken = tensor.clone()
        broken.view(-1)[3] = value
        with pytest.raises(ValueError, match=rf"^leak\.{what}\['{name}'\]: .*NaN or infinite"):
            attack(small(), changed(leak, what, name, broken), SMALL)
    with pytest.raises(ValueError, match=rf"^leak\.{what}\['{name}'\]: .*shape"):
        attack(small(), changed(leak, what, name, torch.zeros(3, *tensor.shape)), SMALL)
    with pytest.raises(ValueError, match=rf"^leak\.{what}: got no '{name}'"):
        attack(small(), changed(leak, what, name, None), SMALL)


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_leak_of_weights_without_a_parameter_is_refused(attack, small_digits):
    leak = client.share_weights(small(), small_digits[0][:1], small_digits[1][:1], lr=0.1)
    for what in ("weights", "update"):
        with pytest.raises(ValueError, match=rf"^leak\.{what}: got no 'fc.bias'"):
            attack(small(), changed(leak, what, "fc.bias", None), SMALL)


def test_leak_without_the_buffers_of_the_network_is_refused(small_digits):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 10)).eval()
    leak = client.share_gradient(model, small_digits[0][:1], small_digits[1][:1])
    with pytest.raises(ValueError, match=r"^leak\.buffers: got no '1.running_mean'"):
        attacks.idlg(model, changed(leak, "buffers", "1.running_mean", None), SMALL)
    with pytest.raises(ValueError, match=r"^model: .*BatchNorm"):
        attacks.idlg(model.train(), leak, SMALL)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(shape=(2, 1, 12, 12)), "^shape: got a batch of 2; .*batch size 1"),
        (dict(shape=(1, 3, 12, 12)), r"^shape: got \(1, 3, 12, 12\)"),
        (dict(shape=(1, 1, 30, 30)), r"^shape: got \(1, 1, 30, 30\)"),
        (dict(shape=(1, 1, 0, 12)), "^shape: .*positive"),
        (dict(shape=(1,)), "^shape: "),
        (dict(labels=torch.tensor([10])), r"^labels: got 10 to 10; wanted 0\.\.9"),
        (dict(labels=torch.tensor([-2])), r"^labels: got -2 to -2; wanted 0\.\.9"),
        (dict(labels=torch.tensor([1.0])), "^labels: .*float32.*int64"),
        (dict(labels=torch.tensor([1, 2])), r"^labels: got shape \(2,\); wanted \(1, 1\)"),
        (dict(start="noise"), "^start: got 'noise'; .*half, grey, zeros, uniform, normal"),
        (dict(start=torch.zeros(1, 1, 13, 13)), r"^start: got shape \(1, 1, 13, 13\)"),
        (dict(start="half", restarts=2), "^restarts: got 2 .*uniform"),
        (dict(start="normal", restarts=0), "^restarts: got 0; .*positive"),
        (dict(start=torch.zeros(1, 1, 12, 12), restarts=0), "^restarts: got 0; .*positive"),
        (dict(steps=0), "^steps: got 0; .*positive"),
    ],
)
def test_wrong_argument_gets_an_error_that_names_it(wrong, message, leak):
    with pytest.raises(ValueError, match=message):
        attacks.idlg(small(), **dict(leak=leak, shape=SMALL) | wrong)


def test_one_label_is_not_read_off_a_batch(small_digits):
    leak = client.share_gradient(small(), small_digits[0][:2], small_digits[1][:2])
    with pytest.raises(ValueError, match=r"batch of 2 images.*labels\.counts"):
        attacks.idlg(small(), leak, (2, *SMALL[1:]))
