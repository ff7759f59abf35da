"""The experiment on deeper and trained networks: same images for all, and what it keeps of them."""

import json
from functools import partial

import pytest
import torch

import deeper
from leaklib import attacks, client, data, distances, metrics, models, solvers
from leaklib.book import results

ATTACKS = [name for name, arm in deeper.ARMS.items() if arm.attack is not None]
CASE = "ConvNet, trained"


@pytest.fixture
def small(monkeypatch):
    """Digits of 12 x 12 pixels in place of CIFAR-10, small networks, one epoch, few evaluations."""
    digits = data.load("digits", 40, size=12, seed=0)

    def load(name, count=None, seed=0):
        first, stop = {"cifar10": (0, 3), "cifar10_train": (10, 40)}[name]
        images, labels = (part[first:stop] for part in digits)
        return images[:count], labels[:count]

    makes = {
        "LeNet": partial(models.lenet, 1, 12),
        "ConvNet": partial(models.convnet, 1, 12, width=4),
        "ResNet-18": partial(models.resnet18, 1, width=4),
    }
    networks = {n: deeper.NETWORKS[n]._replace(make=makes[n], epochs=2) for n in makes}
    monkeypatch.setattr(deeper, "NETWORKS", networks)
    monkeypatch.setattr(deeper, "BATCH", 8)
    monkeypatch.setattr(deeper, "STEPS", 5)
    monkeypatch.setattr(deeper, "IMAGES", dict.fromkeys(deeper.SETS, 3))
    monkeypatch.setattr(deeper.data, "load", load)
    for kept in (deeper.trained, deeper.accuracy, deeper.mean_image, deeper.private_of):
        kept.cache_clear()
    yield
    for kept in (deeper.trained, deeper.accuracy, deeper.mean_image, deeper.private_of):
        kept.cache_clear()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deeper.json"


def columns(case, arm, rows=range(3)):
    return deeper.columns(case, deeper.ARMS[arm], deeper.SETS[case](case, 3), rows)


def test_cases_are_three_networks_before_and_after_training():
    assert list(deeper.SETS) == list(deeper.IMAGES) and len(deeper.SETS) == 6
    assert {case.split(", ")[0] for case in deeper.SETS} == set(deeper.NETWORKS)
    few = [net.victims for net in deeper.NETWORKS.values()]
    assert few == sorted(few, reverse=True), "the first images of one are those of the next"


def test_arms_differ_as_they_say():
    arms = deeper.ARMS
    published, cosine = arms["l2, published"], arms["cosine"]
    assert published.start == "normal" and published.attack.base is attacks.idlg
    assert published.attack.changed == ["solver"]
    assert published.attack.solver is solvers.lbfgs_torch
    assert arms["l2"] == (attacks.idlg, "half")
    assert cosine.start == "half" and cosine.attack.base is attacks.idlg
    assert cosine.attack.changed == ["distance"]
    assert cosine.attack.distance is distances.cosine
    assert arms["Inverting Gradients"] == (attacks.invert_gradients, "uniform")
    assert len(arms) == 5 and arms["the mean image"].attack is None


def test_every_case_attacks_the_same_images(small):
    private = [deeper.SETS[case](case, 3) for case in deeper.SETS]
    trained_on, _ = deeper.data.load("cifar10_train")
    for images, labels, classes in private:
        assert torch.equal(images, private[0].images) and torch.equal(labels, private[0].labels)
        assert classes == 10
        assert not any((image == trained_on).all((1, 2, 3)).any() for image in images)


def test_untrained_networks_are_one_an_image_and_the_trained_one_is_for_all(small):
    flat = lambda net: torch.cat([p.detach().flatten() for p in net.parameters()])  # noqa: E731
    for name, net in deeper.NETWORKS.items():
        fresh = deeper.networks(f"{name}, untrained", range(1, 3))
        assert torch.equal(flat(fresh[1]), flat(net.make(seed=2)))
        assert not torch.equal(flat(fresh[0]), flat(fresh[1]))
        one, same = deeper.networks(f"{name}, trained", range(2))
        assert one is same and not one.training
        assert not torch.equal(flat(one), flat(net.make(seed=0))), "it was trained"


def test_training_learns_and_is_repeatable(small, monkeypatch):
    network = deeper.NETWORKS["ConvNet"]._replace(epochs=40, lr=1e-2)
    monkeypatch.setattr(deeper, "NETWORKS", {"ConvNet": network})
    images, labels = deeper.data.load("cifar10_train")
    model = deeper.trained("ConvNet")
    assert (model(images).argmax(1) == labels).float().mean() > 0.8
    before = model.fc.weight.clone()
    deeper.trained.cache_clear()
    assert torch.equal(deeper.trained("ConvNet").fc.weight, before)


@pytest.mark.parametrize("case", ["LeNet, untrained", CASE])
@pytest.mark.parametrize("arm", ATTACKS)
def test_columns_score_the_attack(case, arm, small):
    kept = columns(case, arm)
    assert {len(column) for column in kept.values()} == {3}
    assert kept["label_right"] == [True] * 3 and max(kept["evaluations"]) <= 5
    assert all(0 < p < 1 for p in kept["p_label"]) and min(kept["gradient_norm"]) > 0


def test_known_columns_are_of_the_victims_own_network(small):
    kept = columns(CASE, "l2")
    images, labels, _ = deeper.SETS[CASE](CASE, 3)
    net = deeper.trained("ConvNet")
    for i in range(3):
        p = net(images[i : i + 1]).detach().softmax(-1)[0, labels[i]]
        leak = client.share_gradient(net, images[i : i + 1], labels[i : i + 1])
        norm = sum(g.square().sum() for g in leak.direction.values()) ** 0.5
        assert kept["p_label"][i] == pytest.approx(float(p), rel=1e-4)
        assert kept["gradient_norm"][i] == pytest.approx(float(norm), rel=1e-4)
    right = (net(images).argmax(1) == labels).float().mean()
    assert kept["accuracy"] == [pytest.approx(float(right))] * 3
    assert columns("ConvNet, untrained", "l2")["accuracy"] == [None] * 3


def test_attacks_recover_untrained_convnets(small, monkeypatch):
    wide = partial(models.convnet, 1, 12, width=8)
    wider = deeper.NETWORKS["ConvNet"]._replace(make=wide)
    monkeypatch.setitem(deeper.NETWORKS, "ConvNet", wider)
    monkeypatch.setattr(deeper, "STEPS", 300)
    for arm in ("l2", "cosine"):
        assert max(columns("ConvNet, untrained", arm)["mse"]) < 1e-2
    control = columns("ConvNet, untrained", "the mean image")
    assert min(control["mse"]) > 1e-2 and control["label_right"] == [False] * 3


def test_control_is_the_mean_of_the_training_images(small):
    images, _, _ = deeper.SETS[CASE](CASE, 3)
    mean = deeper.data.load("cifar10_train")[0].mean(0)
    wanted = metrics.mse(mean.expand(3, 1, 12, 12), images)
    got = columns(CASE, "the mean image")["mse"]
    assert got == pytest.approx(wanted.tolist(), rel=1e-5)


@pytest.mark.parametrize("arm", ATTACKS)
def test_a_start_does_not_depend_on_the_batch(arm, small, monkeypatch):
    monkeypatch.setattr(deeper, "STEPS", 1)
    whole, part = columns(CASE, arm), columns(CASE, arm, range(1, 3))
    assert part["mse"] == pytest.approx(whole["mse"][1:], rel=1e-4)
    monkeypatch.setitem(deeper.ARMS, "other", deeper.ARMS[arm]._replace(start="zeros"))
    assert columns(CASE, "other")["mse"] != pytest.approx(whole["mse"], rel=1e-2)


def test_a_run_saves_every_case_and_goes_on(small, path):
    cases = ["ConvNet, untrained", CASE]
    arguments = ["--sets", *cases, "--workers", "1", "--chunk", "2"]
    assert deeper.main(arguments, path) is None
    saved = json.loads(path.read_text("utf-8"))
    assert list(results.finished(saved)) == cases
    assert saved["settings"]["steps"] == 5
    assert saved["settings"]["recipes"]["ConvNet"] == [2, 0.002]
    for held in saved["sets"].values():
        assert list(held) == list(deeper.ARMS)
        assert all(len(c) == 3 for arm in held.values() for c in arm.values())
    before = path.read_text("utf-8")
    assert deeper.main(arguments, path) is None and path.read_text("utf-8") == before


def test_without_the_training_images_nothing_is_attacked(small, path, monkeypatch, capsys):
    def missing(name, count=None, seed=0):
        raise RuntimeError(f"{name!r} is not here")

    monkeypatch.setattr(deeper.data, "load", missing)
    assert deeper.main(["--workers", "1"], path) == "No set is here, so there is nothing to attack."
    assert "'cifar10_train' is not here" in capsys.readouterr().err and not path.exists()
