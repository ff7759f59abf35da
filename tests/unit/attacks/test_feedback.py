"""Feedback blending: each attack starts at the blend of what the successful ones before it gave."""

from functools import partial

import pytest
import torch

from leaklib import attacks, client, data, labels, metrics, models, solvers
from leaklib.leak import some, stack

SHAPE = (1, 1, 28, 28)
MODEL = models.lenet(1, 28)
to_the_objective = partial(solvers.lbfgs, whiten=False)


def loss_rule(out):
    return out.objective < 1e-6


def stopping(objective, z, **settings):
    return to_the_objective(objective, z, **{**settings, "tolerance": 1e-6})


@pytest.fixture(scope="module")
def victims():
    """Digits, and the stack of what each of their clients sends from a network of its own."""
    x, y = data.load("digits", 16, seed=0)
    nets = [models.lenet(1, 28, seed=i) for i in range(16)]
    shared = [client.share_gradient(n, x[i : i + 1], y[i : i + 1]) for i, n in enumerate(nets)]
    return x, y, stack(shared)


def test_feedback_recovers_digits_with_fewer_evaluations_than_noise(victims):
    x, y, leaks = victims
    settings = dict(solver=stopping, success=loss_rule)
    blended = attacks.dlg_fb(MODEL, leaks, SHAPE, **settings)
    assert metrics.success_rate(blended.images[:, 0], x) > 0.95
    assert torch.equal(blended.labels[:, 0], y)
    noise = attacks.idlg(MODEL, leaks, SHAPE, start="normal", solver=stopping)
    # the first attack of the sequence has nothing to start from
    assert blended.evaluations[1:].sum() < 0.75 * noise.evaluations[1:].sum()


@pytest.mark.parametrize("wave", [1, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_starts_follow_the_formula(alpha, wave, victims):
    """Against the sequence written out, attack by attack."""
    _, _, leaks = victims
    leaks, starts = some(leaks, range(7)), []

    def watched(model, leak, shape, *, start, **settings):
        starts.extend([start] * leak.victims)
        return attacks.idlg(model, leak, shape, start=start, **settings)

    # one in three counts as a success, so that failures come between
    every_third = lambda out: out.labels[:, 0] % 3 == 0  # noqa: E731
    out = attacks.dlg_fb(
        MODEL, leaks, SHAPE, alpha=alpha, wave=wave, attack=watched, success=every_third, steps=20
    )
    m, wanted = None, []
    for first in range(0, 7, wave):
        wanted += ["normal" if m is None else m] * min(wave, 7 - first)
        for i in range(first, min(first + wave, 7)):
            if out.labels[i, 0] % 3 == 0:
                m = out.images[i] if m is None else alpha * m + (1 - alpha) * out.images[i]
    assert len(starts) == 7 and any(torch.is_tensor(start) for start in starts)
    for start, want in zip(starts, wanted, strict=True):
        assert start == want if isinstance(want, str) else torch.equal(start, want)


def test_failures_are_not_blended(victims):
    """Where nothing counts as a success, every attack begins at the start of its own."""
    _, _, leaks = victims
    leaks = some(leaks, range(4))
    guesses = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    never = lambda out: torch.zeros(len(out.images), dtype=torch.bool)  # noqa: E731
    out = attacks.dlg_fb(MODEL, leaks, SHAPE, start=guesses, success=never, steps=3)
    alone = attacks.idlg(MODEL, leaks, SHAPE, start=guesses[:, None], steps=3)
    assert torch.allclose(out.snapshots[1][:, 0], guesses[:, 0])
    assert torch.allclose(out.images, alone.images, atol=1e-3)
    drawn = attacks.dlg_fb(MODEL, leaks, SHAPE, success=never, steps=1)
    assert len({float(image.sum()) for image in drawn.snapshots[1]}) == 4, "each draws its own"


def test_one_wave_is_the_attack_itself(victims):
    _, _, leaks = victims
    leaks = some(leaks, range(5))
    out = attacks.dlg_fb(MODEL, leaks, SHAPE, wave=5, start="uniform", seed=3, steps=40)
    plain = attacks.idlg(MODEL, leaks, SHAPE, start="uniform", seed=3, steps=40)
    assert all(torch.equal(a, b) for a, b in zip(out[:4], plain[:4], strict=True))
    assert torch.equal(out.trace.nan_to_num(), plain.trace.nan_to_num())


def test_waves_of_any_size_recover_the_same_images(victims):
    x, _, leaks = victims
    leaks = some(leaks, range(12))
    for wave in (5, 12):
        out = attacks.dlg_fb(MODEL, leaks, SHAPE, wave=wave, start="uniform")
        assert metrics.success_rate(out.images[:, 0], x[:12]) > 0.9
        assert out.images.shape == (12, *SHAPE) and out.evaluations.shape == (12,)


def test_result_of_a_sequence_keeps_every_victims_own_trace(victims):
    _, _, leaks = victims
    leaks = some(leaks, range(3))
    out = attacks.dlg_fb(MODEL, leaks, SHAPE)
    assert torch.equal(out.trace.isfinite().sum(1), out.evaluations)
    for i in range(3):
        assert out.trace[i].nan_to_num(torch.inf).min() == out.objective[i]
    assert sorted(out.snapshots) == list(out.snapshots)
    last = max(out.snapshots)
    over = out.evaluations < last
    assert torch.equal(out.snapshots[last][over], out.images[over])


def test_joint_labels_and_labels_that_are_given(victims):
    x, y, leaks = victims
    leaks = some(leaks, range(4))
    joint = attacks.dlg_fb(MODEL, leaks, SHAPE, attack=attacks.dlg, start="uniform")
    assert metrics.label_accuracy(joint.labels, y[:4]) >= 0.75
    given = attacks.dlg_fb(MODEL, leaks, SHAPE, labels=y[:4, None], start="uniform", wave=3)
    assert metrics.success_rate(given.images[:, 0], x[:4]) == 1
    assert torch.equal(given.labels[:, 0], y[:4])


def test_own_network_and_a_list_of_leaks(own_network, small_digits):
    x, y = small_digits
    sent = [client.share_gradient(own_network(i), x[i : i + 1], y[i : i + 1]) for i in range(4)]
    out = attacks.dlg_fb(own_network(), sent, (1, 1, 12, 12), start="uniform", steps=400)
    assert metrics.psnr(out.images[:, 0], x[:4]).median() > 25
    assert torch.equal(out.labels[:, 0], y[:4])


def test_bad_input_is_refused(victims):
    _, _, leaks = victims
    for alpha in (-0.1, 1.0):
        with pytest.raises(ValueError, match="^alpha: got .*; wanted 0 <= alpha < 1"):
            attacks.dlg_fb(MODEL, leaks, SHAPE, alpha=alpha)
    with pytest.raises(ValueError, match="^wave: got 0; wanted at least 1"):
        attacks.dlg_fb(MODEL, leaks, SHAPE, wave=0)
    one = client.share_gradient(MODEL, *(t[:1] for t in data.load("digits")))
    with pytest.raises(ValueError, match="^leaks: got one Leak"):
        attacks.dlg_fb(MODEL, one, SHAPE)
    with pytest.raises(ValueError, match="^leaks: got an empty list"):
        attacks.dlg_fb(MODEL, [], SHAPE)
    with pytest.raises(ValueError, match="^start: got 'nothing'"):
        attacks.dlg_fb(MODEL, leaks, SHAPE, start="nothing")


# --- mini-batches -------------------------------------------------------------------------------


@pytest.mark.parametrize("B", [2, 4])
def test_batches_by_counts_and_matching_score_high_after_assignment(B):
    x, y = data.load("digits", 30, seed=5)
    # batches of different digits: two alike are the hard case
    batches = [[3 * i + k for k in range(B)] for i in range(3)]
    nets = [models.lenet(1, 28, seed=i) for i in range(3)]
    sent = [client.share_gradient(n, x[r], y[r]) for n, r in zip(nets, batches, strict=True)]
    leak = stack(sent)
    numbers = labels.listed(labels.counts(MODEL, leak))
    assert torch.equal(numbers, torch.stack([y[r].sort().values for r in batches]))
    out = attacks.dlg(MODEL, leak, (B, 1, 28, 28), labels=numbers, start="uniform", steps=800)
    truth = torch.stack([x[r] for r in batches])
    ordered = metrics.match(out.images, truth)
    assert metrics.psnr(ordered, truth).median() > 30


def test_images_with_one_label_must_not_begin_alike():
    x, _ = data.load("digits", 2, seed=0)
    leak = client.share_gradient(MODEL, x, torch.tensor([3, 3]))
    for start in ("half", "zeros"):
        with pytest.raises(
            ValueError, match=f"^start: got {start!r} for images of one batch with one label"
        ):
            attacks.dlg(MODEL, leak, (2, 1, 28, 28), labels=torch.tensor([3, 3]), start=start)
    leak = client.share_gradient(MODEL, x, torch.tensor([3, 4]))
    out = attacks.dlg(MODEL, leak, (2, 1, 28, 28), labels=torch.tensor([3, 4]), steps=2)
    assert out.images.shape == (1, 2, 1, 28, 28)


def test_some_of_a_stack(victims):
    _, _, leaks = victims
    part = some(leaks, slice(3, 5))
    assert part.victims == 2 and part.batch_size == 1
    assert torch.equal(part.weights["fc.bias"], leaks.weights["fc.bias"][3:5])
    assert torch.equal(part.update["fc.bias"], leaks.update["fc.bias"][3:5])
    with pytest.raises(ValueError, match="^rows: got .*some of the 16"):
        some(leaks, slice(16, 20))
    with pytest.raises(ValueError, match="^leaks: got a single Leak"):
        some(client.share_gradient(MODEL, *(t[:1] for t in data.load("digits"))), [0])
