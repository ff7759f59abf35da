"""The experiment on DLM and DLM+: same images and networks for all, and what it keeps of them."""

import json
from functools import partial

import pytest
import torch

import dlm
from leaklib import attacks, client, data, models, solvers
from leaklib.book import results

CASE = "LeNet, lr 0.01"


@pytest.fixture
def small(monkeypatch):
    """Digits of 12 x 12 pixels in place of CIFAR-10, small networks, few evaluations."""
    digits = data.load("digits", 3, size=12, seed=0)
    load = lambda name, count=None, seed=0: tuple(part[:count] for part in digits)  # noqa: E731
    networks = {
        "LeNet": partial(models.lenet, 1, 12),
        "MLP": partial(models.mlp, 1, 12, hidden=(8,), activation="relu", init="dlg"),
    }
    monkeypatch.setattr(dlm, "NETWORKS", networks)
    monkeypatch.setattr(dlm, "STEPS", 5)
    monkeypatch.setattr(dlm, "IMAGES", 3)
    monkeypatch.setattr(dlm.data, "load", load)
    dlm.private_of.cache_clear()
    yield
    dlm.private_of.cache_clear()


def columns(case, arm, rows=range(3)):
    return dlm.columns(case, dlm.ARMS[arm], dlm.SETS[case](case, 3), rows)


def test_cases_are_two_networks_at_five_learning_rates():
    assert len(dlm.SETS) == 10 and CASE in dlm.SETS
    assert {case.split(", lr ")[0] for case in dlm.SETS} == set(dlm.NETWORKS)
    assert {float(case.split(", lr ")[1]) for case in dlm.SETS} == set(dlm.LEARNING_RATES)


def test_arms_are_what_they_are_called():
    for name, arm in dlm.ARMS.items():
        assert name.startswith(arm.attack) and arm.settings in name
        assert (arm.k is not None) == ("from" in name)
        assert arm.k is None or f"from {arm.k:.0f}," in name
        assert arm.reads == ("leaklib" in name and "joint" not in name)
    assert dlm.PUBLISHED["LeNet"] is solvers.lbfgs_torch


@pytest.mark.parametrize("arm", dlm.ARMS)
@pytest.mark.parametrize("case", [CASE, "MLP, lr 0.1"])
def test_columns_have_an_entry_for_each_image(arm, case, small):
    kept = columns(case, arm)
    assert {len(column) for column in kept.values()} == {3}
    assert max(kept["evaluations"]) <= 5
    searched = dlm.ARMS[arm].attack == "DLM"
    assert all((k is not None) == searched for k in kept["k"])
    if dlm.ARMS[arm].reads:
        assert kept["label_right"] == [True] * 3


def test_learning_rate_reaches_the_client_and_no_attack(small, monkeypatch):
    seen = []

    def share_weights(*args, **settings):
        seen.append(settings)
        return share(*args, **settings)

    share = client.share_weights
    monkeypatch.setattr(dlm.client, "share_weights", share_weights)
    columns("LeNet, lr 0.0001", "DLM+, leaklib")
    assert seen == [{"lr": 1e-4}] * 3
    for attack in (attacks.dlm, attacks.dlm_projected, attacks.dlm_plus):
        assert attack.predict is attacks.single_step


def test_attacks_recover_digits(small, monkeypatch):
    monkeypatch.setattr(dlm, "STEPS", 300)
    for arm in ("DLG, leaklib", "DLM+, leaklib", "DLM projected, leaklib"):
        assert sorted(columns(CASE, arm)["mse"])[1] < 1e-3


def test_arms_from_noise_begin_alike(small, monkeypatch):
    starts = []

    def watched(model, leak, shape, *, start, **settings):
        starts.append(start)
        attack = attacks.dlg if leak.kind == "gradient" else attacks.dlm_plus
        return attack(model, leak, shape, start=start, **{**settings, "steps": 1})

    monkeypatch.setitem(dlm.ATTACKS, "DLG", watched)
    monkeypatch.setitem(dlm.ATTACKS, "DLM+", watched)
    columns(CASE, "DLG, published")
    columns(CASE, "DLM+, published")
    assert torch.equal(*starts) and starts[0].shape == (3, 1, 1, 1, 12, 12)
    assert not torch.equal(starts[0][0], starts[0][1])


def test_run_is_saved_and_goes_on(small, tmp_path):
    path = tmp_path / "dlm.json"
    arguments = ["--workers", "1", "--sets", CASE]
    assert dlm.main(arguments, path) is None
    saved = json.loads(path.read_text())
    assert set(results.finished(saved)) == {CASE}
    assert dlm.main(["--workers", "1", "--sets", "MLP, lr 1"], path) is None
    assert set(results.finished(json.loads(path.read_text()))) == {CASE, "MLP, lr 1"}
