"""Cats and dogs: every attack meets the same networks, and labels are enumerated, not read."""

import json
from functools import partial

import pytest
import torch

import cats_dogs
from leaklib import client, data, metrics, models
from leaklib.book import results
from leaklib.leak import stack


@pytest.fixture(autouse=True)
def no_set_from_another_test():
    cats_dogs.victims_of.cache_clear()


@pytest.fixture
def pictures(monkeypatch):
    """Photographs of 12 x 12 pixels in the place of cats and dogs; fewer evaluations."""

    def load(name, count):
        images, labels = data.load("photos", count, size=12, seed=2)
        return cats_dogs.Set(images, labels % 2, classes=2)

    monkeypatch.setattr(cats_dogs, "SETS", {"cats_dogs": load})
    monkeypatch.setattr(cats_dogs, "STEPS", dict(linear=100, convolution=250))
    return load("cats_dogs", 4)


def test_both_attacks_recover_both_networks(pictures):
    for name, arm in cats_dogs.ARMS.items():
        if name.startswith("control"):
            continue
        found = cats_dogs.columns(arm, pictures, range(1, 4))
        assert found["label_right"] == [True] * 3, name
        limit = 1e-6 if arm.attack is cats_dogs.closed else 1e-3
        assert all(mse < limit for mse in found["mse"]), name
        assert found["error_255"] == [pytest.approx(255**2 * mse) for mse in found["mse"]]
        assert all(found["converged"]) or arm.attack is cats_dogs.matching


def test_the_control_attacks_nothing(pictures):
    found = cats_dogs.columns(cats_dogs.ARMS["control: a grey picture"], pictures, range(4))
    half = torch.full_like(pictures.images, 0.5)
    assert found["mse"] == pytest.approx(metrics.mse(half, pictures.images).tolist())
    assert found["label_right"] == found["converged"] == [False] * 4


def test_matching_does_not_read_the_label(pictures, monkeypatch):
    """It tries both, and the label is that of the smaller objective."""
    tried = []

    def dlg(model, leak, shape, *, labels, **settings):
        tried.append(labels.tolist())
        return attack(model, leak, shape, labels=labels, **settings)

    attack = cats_dogs.attacks.dlg
    monkeypatch.setattr(cats_dogs.attacks, "dlg", dlg)
    nets = [models.cats_dogs("linear", 12, seed=i) for i in range(4)]
    leak = stack(
        client.share_gradient(net, pictures.images[i : i + 1], pictures.labels[i : i + 1])
        for i, net in enumerate(nets)
    )
    found = cats_dogs.matching(nets[0], leak, (1, 3, 12, 12), steps=100)
    assert tried == [[0], [1]]
    assert found.images.shape == (4, 1, 3, 12, 12)
    assert torch.equal(found.labels[:, 0], pictures.labels) and len(pictures.labels.unique()) == 2
    assert (metrics.mse(found.images, pictures.images) < 1e-3).all()


def test_a_network_does_not_depend_on_the_chunk(pictures):
    arm = cats_dogs.ARMS["convolution, recursion"]
    whole = cats_dogs.columns(arm, pictures, range(3))
    parts = [cats_dogs.columns(arm, pictures, range(i, i + 1)) for i in range(3)]
    assert whole["mse"] == pytest.approx([part["mse"][0] for part in parts], rel=1e-3)


def test_result_is_resumed_and_says_how_it_was_made(pictures, tmp_path):
    path = tmp_path / "results" / "cats_dogs.json"
    run = partial(cats_dogs.main, path=path)
    assert run(["--images=2", "--chunk=1", "--workers=1"]) is None
    saved = json.loads(path.read_text("utf-8"))
    assert list(results.finished(saved)["cats_dogs"]) == list(cats_dogs.ARMS)
    assert saved["provenance"]["data"]["cats_dogs"]["shape"] == [3, 12, 12]
    made = dict(size=32, steps=cats_dogs.STEPS, arms=[*cats_dogs.ARMS])
    assert saved["settings"] == {"images": 2, **made}
    assert run(["--images=2", "--workers=1"]) is None, "a finished run computes nothing"
    assert json.loads(path.read_text("utf-8")) == saved
    assert "images 2" in run(["--images=3", "--workers=1"])


def test_a_missing_set_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEAKLIB_DATA", str(tmp_path))
    wrong = cats_dogs.main(["--images=2", "--workers=1"], tmp_path / "cats_dogs.json")
    assert "No set is here" in wrong and "cats_dogs is left out" in capsys.readouterr().err
