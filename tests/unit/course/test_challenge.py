"""Capture the image: challenges can be solved by the book's attacks, and by nothing less."""

import json
import math
import os
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from leaklib import (
    adaptive,
    attacks,
    client,
    data,
    defenses,
    distances,
    keylock,
    labels,
    metrics,
    priors,
)
from leaklib.course import challenge
from leaklib.course.challenge import _file, _keys, _levels, _make, _networks, _pool
from leaklib.data import centred, resized
from leaklib.leak import load, stack, without

SECRET = "a secret of the tests, 0123456789 abcdef"
OTHER = "another secret of the tests, 9876543210"
STUDENTS = ("ada", "b.o@example.org", "1234567")
LEVELS = list(challenge.LEVELS)
HERE = ("gradient", "one_step", "pruned", "masked", "dp")  # the others: tests/nightly


def solved(level, leaks, facts):
    """What a student does who has read the book: the attack of the level's chapter."""
    model, shape, known = challenge.model_of(facts), facts.shape, facts.known
    if level == "gradient":
        return attacks.idlg(model, leaks, shape, steps=300)
    if level == "batch":
        # the rule for labels that all differ: `labels.counts` is wrong for some students
        y = labels.listed(labels.grad_inversion(leaks))
        return attacks.dlg(model, leaks, shape, labels=y, start="half", steps=900)
    if level == "one_step":
        return attacks.dlm_plus(model, leaks, shape, steps=300)
    if level == "many_steps":
        local = attacks.simulated(known["lr"], steps=known["steps"])
        return attacks.fedavg(model, leaks, shape, predict=local, steps=250)
    if level == "pruned":
        return attacks.idlg(model, leaks, shape, defend=adaptive.entries_sent, steps=400)
    if level == "masked":
        # the bias that tells the label may be hidden, and then the rows of the weight tell it
        y = labels.idlg(without(leaks, ["fc.bias"]))
        sent = adaptive.entries_sent
        return attacks.idlg(model, leaks, shape, labels=y, defend=sent, steps=400)
    if level == "keylocked":
        mean_gain = torch.full((facts.network["width"],), 0.5)
        guess = keylock.guessed(leaks, mean_gain, mean_gain)
        return keylock.attack(model, guess, shape, steps=500)
    assert level == "dp"
    clip = defenses.clip(known["clip"])
    return attacks.idlg(
        model, leaks, shape, steps=150, distance=distances.likelihood(known["noise"]),
        prior=priors.smooth(), defend=lambda g, leak: clip(g, None),
    )  # fmt: skip


def photographs():
    """Pictures (N, 3, 48, 48) with some contrast; in earnest they would be the instructor's own."""
    images, _ = data.load("photos", size=48)
    return [image for image in images if _pool.flat_psnr(image) < 19]


def points_of_attack(level, students, pool, folder):
    """What the answers of the book's attack are worth, out of files and into files."""
    opened = [
        challenge.read_challenge(
            challenge.make_challenge(student, SECRET, level, images=pool, to=folder / student)
        )
        for student in students
    ]
    facts = opened[0][1]
    out = solved(level, stack([leak for leak, _ in opened]), facts)
    grades = []
    for i, student in enumerate(students):
        answer = challenge.write_answer(folder / "answer", out.images[i], out.labels[i])
        grades.append(
            challenge.grade_challenge(
                student, SECRET, answer, level=level, images=pool, challenge=folder / student
            )
        )
    return grades


@pytest.fixture(scope="module")
def pool():
    return challenge.open_pool(photographs())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same kind of pictures as files, of several formats."""
    where = tmp_path_factory.mktemp("pictures")
    for i, image in enumerate(photographs()[:20]):
        pixels = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
        pixels.save(where / f"{i:02}.{('png', 'webp', 'bmp')[i % 3]}", lossless=True)
    return where


@pytest.fixture(scope="module")
def files(pool, tmp_path_factory):
    """A challenge of each level for the first student."""
    where = tmp_path_factory.mktemp("challenges")
    return {
        level: challenge.make_challenge("ada", SECRET, level, images=pool, to=where / level)
        for level in LEVELS
    }


@pytest.fixture
def made(pool, tmp_path):
    """made(…) -> (leak, facts) of a challenge, the arguments those of `make_challenge`."""

    def make(student="ada", secret=SECRET, level="gradient", images=pool, name="file"):
        path = tmp_path / name
        return challenge.read_challenge(
            challenge.make_challenge(student, secret, level, images=images, to=path)
        )

    return make


def truth_of(student, level, pool, secret=SECRET):
    draws = _keys.Draws(secret, student, level)
    return _make.truth(draws, challenge.LEVELS[level], pool)


def graded(level, answer, pool, student="ada", **settings):
    return challenge.grade_challenge(student, SECRET, answer, level=level, images=pool, **settings)


# ------------------------------------------------------------------ what earns points
@pytest.mark.parametrize("level", HERE)
def test_the_attack_of_the_book_earns_full_marks(level, pool, tmp_path):
    for grade in points_of_attack(level, STUDENTS, pool, tmp_path):
        assert grade.points == grade.out_of == 10, grade.lines
        assert min(grade.psnr) > challenge.LEVELS[level].full + 0.5


def test_what_is_behind_dp_is_recovered_in_part_only(pool, tmp_path):
    for grade in points_of_attack("dp", STUDENTS, pool, tmp_path):
        assert min(grade.psnr) < 35


@pytest.mark.parametrize("level", ["masked", "dp", "pruned"])
def test_the_attacker_who_ignores_the_defence_earns_less(level, pool, made):
    leak, facts = made(level=level)
    _, y = truth_of("ada", level, pool)
    out = attacks.idlg(challenge.model_of(facts), leak, facts.shape, labels=y[None], steps=100)
    answer = {"images": out.images[0].clamp(0, 1), "labels": y}
    assert graded(level, answer, pool).points < 6


@pytest.mark.parametrize("level", LEVELS)
def test_the_private_batch_earns_full_marks_in_any_order(level, pool):
    x, y = truth_of("ada", level, pool)
    for order in (torch.arange(len(x)), torch.arange(len(x)).flip(0)):
        grade = graded(level, {"images": x[order], "labels": y[order]}, pool)
        assert grade.points == 10 and grade.labels_right == len(y)
        assert all(psnr == math.inf for psnr in grade.psnr)


@pytest.mark.parametrize("level", LEVELS)
def test_labels_alone_earn_the_points_of_labels(level, pool):
    x, y = truth_of("ada", level, pool)
    generator = torch.Generator().manual_seed(0)
    mean_colour = x.mean((2, 3), keepdim=True).expand_as(x).contiguous()
    every = [centred(pool.pixels(i)) for i in range(len(pool.hashes))]
    others = torch.stack([resized(pixels, x.shape[-1]) for pixels in every])
    guesses = {
        "grey": torch.full_like(x, 0.5),
        "its own mean colour": mean_colour,
        "the mean of all pictures": others.mean(0, keepdim=True).expand_as(x).contiguous(),
        "noise": torch.rand(x.shape, generator=generator),
    }
    for name, images in guesses.items():
        grade = graded(level, {"images": images, "labels": y}, pool)
        assert grade.points == 2, (name, grade.lines)
        assert any("no image is recovered" in line for line in grade.lines)
    assert graded(level, {"labels": y}, pool).points == 2


@pytest.mark.parametrize("level", LEVELS)
def test_every_student_can_read_the_labels(level, pool, made):
    """No network is so sure of a class, no defence so strong, that a label is a matter of luck."""
    for i in range(30):
        leak, facts = made(f"s{i}", level=level)
        if facts.shape[0] > 1:
            read = labels.listed(labels.grad_inversion(leak))
        else:
            read = labels.idlg(without(leak, ["fc.bias"]) if level == "masked" else leak)
        _, y = truth_of(f"s{i}", level, pool)
        assert torch.equal(read, y.sort().values)


def test_half_the_labels_of_a_batch_earn_half_their_points(pool):
    x, y = truth_of("ada", "batch", pool)
    y = torch.cat([y[:2], torch.tensor([-1, -1])])
    grade = graded("batch", {"images": torch.zeros_like(x), "labels": y.flip(0)}, pool)
    assert grade.points == 1 and grade.labels_right == 2


def test_a_label_that_is_said_four_times_counts_once(pool):
    _, y = truth_of("ada", "batch", pool)
    assert graded("batch", {"labels": y[:1].expand(4)}, pool).labels_right == 1


def test_one_image_said_four_times_counts_once(pool):
    x, y = truth_of("ada", "batch", pool)
    images = x[:1].expand_as(x).contiguous()
    grade = graded("batch", {"images": images, "labels": y}, pool)
    assert grade.points == 2 + 8 / 4


def test_between_floor_and_full_marks_points_grow_linearly(pool):
    x, y = truth_of("ada", "gradient", pool)
    level = challenge.LEVELS["gradient"]
    wanted = (level.floor + level.full) / 2
    # an error of one size at every pixel, towards the middle so that nothing is clamped
    images = x + 10 ** (-wanted / 20) * torch.where(x < 0.5, 1.0, -1.0)
    assert graded("gradient", {"images": images, "labels": y}, pool).points == pytest.approx(
        6, 0.01
    )


def test_the_floor_is_above_every_flat_picture():
    for level in challenge.LEVELS.values():
        assert _pool.FLATTEST + 2 <= level.floor < level.full


# ------------------------------------------------------------------ whose challenge it is
def test_two_students_have_other_networks_and_mostly_other_pictures(pool, made):
    ada, bo = (made(student)[0] for student in ("ada", "bo"))
    assert not torch.equal(ada.weights["fc.weight"], bo.weights["fc.weight"])
    chosen = [truth_of(f"s{i}", "gradient", pool) for i in range(20)]
    assert len({x.sum().item() for x, _ in chosen}) > 8
    assert len({y.item() for _, y in chosen}) > 4


def test_students_with_the_same_picture_have_other_windows_of_it():
    """A class with one picture, in which nobody can hand in the answer of another."""
    one = challenge.open_pool([data.load("photos", size=256)[0][data.PICTURES.index("temple")]])
    students = [f"s{i}" for i in range(12)]
    x = torch.cat([truth_of(student, "gradient", one)[0] for student in students])
    for i, student in enumerate(students):
        for other in range(len(x)):
            answer = {"images": x[[other]], "labels": torch.tensor([-1])}
            grade = graded("gradient", answer, one, student=student)
            assert grade.points == (8 if other == i else 0), (i, other, grade.lines)


def test_a_window_is_a_square_of_the_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), "uint8")
    for side, top, left, mirrored in (
        (0.0, 0.0, 0.0, 0.9),
        (0.99, 0.5, 0.99, 0.9),
        (0, 0.99, 0, 0),
    ):
        u = np.array([side, top, left, mirrored])
        share = _pool.NARROWEST + (_pool.WIDEST - _pool.NARROWEST) * side
        size = int(share * 60)
        found = (255 * _pool.window(pixels, size, u)).round().byte()
        first, last = int(top * (60 - size + 1)), int(left * (100 - size + 1))
        wanted = torch.from_numpy(pixels[first : first + size, last : last + size]).permute(2, 0, 1)
        assert torch.equal(found, wanted if mirrored >= 0.5 else wanted.flip(-1))


def test_no_window_is_enlarged_or_of_one_colour():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), "uint8")
    u = np.zeros(4 * _pool.TRIES)
    assert torch.equal(_pool.window(noise, 40, u).flip(-1), resized(noise, 40))
    half = np.concatenate([np.full((80, 80, 3), 9, "uint8"), np.tile(noise, (2, 2, 1))])
    above, below = [0.0, 0.0, 0.0, 0.9], [0.0, 0.99, 0.0, 0.9]
    seen = _pool.window(half, 40, np.array(above + below))
    assert torch.equal(seen, resized(half[119:159, :40], 40)), "the next try"
    assert torch.equal(_pool.window(half, 40, np.array(above)), resized(centred(half), 40))


def test_the_answer_of_somebody_else_earns_nothing_for_its_images(pool):
    x, y = truth_of("ada", "gradient", pool)
    other = next(s for s in (f"s{i}" for i in range(20)) if truth_of(s, "gradient", pool)[1] != y)
    grade = graded("gradient", {"images": x, "labels": y}, pool, student=other)
    assert grade.points == 0 and "no image is recovered" in grade.lines[-1]


def test_each_level_draws_for_itself(pool):
    weights = [_keys.Draws(SECRET, "ada", level).key("weights") for level in LEVELS]
    assert len(set(weights)) == len(LEVELS)


def test_another_secret_gives_another_challenge(made):
    (ours, facts), (theirs, other) = made(), made(secret=OTHER, name="other")
    assert not torch.equal(ours.weights["fc.weight"], theirs.weights["fc.weight"])
    assert set(facts.tags.values()).isdisjoint(other.tags.values())


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_arguments_give_the_same_file(level, pool, files, tmp_path):
    again = challenge.make_challenge("ada", SECRET.encode(), level, images=pool, to=tmp_path / "a")
    assert again.read_bytes() == files[level].read_bytes()


def test_names_and_order_of_the_pictures_change_nothing(folder, made, tmp_path):
    ours, _ = made(images=folder)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for i, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        (renamed / f"x{i}{file.suffix.upper()}").write_bytes(file.read_bytes())
    theirs, _ = made(images=renamed, name="other")
    assert all(torch.equal(t, theirs.update[name]) for name, t in ours.update.items())


def test_a_picture_that_is_there_twice_counts_once(folder, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes((folder / "00.png").read_bytes())
    assert len(challenge.open_pool(tmp_path).hashes) == 1


def test_a_new_picture_changes_the_choice_of_few(pool):
    fewer = _pool.Pool(pool.hashes[1:], pool.sources[1:])
    same = 0
    for i in range(200):
        draws = _keys.Draws(SECRET, f"s{i}", "gradient")
        same += pool.hashes[pool.chosen(draws, 1)[0]] == fewer.hashes[fewer.chosen(draws, 1)[0]]
    assert same >= 200 - 30


def test_every_picture_is_chosen_for_somebody(pool):
    draws = [_keys.Draws(SECRET, f"s{i}", "batch") for i in range(300)]
    chosen = [i for d in draws for i in pool.chosen(d, 4)]
    counts = np.bincount(chosen, minlength=len(pool.hashes))
    assert counts.min() > 0 and counts.max() < 4 * counts.mean()


def test_a_batch_shows_four_different_pictures_with_different_labels(pool):
    for i in range(20):
        x, y = truth_of(f"s{i}", "batch", pool)
        assert len(y.unique()) == 4 and len(x.flatten(1).unique(dim=0)) == 4


# ------------------------------------------------------------------ what a file tells
def test_a_file_holds_no_picture_no_label_and_no_seed(pool, files):
    for level, file in files.items():
        content, (x, _) = file.read_bytes(), truth_of("ada", level, pool)
        for image in x:
            assert image[0, 5].numpy().tobytes() not in content
            assert (image[0, 5] * 255).round().byte().numpy().tobytes() not in content
        assert SECRET.encode() not in content
        draws = _keys.Draws(SECRET, "ada", level)
        for secret in (*pool.hashes, *(draws.key(p) for p in ("weights", "labels", "images"))):
            assert secret not in content and secret.hex().encode() not in content
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        leak = json.loads(header.pop("__metadata__")["leak"])
        assert set(leak) == {"kind", "batch_size", "victims", "names", "challenge"}
        assert set(leak["challenge"]) == {"format", *challenge.Facts._fields}
        told = {"steps", "lr", "optimizer", "defence", "p", "clip", "noise", "gate"}
        assert set(leak["challenge"]["known"]) <= told
        parts = {name.partition("/")[0] for name in header}
        assert parts == {"weights", "update"}


def test_the_learning_rate_of_one_step_is_not_told(files):
    _, facts = challenge.read_challenge(files["one_step"])
    assert "lr" not in facts.known and "0.1" not in facts.text


@pytest.mark.parametrize("level", LEVELS)
def test_but_for_two_tags_headers_are_the_same_for_all(level, pool, made):
    ours, theirs = made("ada", level=level)[1], made("bob", level=level)[1]
    hidden = dict(student_id="", tags={})
    assert ours._replace(**hidden) == theirs._replace(**hidden)


@pytest.mark.parametrize("level", LEVELS)
def test_all_files_of_a_level_are_equally_long(level, pool, tmp_path):
    sizes = {
        challenge.make_challenge(s, SECRET, level, images=pool, to=tmp_path / s).stat().st_size
        for s in ("ada", "bob", "eve")
    }
    assert len(sizes) == 1


def test_the_lock_of_a_client_is_not_in_its_file(files):
    leak, _ = challenge.read_challenge(files["keylocked"])
    private = ("key", "gain", "shift", "gamma", "beta")
    assert not any(word in name for name in (*leak.weights, *leak.buffers) for word in private)
    assert not leak.buffers


@pytest.mark.parametrize("level", LEVELS)
def test_a_challenge_is_also_a_leak_as_client_load_reads_it(level, files):
    (leak, facts), plain = challenge.read_challenge(files[level]), load(files[level])
    assert (plain.kind, plain.batch_size, plain.victims) == (leak.kind, facts.shape[0], None)
    assert list(plain.weights) == list(leak.weights)
    for part in ("weights", "update"):
        for name, tensor in getattr(leak, part).items():
            assert torch.equal(tensor, getattr(plain, part)[name])


@pytest.mark.parametrize("level", LEVELS)
def test_the_network_of_a_challenge_fits_its_leak(level, files):
    leak, facts = challenge.read_challenge(files[level])
    model = challenge.model_of(facts)
    if level == "keylocked":
        some = torch.full((facts.network["width"],), 0.5)
        leak = keylock.guessed(leak, some, some)
    client.check_leak(model, leak)
    assert model(torch.zeros(facts.shape)).shape == (facts.shape[0], 10)


@pytest.mark.parametrize("level", sorted(set(LEVELS) - {"masked", "keylocked", "dp"}))
def test_what_a_client_sends_is_what_client_sends(level, pool, files):
    """Of the same weights and batch, by leaklib's own function with the defence that is told."""
    leak, facts = challenge.read_challenge(files[level])
    model = challenge.model_of(facts)
    model.load_state_dict(leak.weights)
    x, y = truth_of("ada", level, pool)
    known = facts.known
    if leak.kind == "weights":
        lr = known.get("lr", 0.1)
        plain = client.share_weights(model, x, y, lr=lr, steps=known["steps"])
    else:
        defense = defenses.prune(known["p"]) if known.get("defence") == "prune" else None
        plain = client.share_gradient(model, x, y, defense=defense)
    for name, tensor in plain.update.items():
        assert torch.equal(tensor, leak.update[name])


def test_what_is_masked_and_noised_has_the_law_that_is_told(pool, files):
    for level in ("masked", "dp"):
        leak, facts = challenge.read_challenge(files[level])
        model = challenge.model_of(facts)
        model.load_state_dict(leak.weights)
        x, y = truth_of("ada", level, pool)
        g = client.share_gradient(model, x, y).direction
        if level == "masked":
            sent = torch.cat([(h != 0).flatten() for h in leak.update.values()])
            assert sent.float().mean() == pytest.approx(1 - facts.known["p"], abs=0.02)
            kept = [torch.equal(h[h != 0], g[n][h != 0]) for n, h in leak.update.items()]
            assert all(kept)
        else:
            short = defenses.clip(facts.known["clip"])(g, None)
            noise = torch.cat([(h - short[n]).flatten() for n, h in leak.update.items()])
            assert noise.std() == pytest.approx(facts.known["noise"], rel=0.02)
            assert abs(noise.mean()) < 5 * facts.known["noise"] / len(noise) ** 0.5


# ------------------------------------------------------------------ what is drawn
def test_numbers_are_a_function_of_the_secret_for_ever():
    """These were written down once: another version must not change who has which picture."""
    draws = _keys.Draws(SECRET, "ada", "gradient")
    assert (
        draws.key("weights").hex()
        == "ffc3e818024d18189d1b6a69785ba25d6adb4949cfc3cc9e27ed58f6873926b0"
    )
    assert draws.uniform("weights", 2).tolist() == [0.6185793978710704, 0.8217862670566899]
    assert draws.labels(3, 10).tolist() == [6, 3, 2]


def test_uniform_and_normal_numbers_have_their_laws():
    from scipy.stats import kstest

    u = _keys.Draws(SECRET, "ada", "dp").uniform("noise", 20_000)
    assert u.min() > 0 and u.max() < 1
    assert kstest(u, "uniform").pvalue > 0.01
    assert kstest(_keys.normal(torch.from_numpy(u)).numpy(), "norm").pvalue > 0.01


def test_purposes_students_and_levels_cannot_be_confused():
    keys = {
        _keys.Draws(SECRET, student, level).key(purpose)
        for student in ("a", "ab", "abc")
        for level in ("bc", "c", "dp")
        for purpose in ("x", "cx", "")
    }
    assert len(keys) == 27


def test_labels_are_each_as_probable_as_any_other():
    drawn = [_keys.Draws(SECRET, f"s{i}", "gradient").labels(1, 10).item() for i in range(1000)]
    assert np.bincount(drawn, minlength=10).min() > 60


def test_draws_do_not_show_the_secret():
    assert SECRET not in repr(_keys.Draws(SECRET, "ada", "dp"))


# ------------------------------------------------------------------ what the instructor gives
@pytest.mark.parametrize(
    "student",
    ["", "../x", "a/b", "a\\b", ".x", "a b", "é", "a\n", "-x", "x" * 65, "a\0", "a:b", 7, None],
)
def test_an_id_that_could_not_be_part_of_a_file_name_is_refused(student, pool, tmp_path):
    with pytest.raises(ValueError, match="student_id: got"):
        challenge.make_challenge(student, SECRET, "gradient", images=pool, to=tmp_path / "x")


@pytest.mark.parametrize("secret", ["short", "x" * 64, b"", None, 12])
def test_a_secret_that_can_be_guessed_is_refused(secret, pool, tmp_path):
    with pytest.raises(ValueError, match="secret: got"):
        challenge.make_challenge("ada", secret, "gradient", images=pool, to=tmp_path / "x")


def test_an_unknown_level_is_refused_with_the_names_there_are(pool, tmp_path):
    with pytest.raises(ValueError, match="level: got 'gradients'; wanted one of gradient, batch"):
        challenge.make_challenge("ada", SECRET, "gradients", images=pool, to=tmp_path / "x")
    with pytest.raises(ValueError, match="level: got"):
        graded("gradients", {}, pool)


def test_too_few_pictures_are_refused(pool, tmp_path):
    few = challenge.open_pool(photographs()[:3])
    with pytest.raises(ValueError, match="images: got 3 pictures; wanted at least 4"):
        challenge.make_challenge("ada", SECRET, "batch", images=few, to=tmp_path / "x")


def test_a_folder_that_is_none_or_empty_is_refused(tmp_path):
    with pytest.raises(ValueError, match="wanted a folder of pictures"):
        challenge.open_pool(tmp_path / "none")
    (tmp_path / ".hidden.png").write_bytes(b"")
    with pytest.raises(ValueError, match="with no picture in it"):
        challenge.open_pool(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_a_file_that_is_no_picture_is_named(content, folder, tmp_path):
    (tmp_path / "good.png").write_bytes((folder / "00.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match="images: got broken.png; wanted a picture"):
        challenge.open_pool(tmp_path)


def test_a_truncated_picture_is_named(folder, tmp_path):
    whole = (folder / "00.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half\.png"):
        challenge.open_pool(tmp_path)


def test_a_picture_that_is_too_large_a_file_is_refused(folder, monkeypatch):
    monkeypatch.setattr(_pool, "LARGEST_FILE", 1000)
    with pytest.raises(ValueError, match="files of at most 1000 bytes"):
        challenge.open_pool(folder)


def test_other_files_and_flat_pictures_are_left_out_with_a_warning(folder, tmp_path):
    (tmp_path / "good.png").write_bytes((folder / "00.png").read_bytes())
    (tmp_path / "photo.heic").write_bytes(b"")
    Image.new("RGB", (40, 40), (9, 99, 200)).save(tmp_path / "blue.png")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pool = challenge.open_pool(tmp_path)
    assert len(pool.hashes) == 1
    assert sorted(str(w.message).rpartition(" ")[2] for w in told) == ["blue.png", "photo.heic"]


def test_a_folder_of_flat_pictures_alone_is_refused():
    with (
        pytest.warns(UserWarning, match="of one colour"),
        pytest.raises(ValueError, match="all nearly of one colour"),
    ):
        challenge.open_pool([torch.full((3, 40, 40), 0.3)])


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(40, 40),
        torch.rand(1, 40, 40),
        torch.rand(3, 20, 40),
        torch.rand(3, 40, 40).double(),
        2 * torch.rand(3, 40, 40),
        torch.full((3, 40, 40), torch.nan),
        "picture.png",
    ],
)
def test_tensors_that_are_no_pictures_are_refused(image):
    with pytest.raises(ValueError, match=r"images\[0\]: got"):
        challenge.open_pool([image])


def test_a_picture_that_changes_between_is_told(folder, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes((folder / "00.png").read_bytes())
    pool = challenge.open_pool(tmp_path)
    file.write_bytes((folder / "03.png").read_bytes())
    with pytest.raises(ValueError, match=r"a\.png, which has changed"):
        challenge.make_challenge("ada", SECRET, "gradient", images=pool, to=tmp_path / "x")


def test_files_and_tensors_of_a_picture_look_the_same(folder):
    whole = data.open_image(folder / "00.png", 48)
    by_file = challenge.open_pool(folder)
    number = by_file.sources.index(folder / "00.png")
    by_tensor = challenge.open_pool([whole[0]])
    assert np.array_equal(by_file.pixels(number), by_tensor.pixels(0))


def test_another_secret_or_other_pictures_are_told_at_grading(pool, files):
    x, y = truth_of("ada", "gradient", pool)
    answer, made = {"images": x, "labels": y}, files["gradient"]
    settings = dict(level="gradient", challenge=made)
    chosen = pool.chosen(_keys.Draws(SECRET, "ada", "gradient"), 1)[0]
    others = _pool.Pool(*(part[:chosen] + part[chosen + 1 :] for part in pool))
    with pytest.raises(ValueError, match="secret: got another one"):
        challenge.grade_challenge("ada", OTHER, answer, images=pool, **settings)
    with pytest.raises(ValueError, match="images: got others"):
        challenge.grade_challenge("ada", SECRET, answer, images=others, **settings)
    with pytest.raises(ValueError, match="challenge: got that of ada, gradient; wanted that of bo"):
        challenge.grade_challenge("bo", SECRET, answer, images=pool, **settings)


# ------------------------------------------------------------------ answers that are none
def replaced(answer, **parts):
    return {**answer, **parts}


class Liar(torch.Tensor):
    """Says of every comparison that it is right."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return torch.ones(1, dtype=torch.bool)


WRONG_IMAGES = {
    "NaN or infinite": lambda x: x.index_fill(3, torch.tensor([0]), torch.nan),
    "NaN or infinite pixels; wanted": lambda x: x.index_fill(2, torch.tensor([1]), -torch.inf),
    "got shape (3, 32, 32)": lambda x: x[0],
    "got shape (1, 3, 31, 32)": lambda x: x[:, :, 1:],
    "got shape (0, 3, 32, 32)": lambda x: x[:0],
    "of torch.float64": lambda x: x.double(),
    "of torch.uint8": lambda x: (255 * x).byte(),
    "of torch.complex64": lambda x: x.to(torch.complex64),
    "wanted 0 to 1": lambda x: 255 * x,
    "missing": lambda x: None,
    "got ndarray": lambda x: x.numpy(),
    "got list": lambda x: x.tolist(),
    "got Liar": lambda x: x.as_subclass(Liar),
    "without numbers": lambda x: x.to("meta"),
    "got Tensor; wanted a tensor": lambda x: x.to_sparse(),
}


@pytest.mark.parametrize("told", WRONG_IMAGES)
def test_wrong_images_cost_their_points_and_are_told(told, pool):
    x, y = truth_of("ada", "gradient", pool)
    grade = graded("gradient", {"images": WRONG_IMAGES[told](x), "labels": y}, pool)
    assert grade.points == 2 and grade.psnr == ()
    assert any(line.startswith("images:") and told in line for line in grade.lines), grade.lines


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y: y.float(),
        lambda y: y.int(),
        lambda y: y[None],
        lambda y: y.repeat(2),
        lambda y: y.item(),
        lambda y: None,
        lambda y: y.as_subclass(Liar),
    ],
)
def test_wrong_labels_cost_their_points_and_are_told(wrong, pool):
    x, y = truth_of("ada", "gradient", pool)
    grade = graded("gradient", {"images": x, "labels": wrong(y)}, pool)
    assert grade.points == 8 and grade.lines[0].startswith("labels:")
    assert grade.labels_right == 0


@pytest.mark.parametrize("label", [-1, 10, 2**62, -(2**63)])
def test_labels_out_of_range_are_merely_wrong(label, pool):
    x, _ = truth_of("ada", "gradient", pool)
    grade = graded("gradient", {"images": x, "labels": torch.tensor([label])}, pool)
    assert grade.points == 8 and grade.lines[0] == "labels: 0 of 1 right"


def test_pixels_a_little_outside_are_clamped(pool):
    x, y = truth_of("ada", "gradient", pool)
    images = torch.where(x < 0.01, -0.5, x).requires_grad_()
    assert graded("gradient", {"images": images, "labels": y}, pool).points == 10


@pytest.mark.parametrize("answer", [None, 7, [], "no\0name", "x" * 5000])
def test_what_is_no_answer_at_all_earns_nothing(answer, pool):
    grade = graded("gradient", answer, pool)
    assert grade.points == 0 and len(grade.lines) == 1


def test_files_that_are_no_answers_earn_nothing_and_are_told(pool, files, tmp_path):
    x, y = truth_of("ada", "gradient", pool)
    whole = challenge.write_answer(tmp_path / "whole", x, y).read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text").write_bytes(b"my answer is a cat")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    told = {
        tmp_path / "none": "no answer was handed in",
        tmp_path / "half": "cannot be read",
        tmp_path / "text": "cannot be read",
        tmp_path / "folder": "not a file",
        tmp_path / "pipe": "not a file",
        files["gradient"]: "this is a challenge",
    }
    for path, line in told.items():
        grade = graded("gradient", path, pool)
        assert grade.points == 0 and line in grade.lines[0], (path, grade.lines)
    assert graded("gradient", tmp_path / "whole", pool).points == 10


def test_an_answer_is_read_as_it_was_written(tmp_path):
    images, y = torch.rand(2, 3, 8, 8) * 3 - 1, torch.tensor([4, -1])
    read = challenge.read_answer(challenge.write_answer(tmp_path / "a", images.double(), y))
    assert torch.equal(read["images"], images.clamp(0, 1)) and torch.equal(read["labels"], y)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "images, y, told",
    [
        (torch.rand(1, 1, 3, 8, 8), torch.tensor([1]), "images: got shape"),
        (torch.ones(1, 3, 8, 8).byte(), torch.tensor([1]), "images: got shape"),
        (None, torch.tensor([1]), "images: got NoneType"),
        (torch.full((1, 3, 8, 8), torch.nan), torch.tensor([1]), "images: got NaN"),
        (torch.rand(1, 3, 8, 8), torch.tensor([[1]]), "labels: got shape"),
        (torch.rand(1, 3, 8, 8), torch.tensor([1.0]), "labels: got shape"),
        (torch.rand(1, 3, 8, 8), torch.tensor([1, 2]), "labels: got 2 labels; wanted 1"),
        (
            torch.rand(1, 3, 8, 8),
            torch.tensor([-2]),
            "labels: got labels from -2; .* -1 where unkn",
        ),
        (torch.rand(1, 3, 8, 8), [1], "labels: got list"),
        (torch.rand(1, 3, 8, 8), torch.eye(10)[:1].long(), "labels: got shape"),
        (torch.rand(1, 3, 8, 8).numpy(), torch.tensor([1]), "images: got ndarray"),
        (torch.rand(3, 8, 8), torch.tensor([1]), "images: got shape"),
        (torch.rand(0, 3, 8, 8), torch.zeros(0).long(), "images: got shape"),
        # colours last
        (torch.rand(1, 8, 8, 3), torch.tensor([1]), r"images: got shape \(1, 8, 8, 3\)"),
        (torch.full((1, 3, 8, 8), -torch.inf), torch.tensor([1]), "images: got NaN or infinite"),
        # A17
        (
            255 * torch.linspace(0, 1, 192).reshape(1, 3, 8, 8),
            torch.tensor([1]),
            "^images: got pixels from 0 to 255; wanted 0 to 1",
        ),
        # standardised
        (
            torch.linspace(-2.12, 2.64, 192).reshape(1, 3, 8, 8),
            torch.tensor([1]),
            "^images: got pixels from -2.12 to 2.64; wanted 0 to 1",
        ),
    ],
)
def test_what_is_no_answer_is_not_written(images, y, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        challenge.write_answer(tmp_path / "a", images, y)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ files of strangers
def taken_apart(path):
    """(header, leak, body) of a challenge."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["leak"]), content[8 + length :]


def put_together(header, leak, body, path):
    if leak is not None:
        header = {**header, "__metadata__": {"leak": json.dumps(leak)}}
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def refused(path):
    with pytest.raises(ValueError, match="^path: got"):
        challenge.read_challenge(path)
    with pytest.raises(ValueError, match="^path: got"):
        challenge.read_answer(path)


def test_a_file_taken_apart_and_put_together_is_read(files, tmp_path):
    path = put_together(*taken_apart(files["gradient"]), tmp_path / "x")
    assert challenge.read_challenge(path)[1].student_id == "ada"


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        challenge.read_challenge(tmp_path / "none")


def test_a_truncated_file_is_refused_wherever_it_ends(files, tmp_path):
    content = files["gradient"].read_bytes()
    for end in (0, 1, 7, 8, 9, 100, 2000, 3000, len(content) // 2, len(content) - 1):
        (tmp_path / "x").write_bytes(content[:end])
        refused(tmp_path / "x")
    (tmp_path / "x").write_bytes(content + b"\0")
    refused(tmp_path / "x")


def test_a_file_that_is_too_long_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(10**12)
    refused(tmp_path / "x")


@pytest.mark.parametrize("length", [10**6, 2**31, 2**63, 2**64 - 1])
def test_a_header_of_a_huge_length_is_refused(length, tmp_path):
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + b"{}" * 1000)
    refused(tmp_path / "x")


@pytest.mark.parametrize(
    "header",
    [
        "[" * 20_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        '{"a":[[[[[[[[[[[[]]]]]]]]]]]]}',
        "[]",
        "null",
        '"x"',
        "{",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        '{"a": NaN}',
        '{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "a": 1}',
        '{"a": ' + "9" * 5000 + "}",
        '{"__metadata__": 7}',
        '{"__metadata__": {"leak": 7}}',
        json.dumps({f"t{i}": 0 for i in range(500)}),
    ],
)
def test_a_header_that_is_no_header_is_refused(header, tmp_path):
    refused(put_together(header, None, b"\0" * 4, tmp_path / "x"))


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        dict(dtype="F16", shape=[2], data_offsets=[0, 4]),
        dict(dtype="F8_E8M0", shape=[4], data_offsets=[0, 4]),
        dict(dtype="F4", shape=[8], data_offsets=[0, 4]),
        dict(dtype="F64", shape=[1], data_offsets=[0, 8]),
        dict(dtype=["F32"], shape=[1], data_offsets=[0, 4]),
        dict(dtype="F32", shape=[2], data_offsets=[0, 4]),
        dict(dtype="F32", shape=[2**62, 4], data_offsets=[0, 4]),
        dict(dtype="F32", shape=[-1, -1], data_offsets=[0, 4]),
        dict(dtype="F32", shape=[0], data_offsets=[0, 0]),
        dict(dtype="F32", shape=[1.0], data_offsets=[0, 4]),
        dict(dtype="F32", shape=[True], data_offsets=[0, 4]),
        dict(dtype="F32", shape=[1] * 5, data_offsets=[0, 4]),
        dict(dtype="F32", shape="1", data_offsets=[0, 4]),
        dict(dtype="F32", shape=[1], data_offsets=[0]),
        dict(dtype="F32", shape=[1], data_offsets=[4, 8]),
        dict(dtype="F32", shape=[1], data_offsets=[4, 0]),
        dict(dtype="F32", shape=[1], data_offsets=[-4, 0]),
        dict(dtype="F32", shape=[2**70], data_offsets=[0, 2**72]),
        dict(dtype="F32", shape=[1], data_offsets=[0, 4], more=1),
    ],
)
def test_a_forged_tensor_is_refused(entry, tmp_path):
    path = put_together({"images": entry}, None, b"\0" * 4, tmp_path / "x")
    refused(path)
    # for this alone, and not because the labels are missing
    with pytest.raises(ValueError):
        _file._parsed(path.read_bytes())


@pytest.mark.parametrize("name", ["", "../x", "a" * 100, "é", "a b", "\n"])
def test_a_tensor_with_a_strange_name_is_refused(name, tmp_path):
    entry = dict(dtype="F32", shape=[1], data_offsets=[0, 4])
    refused(put_together({name: entry}, None, b"\0" * 4, tmp_path / "x"))


def test_tensors_that_overlap_or_leave_a_gap_are_refused(tmp_path):
    at = lambda begin: dict(dtype="F32", shape=[1], data_offsets=[begin, begin + 4])  # noqa: E731
    refused(put_together(dict(images=at(0), labels=at(0)), None, b"\0" * 4, tmp_path / "x"))
    refused(put_together(dict(images=at(0), labels=at(2)), None, b"\0" * 6, tmp_path / "x"))
    refused(put_together(dict(images=at(0), labels=at(6)), None, b"\0" * 10, tmp_path / "x"))


FORGED = {
    "of another student's shape": lambda leak: leak["challenge"].update(shape=[2, 3, 32, 32]),
    "of another size": lambda leak: leak["challenge"].update(shape=[1, 3, 16, 16]),
    "of no images": lambda leak: leak["challenge"].update(shape=[0, 3, 32, 32]),
    "of a million images": lambda leak: (
        leak["challenge"].update(shape=[10**6, 3, 32, 32]),
        leak.update(batch_size=10**6),
    ),
    "of a shape that is a word": lambda leak: leak["challenge"].update(shape="(1, 3)"),
    "of a later format": lambda leak: leak["challenge"].update(format=2),
    "of the format true": lambda leak: leak["challenge"].update(format=True),
    "of another network": lambda leak: leak["challenge"]["network"].update(name="resnet18"),
    "of code for a network": lambda leak: leak["challenge"]["network"].update(name="os.system"),
    "of a network that is a list": lambda leak: leak["challenge"].update(network=["lenet"]),
    "of a wide network": lambda leak: leak["challenge"]["network"].update(width=10**9),
    "of width 12.0": lambda leak: leak["challenge"]["network"].update(width=12.0),
    "of width true": lambda leak: leak["challenge"]["network"].update(width=True),
    "of a narrower network": lambda leak: leak["challenge"]["network"].update(width=11),
    "of an unknown activation": lambda leak: leak["challenge"]["network"].update(activation="exp"),
    "of an activation that is a list": lambda leak: leak["challenge"]["network"].update(
        activation=["relu"]
    ),
    "of one more argument": lambda leak: leak["challenge"]["network"].update(seed=1),
    "of one argument less": lambda leak: leak["challenge"]["network"].pop("size"),
    "of a strange student": lambda leak: leak["challenge"].update(student_id="../ada"),
    "of a level that is a number": lambda leak: leak["challenge"].update(level=3),
    "of a long text": lambda leak: leak["challenge"].update(text="x" * 501),
    "of a text with control characters": lambda leak: leak["challenge"].update(text="\x1b[2J"),
    "of a strange fact": lambda leak: leak["challenge"]["known"].update({"a b": 1}),
    "of an infinite fact": lambda leak: leak["challenge"]["known"].update(lr=10**400),
    "of a fact that is a list": lambda leak: leak["challenge"]["known"].update(lr=[1]),
    "of facts that are a list": lambda leak: leak["challenge"].update(known=[]),
    "of other tags": lambda leak: leak["challenge"].update(tags={"secret": "0" * 32}),
    "of tags that are numbers": lambda leak: leak["challenge"]["tags"].update(secret=1),
    "of a tag that is too long": lambda leak: leak["challenge"]["tags"].update(secret="0" * 33),
    "of one more entry": lambda leak: leak["challenge"].update(label=3),
    "of no challenge": lambda leak: leak.pop("challenge"),
    "of a challenge that is a list": lambda leak: leak.update(challenge=[1]),
    "of another kind": lambda leak: leak.update(kind="secrets"),
    "of a kind that is a list": lambda leak: leak.update(kind=["gradient"]),
    "of many victims": lambda leak: leak.update(victims=2),
    "of another batch size": lambda leak: leak.update(batch_size=2),
    "of a batch size that is true": lambda leak: leak.update(batch_size=True),
    "of names in another order": lambda leak: leak["names"].reverse(),
    "of names that are a number": lambda leak: leak.update(names=7),
    "of one more thing": lambda leak: leak.update(seed=7),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_challenge_is_refused(forgery, files, tmp_path):
    header, leak, body = taken_apart(files["gradient"])
    FORGED[forgery](leak)
    refused(put_together(header, leak, body, tmp_path / "x"))


def test_weights_of_another_shape_type_or_name_are_refused(files, tmp_path):
    header, leak, body = taken_apart(files["gradient"])
    entry = header["weights/conv1.weight"]
    for change in (
        {**entry, "shape": entry["shape"][::-1]},
        {**entry, "shape": [math.prod(entry["shape"])]},
        {**entry, "dtype": "I64", "shape": [math.prod(entry["shape"]) // 2]},
    ):
        refused(
            put_together({**header, "weights/conv1.weight": change}, leak, body, tmp_path / "x")
        )
    renamed = {name.replace("conv1", "conv9"): entry for name, entry in header.items()}
    refused(put_together(renamed, leak, body, tmp_path / "x"))


def test_numbers_that_are_not_finite_are_refused(files, tmp_path):
    header, leak, body = taken_apart(files["gradient"])
    nan = np.float32(np.nan).tobytes()
    refused(put_together(header, leak, body[:400] + nan + body[404:], tmp_path / "x"))


def test_a_tensor_that_the_leak_does_not_name_is_refused(files, tmp_path):
    header, leak, body = taken_apart(files["gradient"])
    more = dict(dtype="F32", shape=[1], data_offsets=[len(body), len(body) + 4])
    for name in ("weights/more", "buffers/more", "more"):
        forged = put_together({**header, name: more}, leak, body + b"\0" * 4, tmp_path / "x")
        refused(forged)


def test_an_answer_is_no_challenge(pool, tmp_path):
    answer = challenge.write_answer(tmp_path / "a", *truth_of("ada", "gradient", pool))
    with pytest.raises(ValueError, match="that of a challenge, not of an answer"):
        challenge.read_challenge(answer)


def test_an_answer_with_other_tensors_is_refused(tmp_path):
    entry = dict(dtype="F32", shape=[1], data_offsets=[0, 4])
    path = put_together({"pictures": entry}, None, b"\0" * 4, tmp_path / "x")
    with pytest.raises(ValueError, match=r"got x \(the tensors pictures\); wanted images and"):
        challenge.read_answer(path)


# ------------------------------------------------------------------ fuzzing
FUZZED = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def survives(content, path, pool):
    """Whatever the bytes: a value or a ValueError, and a grade."""
    path.write_bytes(content)
    for read in (challenge.read_challenge, challenge.read_answer):
        try:
            read(path)
        except ValueError as error:
            assert len(str(error)) < 2000
    grade = graded("gradient", path, pool)
    assert 0 <= grade.points <= 10 and grade.lines


@FUZZED
@given(content=st.binary(max_size=3000))
def test_random_bytes_are_survived(content, pool, tmp_path):
    survives(content, tmp_path / "x", pool)


@FUZZED
@given(header=st.binary(max_size=500), body=st.binary(max_size=200))
def test_random_headers_of_the_right_length_are_survived(header, body, pool, tmp_path):
    survives(len(header).to_bytes(8, "little") + header + body, tmp_path / "x", pool)


@FUZZED
@given(
    at=st.lists(st.tuples(st.integers(0, 3500), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.none() | st.integers(0, 200_000),
)
def test_changed_and_truncated_challenges_are_survived(at, cut, files, pool, tmp_path):
    content = bytearray(files["gradient"].read_bytes())
    for place, value in at:
        content[place] = value
    survives(bytes(content[:cut]), tmp_path / "x", pool)


@FUZZED
@given(at=st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_answers_are_survived(at, pool, tmp_path):
    x, y = truth_of("ada", "gradient", pool)
    content = bytearray(challenge.write_answer(tmp_path / "a", x, y).read_bytes())
    for place, value in at:
        content[place] = value
    survives(bytes(content), tmp_path / "x", pool)


letters = st.sampled_from(
    ["", "F32", "I64", "BF16", "shape", "dtype", "images", "labels", "leak", "__metadata__", "é"]
)
numbers = st.sampled_from([0, 1, 4, 12, -1, 2**31, 2**63, 10**30, 0.5, 1e308, True])
values = st.recursive(
    st.none() | numbers | letters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(letters, inner, max_size=4),
    max_leaves=12,
)


@FUZZED
@given(
    header=st.dictionaries(
        letters,
        values
        | st.fixed_dictionaries(
            dict(dtype=letters, shape=st.lists(numbers, max_size=5), data_offsets=values)
        ),
        max_size=4,
    ),
    body=st.binary(max_size=40),
)
def test_headers_of_the_right_kind_with_wrong_values_are_survived(header, body, pool, tmp_path):
    text = json.dumps(header).encode()
    survives(len(text).to_bytes(8, "little") + text + body, tmp_path / "x", pool)


def paths_in(value, here=()):
    """Where everything is in nested dicts and lists."""
    yield here
    parts = {dict: dict.items, list: enumerate}.get(type(value), lambda value: ())
    for name, part in parts(value):
        yield from paths_in(part, (*here, name))


@FUZZED
@given(draw=st.data(), value=values)
def test_challenges_with_one_wrong_value_are_survived(draw, value, files, pool, tmp_path):
    header, leak, body = taken_apart(files["gradient"])
    where = draw.draw(st.sampled_from([p for p in paths_in(leak) if p]))
    inside = leak
    for name in where[:-1]:
        inside = inside[name]
    inside[where[-1]] = value
    path = put_together(header, leak, body, tmp_path / "x")
    survives(path.read_bytes(), path, pool)


# ------------------------------------------------------------------ networks
def test_every_network_of_a_level_can_be_told_in_json():
    for level in challenge.LEVELS.values():
        network = json.loads(json.dumps(level.network))
        assert network == level.network
        _networks.check_network(network)
        assert level.known and level.text.isprintable() and len(level.text) <= _file.TEXT


def test_a_lock_is_told_without_what_opens_it():
    facts = challenge.LEVELS["keylocked"]
    model = _networks.build(facts.network)
    assert {name for name, _ in model.lock.named_buffers()} == {"gamma", "beta"}


def test_two_locks_have_other_keys_and_other_maps(pool, made):
    """The gains are no function of what is public: same weights, another key, another gradient."""
    leak, facts = made(level="keylocked")
    x, y = truth_of("ada", "keylocked", pool)
    model = challenge.model_of(facts)
    draws = _keys.Draws(SECRET, "ada", "keylocked")
    key = torch.from_numpy(draws.uniform("key", _levels.KEY)).float()
    shapes = {"gain.weight": (12, 1024), "gain.bias": (12,)}
    shapes |= {"shift.weight": (12, 1024), "shift.bias": (12,)}
    maps = {name: torch.empty(shape) for name, shape in shapes.items()}
    draws.fill(maps, "maps", _levels.KEY**-0.5)
    told = keylock.guessed(leak, *keylock.gains(maps, key, "sigmoid"))
    g = client.gradient(model)(told.weights, x, y, told.buffers)
    for name, h in leak.direction.items():
        assert torch.allclose(g[name], h, atol=1e-5)
    assert metrics.mse(x, x).item() == 0
