"""The experiment on the key-lock module: its controls, and who is given what."""

import json

import pytest
import torch

import keylock as experiment
from leaklib import attacks, keylock
from leaklib.book import results


@pytest.fixture
def small(shrunk):
    """Few digits, few evaluations and few rounds."""
    shrunk(experiment, EVALUATIONS=3, ROUNDS=1, IMAGES=2, SEEDS=1, CLIENTS=2)


def kept(case, arm, rows=range(2)):
    return experiment.work(2, case, arm, rows)


@pytest.mark.parametrize("arm", experiment.ARMS)
def test_an_arm_has_an_entry_for_each_image(arm, small):
    found = kept("digits", arm)
    assert {len(column) for column in found.values()} == {2}
    locked = "lock" in arm and arm != "no lock"
    for who in ("true", "guess", "nothing", "key"):
        assert all((v is not None) == (locked or who == "true") for v in found[f"{who}_ssim"])
    assert all((v is not None) == locked for v in found["gamma_error"])


def test_no_attacker_but_the_control_holds_the_gains_and_none_the_key(small, monkeypatch):
    seen = {}

    def watch(module, name):
        attack = getattr(module, name)

        def watched(model, leak, *args, **changes):
            seen.setdefault(f"{name}, key" if "predict" in changes else name, []).append(leak)
            return attack(model, leak, *args, **changes)

        monkeypatch.setattr(module, name, watched)

    watch(attacks, "idlg")
    watch(keylock, "attack")
    kept("digits", "published lock")
    for leak in (*seen["idlg"], *seen["attack"], *seen["attack, key"]):
        assert not any(n.endswith("key") for n in {**leak.weights, **leak.buffers, **leak.update})
        assert not any(".gain." in name for name in {**leak.weights, **leak.update})
    maps = {f"lock.{name}" for name in keylock.MAPS}
    assert maps <= set(seen["attack, key"][0].buffers)
    assert not maps & set(seen["attack"][0].buffers)
    control, guess = seen["idlg"]
    gamma = torch.stack(
        [
            experiment.network("digits", experiment.ARMS["published lock"], i, i)
            .lock.gains()[0]
            .detach()
            for i in range(2)
        ]
    )
    assert torch.equal(control.buffers["lock.gamma"], gamma)
    assert not torch.equal(guess.buffers["lock.gamma"], gamma)
    assert torch.equal(guess.buffers["lock.gamma"], seen["attack"][0].buffers["lock.gamma"])


def test_true_control_recovers_digits(small, monkeypatch):
    monkeypatch.setattr(experiment, "EVALUATIONS", 150)
    assert max(kept("digits", "no lock")["true_mse"]) < 1e-3


@pytest.mark.parametrize("arm", ["no lock", "normalisation alone", "published lock"])
def test_training_gives_the_accuracy_with_every_private_part(arm, small):
    found = kept("digits trained", arm, range(1))
    assert list(found) == ["own", "another", "random_key", "fresh", "zeros"]
    for which, (score,) in found.items():
        assert (score is not None) == (arm == "published lock" or which == "own")
        assert score is None or 0 <= score <= 1


def test_run_is_saved_and_goes_on(small, tmp_path, monkeypatch):
    path = tmp_path / "keylock.json"
    monkeypatch.setattr(experiment, "ARMS", {"no lock": None})
    assert experiment.main(["--workers", "1", "--sets", "digits"], path) is None
    assert experiment.main(["--workers", "1", "--sets", "digits trained"], path) is None
    assert set(results.finished(json.loads(path.read_text()))) == {"digits", "digits trained"}
