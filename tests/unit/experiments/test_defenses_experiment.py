"""The experiment on defences: every arm runs, and what it keeps is what its name says."""

import json

import pytest
import torch

import _attacked_and_trained
import defenses as experiment
from leaklib import client, data, defenses, distances, models
from leaklib.book import results


@pytest.fixture
def small(shrunk, monkeypatch):
    """Digits of 12 x 12 pixels, few evaluations and few rounds."""
    shrunk(experiment, size=12, EVALUATIONS=4, ROUNDS=2, BATCH=4, IMAGES=2, SEEDS=1)
    lenet = lambda name, seed, **settings: models.lenet(1, 12, seed=seed, **settings)  # noqa: E731
    monkeypatch.setattr(experiment, "network", lenet)


def kept(case, arm, rows=range(2)):
    return experiment.work(2, case, arm, rows)


@pytest.mark.parametrize("arm", experiment.ARMS)
def test_an_arm_has_an_entry_for_each_image(arm, small):
    found = kept("digits", arm)
    assert {len(column) for column in found.values()} == {2}
    assert set(found) == {
        f"{who}_{what}" for who in ("naive", "adaptive") for what in ("mse", "ssim")
    } | {"label_read"}
    knows = bool(experiment.ARMS[arm].knows)
    assert knows == (arm not in ("none", "half precision"))
    assert knows or found["naive_mse"] == found["adaptive_mse"]


@pytest.mark.parametrize(
    "arm", ["none", "clip 0.1", "mask 0.5", "DP-SGD 0.1", "weights noise 0.001"]
)
def test_training_gives_an_accuracy_for_each_seed(arm, small):
    (score,) = kept("digits trained", arm, range(1))["accuracy"]
    assert 0 <= score <= 1
    assert score == kept("digits trained", arm, range(1))["accuracy"][0]


def test_soteria_is_not_trained_with(small):
    assert kept("digits trained", "Soteria 0.5", range(1)) == {"accuracy": [None]}


def test_nobody_trains_on_what_is_tested(small):
    taught = _attacked_and_trained.pupils("digits trained", 1)
    everything = _attacked_and_trained.shuffled("digits")
    assert len(taught.images) == 40 and len(everything[0]) == 60
    assert torch.equal(taught.images, everything[0][:40])


def test_one_step_of_weights_is_a_step_on_the_gradient(small):
    """Without a defence the two ways to train are the same."""
    x, y = data.load("digits", 12)
    clients = [experiment.federated.Client(x[:6], y[:6]), experiment.federated.Client(x[6:], y[6:])]
    by_weights, by_gradient = models.lenet(1, 12), models.lenet(1, 12)
    experiment.one_step(by_weights, clients, lr=0.3, defense=None, seed=3)
    experiment.federated.fedsgd_round(by_gradient, clients, lr=0.3, batch_size=4, seed=3)
    for a, b in zip(by_weights.parameters(), by_gradient.parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_adaptive_attacker_infers_the_noise_from_what_was_sent():
    g = {"a": torch.randn(40_000, generator=torch.Generator().manual_seed(0))}
    h = defenses.gaussian(0.5, relative=True)(g, torch.Generator().manual_seed(1))
    sigma = 0.5 * float(g["a"].square().mean().sqrt())
    told = distances.likelihood(sigma)(g, h)
    assert torch.isclose(experiment.noise(0.5)["distance"](g, h), told, rtol=0.03)


def test_weights_are_sent_where_the_defence_acts_on_them(small, monkeypatch):
    seen = []
    share = client.share_weights
    monkeypatch.setattr(
        experiment.client, "share_weights", lambda *a, **k: seen.append(k) or share(*a, **k)
    )
    kept("digits", "weights sparse 0.1")
    kept("digits", "mask 0.2")
    assert [k["lr"] for k in seen] == [experiment.SENT_AT] * 2


def test_run_is_saved_and_goes_on(small, tmp_path, monkeypatch):
    path = tmp_path / "defenses.json"
    monkeypatch.setattr(experiment, "ARMS", {n: experiment.ARMS[n] for n in ("none", "mask 0.5")})
    assert experiment.main(["--workers", "1", "--sets", "digits"], path) is None
    assert experiment.main(["--workers", "1", "--sets", "digits trained"], path) is None
    assert set(results.finished(json.loads(path.read_text()))) == {"digits", "digits trained"}
