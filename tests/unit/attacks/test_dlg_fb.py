"""The experiment on feedback blending: the paper's protocol, its controls, and that they pair."""

import json

import pytest
import torch

import dlg_fb
import idlg
from leaklib import attacks, client, data, models
from leaklib.book import results
from leaklib.leak import stack

FEW = ("iDLG, normal, published", "iDLG, mean, safeguarded", "iDLG, blend, safeguarded")


@pytest.fixture
def victims(monkeypatch):
    """Eleven digits of 12 x 12 pixels in runs of four, and the mean of others."""
    monkeypatch.setattr(dlg_fb, "RUN", 4)
    monkeypatch.setattr(idlg, "STEPS", 150)
    images, numbers = data.load("digits", 40, size=12, seed=0)
    return idlg.Set(images[:11], numbers[:11], 10), images[11:].mean(0)


def run(name, victims, rows=range(11)):
    return dlg_fb.run(dlg_fb.ARMS[name], *victims, rows)


def test_arms_are_the_blend_and_every_start_that_needs_none_with_both_solvers():
    arms = set(dlg_fb.ARMS.values())
    for by in ("published", "safeguarded"):
        for start in ("normal", "uniform", "half", "zeros", "mean", "blend"):
            assert dlg_fb.Arm("iDLG", start, by) in arms
    assert dlg_fb.Arm("DLG", "blend", "published") in arms
    assert dlg_fb.Arm("iDLG", "blend of all", "published") in arms and len(arms) == 18


def test_runs_in_step_are_the_attacks_of_dlg_fb_one_after_the_other(victims):
    """The fast way against the plain one: same starts, so the same results up to rounding."""
    private, _ = victims
    out = run("iDLG, blend, safeguarded", victims)
    for rows in (range(4), range(4, 8), range(8, 11)):
        nets = [models.lenet(1, 12, 10, seed=i) for i in rows]
        sent = stack(
            client.share_gradient(net, private.images[i : i + 1], private.labels[i : i + 1])
            for net, i in zip(nets, rows, strict=True)
        )
        plain = attacks.dlg_fb(
            nets[0], sent, (1, 1, 12, 12),
            start=torch.stack(dlg_fb.guesses("normal", private, rows))[:, None],
            success=lambda out: out.objective < idlg.STOP,
            solver=idlg.as_published(idlg.SOLVERS["safeguarded"]),
            steps=idlg.STEPS,
        )  # fmt: skip
        both = slice(rows.start, rows.stop)
        assert (plain.objective < 1e-6).sum() >= 2, "otherwise nothing is blended"
        assert torch.allclose(plain.images, out.images[both], atol=1e-2)
        ours = out.evaluations[both].double()
        assert torch.allclose(plain.evaluations.double(), ours, rtol=0.15)


@pytest.fixture
def starts(victims, monkeypatch):
    """The starts (V, C, H, W) that an arm's attacks are given, by image."""

    def watch(name, rows=range(11)):
        given, attack = {}, dlg_fb.attack

        def watched(arm, private, now, starts):
            given.update(zip(now, starts, strict=True))
            return attack(arm, private, now, starts)

        with monkeypatch.context() as patch:
            patch.setattr(dlg_fb, "attack", watched)
            run(name, victims, rows)
        return torch.stack([given[i] for i in rows])

    return watch


def test_every_arm_begins_where_it_says_and_noise_is_the_same_for_all(starts, victims):
    noise = starts("iDLG, normal, published")
    assert noise.std() > 0.8 and torch.equal(noise, starts("iDLG, normal, safeguarded"))
    assert (starts("iDLG, half, published") == 0.5).all()
    assert (starts("iDLG, mean, published") == victims[1]).all()
    blend = starts("iDLG, blend, published")
    assert torch.equal(blend[::4], noise[::4]), "the first of a run has nothing to blend"
    assert not torch.isclose(blend[[1, 2, 3]], noise[[1, 2, 3]]).all()
    assert torch.equal(noise[8:], starts("iDLG, normal, published", range(8, 11)))


def test_failures_are_blended_only_where_the_arm_says_so(starts, victims, monkeypatch):
    monkeypatch.setattr(idlg, "STEPS", 2)
    assert torch.equal(starts("iDLG, blend, published"), starts("iDLG, normal, published")), (
        "two evaluations recover nothing"
    )
    blend = starts("iDLG, blend of all, published")
    assert not torch.equal(blend[1], starts("iDLG, normal, published")[1])


def test_a_chunk_holds_whole_runs(victims):
    with pytest.raises(ValueError, match="^chunk: got images 2 to 6; wanted a multiple of 4"):
        run("iDLG, blend, published", victims, range(2, 6))


def test_mean_image_is_of_images_that_are_not_attacked():
    images, _ = data.load("digits")
    private, _ = data.load("digits", 1700, seed=0)
    others = (images.sum(0) - private.sum(0)) / 97
    assert torch.allclose(dlg_fb.mean_image("digits", 1700), others, atol=1e-4)


def test_a_run_saves_every_arm_and_as_many_images_of_each_set_as_it_says(monkeypatch, tmp_path):
    monkeypatch.setattr(idlg, "STEPS", 3)
    monkeypatch.setattr(dlg_fb, "RUN", 2)
    sizes = {"mnist": 5, "cifar10": 3}
    monkeypatch.setattr(dlg_fb, "IMAGES", sizes)
    monkeypatch.setattr(dlg_fb, "ARMS", {name: dlg_fb.ARMS[name] for name in FEW})
    digits = lambda name, n: idlg.Set(*data.load("digits", n, size=12, seed=0), 10)  # noqa: E731
    monkeypatch.setattr(dlg_fb, "SETS", dict.fromkeys(sizes, digits))
    monkeypatch.setattr(dlg_fb, "mean_image", lambda name, n: torch.full((1, 12, 12), 0.3))
    dlg_fb.victims_of.cache_clear()
    path = tmp_path / "dlg_fb.json"
    assert dlg_fb.main(["--workers=1"], path) is None
    dlg_fb.victims_of.cache_clear()
    saved = json.loads(path.read_text("utf-8"))
    assert saved["provenance"]["command"] == "python experiments/dlg_fb.py"
    assert saved["settings"]["images"] == sizes
    held = results.finished(saved)
    for name, n in sizes.items():
        assert list(held[name]) == list(FEW)
        assert {len(c) for arm in held[name].values() for c in arm.values()} == {n}
