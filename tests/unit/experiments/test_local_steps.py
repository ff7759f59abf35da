"""The experiment on many local steps: what a client does, and what it keeps of the attacks."""

import json

import pytest

import local_steps
from leaklib import attacks, client, data, models
from leaklib.book import results


@pytest.fixture
def small(monkeypatch):
    """Digits of 12 x 12 pixels in place of CIFAR-10, a small network, few evaluations."""
    digits = data.load("digits", 2, size=12, seed=0)
    load = lambda name, count=None, seed=0: tuple(part[:count] for part in digits)  # noqa: E731
    lenet = models.lenet
    monkeypatch.setattr(local_steps.models, "lenet", lambda seed=0: lenet(1, 12, seed=seed))
    monkeypatch.setattr(local_steps, "EVALUATIONS", 5)
    monkeypatch.setattr(local_steps, "IMAGES", 2)
    monkeypatch.setattr(local_steps.data, "load", load)
    local_steps.private_of.cache_clear()
    yield
    local_steps.private_of.cache_clear()


def columns(case, arm):
    return local_steps.columns(case, arm, local_steps.SETS[case](case, 2), range(2))


def test_cases_are_every_optimizer_with_every_number_of_steps():
    cases = [case.removesuffix(" steps").split(", ") for case in local_steps.SETS]
    assert {optimizer for optimizer, _ in cases} == set(client.OPTIMIZERS)
    for optimizer in client.OPTIMIZERS:
        assert [int(n) for o, n in cases if o == optimizer] == [1, 5, 10, 20, 50, 100]


@pytest.mark.parametrize("optimizer", client.OPTIMIZERS)
def test_client_trains_as_the_case_says(optimizer, small, monkeypatch):
    seen, share = [], client.share_weights

    def share_weights(*args, **settings):
        seen.append(settings)
        return share(*args, **settings)

    monkeypatch.setattr(local_steps.client, "share_weights", share_weights)
    columns(f"{optimizer}, 5 steps", "one step")
    lr = local_steps.LEARNING_RATES[optimizer]
    assert seen == [dict(lr=lr, steps=5, optimizer=optimizer)] * 2


@pytest.mark.parametrize("arm", local_steps.ARMS)
def test_columns_have_an_entry_for_each_image(arm, small):
    kept = columns("sgd, 5 steps", arm)
    assert {len(column) for column in kept.values()} == {2}
    assert all(0 < turned < 1 for turned in kept["turned"])
    if arm != "the grey start":
        assert kept["label_right"] == [True] * 2


def test_one_step_has_not_turned(small):
    assert max(columns("sgd, 1 steps", "one step")["turned"]) < 1e-6


def test_simulation_recovers_what_one_step_does_not(small, monkeypatch):
    monkeypatch.setattr(local_steps, "EVALUATIONS", 150)
    monkeypatch.setitem(local_steps.LEARNING_RATES, "sgd", 0.05)
    found = {arm: max(columns("sgd, 10 steps", arm)["mse"]) for arm in local_steps.ARMS}
    assert found["simulation"] < 1e-3 < found["one step"]
    assert found["simulation"] < found["the grey start"] / 10


def test_only_the_simulation_knows_the_training():
    for name in ("one step", "surrogate"):
        made = local_steps.ARMS[name]
        assert made("sgd", 5) == made("adam", 50)
    wanted = attacks.simulated(local_steps.LEARNING_RATES["adam"], steps=5, optimizer="adam")
    assert local_steps.ARMS["simulation"]("adam", 5) == wanted


def test_run_is_saved_and_goes_on(small, tmp_path):
    path, case = tmp_path / "local_steps.json", "momentum, 5 steps"
    assert local_steps.main(["--workers", "1", "--sets", case], path) is None
    assert set(results.finished(json.loads(path.read_text()))) == {case}
    assert local_steps.main(["--workers", "1", "--sets", "sgd, 1 steps"], path) is None
    assert len(results.finished(json.loads(path.read_text()))) == 2
