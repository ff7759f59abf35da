"""Experiments: paired arms, and files that an interrupted run leaves whole and goes on with."""

import ast
import json
import re
from functools import partial

import numpy as np
import pytest
import torch

import _experiment
import idlg
from leaklib import data, metrics, solvers
from leaklib.book import results

ARM = "iDLG, half, safeguarded"
FEW = ("DLG, normal, published", "iDLG, normal, published", ARM)


@pytest.fixture(autouse=True)
def no_set_from_another_test():
    idlg.victims_of.cache_clear()


@pytest.fixture
def small(monkeypatch):
    """Digits of 12 x 12 pixels as two sets, three arms, five evaluations."""

    def digits(name, count):
        seed = {"mnist": 0, "cifar10": 1}[name]
        return idlg.Set(*data.load("digits", count, size=12, seed=seed), classes=10)

    monkeypatch.setattr(idlg, "SETS", {"mnist": digits, "cifar10": digits})
    monkeypatch.setattr(idlg, "ARMS", {name: idlg.ARMS[name] for name in FEW})
    monkeypatch.setattr(idlg, "STEPS", 5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "idlg.json"


def run(path, *arguments, images=4, chunk=2):
    inline = ["--workers=1"]  # a process of its own would not see what a test replaces
    return idlg.main([f"--images={images}", f"--chunk={chunk}", *inline, *arguments], path)


def read(path):
    return json.loads(path.read_text("utf-8"))


class Interrupted(Exception):
    pass


@pytest.fixture
def work(monkeypatch):
    """What was computed, in order; `work.stop_after` interrupts a run."""

    class Work(list):
        stop_after = None

    done, columns = Work(), idlg.columns

    def watched(arm, victims, rows):
        if len(done) == done.stop_after:
            raise Interrupted
        done.append((", ".join(arm), id(victims), rows))
        return columns(arm, victims, rows)

    monkeypatch.setattr(idlg, "columns", watched)
    return done


# --- the arms -----------------------------------------------------------------------------------


def test_arms_are_the_papers_two_leaklibs_two_and_every_start_with_both_solvers():
    starts, by = ("normal", "uniform", "half", "zeros"), ("published", "safeguarded")
    wanted = {("iDLG", start, solver) for start in starts for solver in by}
    wanted |= {("DLG", "normal", "published"), ("DLG", "half", "leaklib")}
    wanted |= {("iDLG", "half", "leaklib")}
    assert set(idlg.ARMS.values()) == wanted and len(idlg.ARMS) == 11, "none runs twice"


def test_solvers_differ_in_one_thing_each():
    """From published to safeguarded only the safeguard, from there to leaklib the rest."""
    assert idlg.SOLVERS["published"] is solvers.lbfgs_torch
    assert idlg.SOLVERS["leaklib"] is solvers.lbfgs
    assert idlg.SOLVERS["safeguarded"] == solvers.lbfgs(whiten=False) != solvers.lbfgs


@pytest.fixture
def seen(small, monkeypatch):
    """Runs an arm on rows of a set; returns the pixels, the logits and the rest a solver gets."""

    def see(arm, rows):
        calls = []

        def solver(objective, z, **settings):
            calls.append((z, settings))
            return solvers.lbfgs(objective, z, **{**settings, "steps": 1})

        monkeypatch.setattr(idlg, "SOLVERS", dict.fromkeys(idlg.SOLVERS, solver))
        idlg.attack(arm, idlg.SETS["mnist"]("mnist", 6), rows)
        ((z, settings),) = calls
        x, *u = z
        return x.reshape(len(rows), -1), u[0] if u else None, settings

    return see


def test_every_arm_begins_with_the_same_image(seen):
    arms = {
        (attack, start): seen(idlg.Arm(attack, start, "published"), range(6))
        for attack in ("DLG", "iDLG")
        for start in idlg.STARTS
    }
    for start in idlg.STARTS:
        assert torch.equal(arms["DLG", start][0], arms["iDLG", start][0])
        assert torch.equal(arms["DLG", start][1], arms["DLG", "normal"][1]), "and the same logits"
        assert arms["iDLG", start][1] is None, "whose label is read"
    x = {start: arms["iDLG", start][0] for start in idlg.STARTS}
    assert (x["half"] == 0.5).all() and (x["zeros"] == 0).all()
    assert x["uniform"].min() >= 0 and x["uniform"].max() <= 1 and x["uniform"].std() > 0.2
    assert x["normal"].min() < -1 and 0.8 < x["normal"].std() < 1.2
    assert len({tuple(row.tolist()) for row in x["normal"]}) == 6, "each image has its own"
    u = arms["DLG", "normal"][1]
    assert u.shape == (6, 1, 10) and len(u.unique()) == 60


@pytest.mark.parametrize("attack", ["DLG", "iDLG"])
def test_a_start_does_not_depend_on_the_batch(attack, seen):
    arm = idlg.Arm(attack, "normal", "published")
    whole = seen(arm, range(6))
    for rows in (range(2), range(2, 5), range(5, 6)):
        part = seen(arm, rows)
        assert torch.equal(part[0], whole[0][rows.start : rows.stop])
        assert attack == "iDLG" or torch.equal(part[1], whole[1][rows.start : rows.stop])


def test_weights_and_start_are_not_the_same_draw(seen):
    """For one seed the numbers behind the weights and behind the start would be the same."""
    x, _, _ = seen(idlg.Arm("iDLG", "uniform", "published"), range(6))
    for i in range(6):
        drawn = torch.rand(2000, generator=torch.Generator().manual_seed(i))
        assert len(set(x[i].tolist()) & set(drawn.tolist())) < 5


@pytest.mark.parametrize("arm", [idlg.ARMS[name] for name in FEW])
def test_every_arm_stops_as_the_paper_does(arm, seen, monkeypatch):
    monkeypatch.setattr(idlg, "STEPS", 6000)
    settings = seen(arm, range(2))[2]
    assert settings["steps"] == 6000 and settings["tolerance"] == 1e-6


def test_columns_score_the_attack(small, monkeypatch):
    """iDLG recovers small digits; what is kept says so, image by image."""
    monkeypatch.setattr(idlg, "STEPS", 300)
    victims = idlg.SETS["mnist"]("mnist", 5)
    columns = idlg.columns(idlg.ARMS[ARM], victims, range(2, 5))
    assert {len(column) for column in columns.values()} == {3}
    assert max(columns["mse"]) < 1e-3 and columns["label_right"] == [True] * 3
    assert max(columns["evaluations"]) < 300 and max(columns["objective"]) < 1e-5
    assert all(isinstance(entry, bool) for entry in columns["converged"])
    wrong = idlg.Set(1 - victims.images, victims.labels, 10)
    out = idlg.attack(idlg.ARMS[ARM], victims, range(2, 5))
    monkeypatch.setattr(idlg, "attack", lambda *_: out)
    other = idlg.columns(idlg.ARMS[ARM], wrong, range(2, 5))
    assert other["mse"] == metrics.mse(out.images, wrong.images[2:5]).tolist()


# --- going on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [0, 1, 4, 11])
def test_an_interrupted_run_goes_on_where_it_stopped(stop_after, small, work, path):
    assert run(path) is None
    whole, wanted = path.read_text("utf-8"), [(arm, rows) for arm, _, rows in work]
    assert len(wanted) == 12, "two sets, three arms, two chunks"
    path.unlink()
    work.clear()
    work.stop_after = stop_after
    with pytest.raises(Interrupted):
        run(path)
    assert path.exists() == (stop_after > 0)
    assert [p.name for p in path.parent.glob("*")] == ["idlg.json"][: stop_after > 0]
    work.stop_after = None
    assert run(path) is None
    assert [(arm, rows) for arm, _, rows in work] == wanted, "nothing is computed twice"
    assert path.read_text("utf-8") == whole


def test_a_finished_run_computes_nothing(small, work, path):
    run(path)
    work.clear()
    before = path.read_text("utf-8")
    assert run(path) is None
    assert work == [] and path.read_text("utf-8") == before


def test_a_set_is_finished_only_with_its_last_chunk(small, work, path):
    work.stop_after = 7  # all six chunks of the first set, and one more
    with pytest.raises(Interrupted):
        run(path)
    assert list(results.finished(read(path))) == ["mnist"]
    assert list(read(path)["sets"]) == ["mnist", "cifar10"]


def test_sets_can_be_run_one_after_the_other(small, work, path):
    for name in ("cifar10", "mnist"):
        assert run(path, "--sets", name) is None
    assert len(work) == 12
    apart = read(path)
    assert set(results.finished(apart)) == {"mnist", "cifar10"}
    path.unlink()
    run(path)
    assert read(path)["sets"] == apart["sets"]
    assert read(path)["provenance"] == apart["provenance"]


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_the_size_of_a_chunk_does_not_matter(chunk, small, path, tmp_path):
    other = tmp_path / "other.json"
    run(path, "--sets", "mnist", chunk=2)
    run(other, "--sets", "mnist", chunk=chunk)
    for name, columns in read(path)["sets"]["mnist"].items():
        for column, entries in columns.items():
            found = read(other)["sets"]["mnist"][name][column]
            assert found == pytest.approx(entries, rel=1e-2), f"{name}: {column}"


def test_chunks_of_different_size_can_follow_each_other(small, work, path):
    work.stop_after = 1
    with pytest.raises(Interrupted):
        run(path, chunk=3)
    work.stop_after = None
    run(path, chunk=1)
    assert [rows for _, _, rows in work][:3] == [range(3), range(3, 4), range(1)]
    assert list(results.finished(read(path))) == ["mnist", "cifar10"]


def test_a_chunk_is_at_least_one_image(small, path):
    with pytest.raises(ValueError, match="^chunk: got 0; wanted a positive number"):
        run(path, chunk=0)


# --- one file, one experiment -------------------------------------------------------------------


def other_images(monkeypatch):
    return dict(images=3)


def other_stop(monkeypatch):
    monkeypatch.setattr(idlg, "STOP", 1e-5)
    return {}


def other_steps(monkeypatch):
    monkeypatch.setattr(idlg, "STEPS", 6)
    return {}


def other_arms(monkeypatch):
    monkeypatch.setattr(idlg, "ARMS", {ARM: idlg.ARMS[ARM]})
    return {}


def other_data(monkeypatch):
    digits = idlg.SETS["mnist"]
    monkeypatch.setitem(idlg.SETS, "mnist", lambda name, count: digits("cifar10", count))
    return {}


def other_version(monkeypatch):
    monkeypatch.setattr("leaklib.book.results.file.__version__", "9.9")
    return {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_images, "images 4; wanted 3"),
        (other_stop, "stop 1e-06; wanted 1e-05"),
        (other_steps, "steps 5; wanted 6"),
        (other_arms, "arms "),
        (other_data, "data mnist "),
        (other_version, "leaklib .*wanted '9.9'"),
    ],
)
def test_a_file_made_otherwise_is_refused(change, named, small, work, path, monkeypatch):
    run(path, "--sets", "mnist")
    before = path.read_text("utf-8")
    work.clear()
    given = change(monkeypatch)
    said = run(path, "--sets", "mnist", **given)
    assert re.match(rf"idlg.json: got {named}.*--fresh", said)
    assert work == [] and path.read_text("utf-8") == before
    assert run(path, "--sets", "mnist", "--fresh", **given) is None
    assert work and path.read_text("utf-8") != before


def test_what_only_the_old_file_knows_is_refused_too(small, path):
    made = results.provenance("python experiments/x.py", 0)
    results.save(path, {"provenance": made, "settings": {"a": 1, "b": 2}, "sets": {}})
    with pytest.raises(ValueError, match="^idlg.json: got b 2; wanted None, or --fresh"):
        _experiment.resume(path, made, {"a": 1})
    assert _experiment.resume(path, made, {"a": 1, "b": 2})["sets"] == {}


# --- what is written ----------------------------------------------------------------------------


def test_the_file_says_how_it_was_made(small, path):
    run(path, "--sets", "mnist")
    saved = read(path)
    assert saved["provenance"]["command"] == "python experiments/idlg.py --images 4"
    facts = saved["provenance"]["data"]["mnist"]
    images, labels = data.load("digits", 4, size=12, seed=0)
    assert facts == {
        "n": 4, "shape": [1, 12, 12], "classes": 10, "sha256": results.fingerprint(images, labels),
    }  # fmt: skip
    assert saved["settings"]["arms"] == list(FEW) == list(saved["sets"]["mnist"])
    assert str(path.parent) not in path.read_text("utf-8")


def test_the_command_of_a_whole_run_has_no_arguments(small, path, monkeypatch):
    monkeypatch.setattr(idlg, "IMAGES", 4)
    run(path, "--sets", "mnist")
    assert read(path)["provenance"]["command"] == "python experiments/idlg.py"


# --- the sets -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A LEAKLIB_DATA with twelve random pictures of each set; a download finds nothing."""
    shapes = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "olivetti": (64, 64, 1)}
    here = tmp_path / "data"
    here.mkdir()
    for seed, (name, shape) in enumerate(shapes.items()):
        images = np.random.default_rng(seed).integers(0, 256, (12, *shape), dtype=np.uint8)
        np.savez(here / f"{name}.npz", images=images, labels=np.arange(12) % 10)
    monkeypatch.setenv("LEAKLIB_DATA", str(here))

    def no_download(name):
        raise RuntimeError(f"{name!r} is not here")

    monkeypatch.setattr(data, "_torchvision", no_download)
    return here


@pytest.mark.parametrize("name", ["mnist", "cifar10", "faces"])
def test_sets_are_what_the_page_says(name, folder):
    victims = idlg.SETS[name](name, 8)
    shapes = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "faces": (1, 32, 32)}
    assert victims.images.shape == (8, *shapes[name])
    assert victims.classes == (130 if name == "faces" else 10)
    assert victims.labels.min() >= 0 and victims.labels.max() < victims.classes
    if name == "faces":
        assert (victims.labels[:4] < 100).all() and (victims.labels[4:] >= 100).all()
        assert len(victims.labels[:4].unique()) == 4, "each of these pictures is its own class"


def test_fewer_images_are_the_first_of_more(folder):
    for name in ("mnist", "cifar10"):
        few, more = (idlg.SETS[name](name, count) for count in (4, 8))
        assert torch.equal(few.images, more.images[:4])


def test_a_missing_set_is_named_and_the_others_run(folder, path, monkeypatch, capsys):
    monkeypatch.setattr(idlg, "ARMS", {ARM: idlg.ARMS[ARM]})
    monkeypatch.setattr(idlg, "STEPS", 2)
    (folder / "cifar10.npz").unlink()
    (folder / "olivetti.npz").unlink()
    assert run(path, images=2) is None
    said = capsys.readouterr().err
    assert "cifar10 is left out: 'cifar10' is not here" in said and "faces is left out" in said
    assert list(results.finished(read(path))) == ["mnist"]
    assert list(read(path)["provenance"]["data"]) == ["mnist"]


def test_no_set_at_all(folder, path):
    (folder / "mnist.npz").unlink()
    assert run(path, "--sets", "mnist") == "No set is here, so there is nothing to attack."
    assert not path.exists()


def test_more_images_than_a_set_has_are_refused(folder, path):
    said = run(path, "--sets", "mnist", images=13)
    assert said.startswith("count: got 13; wanted 1 to 12, the size of 'mnist'")


# --- every experiment ---------------------------------------------------------------------------


SCRIPTS = sorted(_experiment.RESULTS.parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_experiment_says_what_it_is_and_how_long_it_takes(script):
    """`make experiments` shows the first line."""
    first = ast.get_docstring(ast.parse(script.read_text("utf-8"))).splitlines()[0]
    assert script.read_text("utf-8").splitlines()[0] == f'"""{first}'
    assert re.search(r"\((at most|about) .*(minutes?|hours?) on 2 cores\)\.$", first)


def test_two_processes_save_what_one_does(folder, path):
    """Two chunks of MNIST in two processes, against the same in this one."""
    arm, images = "iDLG, half, leaklib", 2
    saved = []
    for workers in (1, 2):
        result = {"provenance": {}, "settings": {}, "sets": {}}
        _experiment.fill(
            path, result, partial(idlg.work, images), sets={"mnist": images}, arms=[arm],
            chunk=1, workers=workers,
        )  # fmt: skip
        saved.append(read(path)["sets"]["mnist"][arm])
    alone, together = saved
    assert alone["evaluations"] == pytest.approx(together["evaluations"], rel=0.1)
    assert alone["label_right"] == together["label_right"] == [True, True]
    assert len(together["mse"]) == images
