"""The pictures that react: each shows what its sliders say, from a plain function."""

import re
from itertools import pairwise

import pytest
import torch

from leaklib import client, data, defenses, metrics, models, privacy
from leaklib.book import results, scenes
from leaklib.book.plots import Picture
from leaklib.book.scenes import chapter_7, chapter_13


def _share(picture: Picture) -> int:
    """The share in percent that a caption ends with."""
    return int(picture.caption.split("%")[0].split()[-1])


@pytest.mark.parametrize("noise", [0.0, 1e-2, 1.0])
def test_noise_hurts_one_row_before_it_hurts_all_rows(noise):
    picture = scenes.noisy_linear(noise)
    told = dict(part.strip(" .").rsplit(" ", 2)[:2] for part in _scores(picture))
    if noise:
        assert (
            float(told["all rows"]) > float(told["the largest row"]) > float(told["a typical row"])
        )
    assert f"{noise:g} times" in picture.caption


def _scores(picture):
    return picture.alt.split("first: ")[1].replace("> 100", "101").split(",")


def test_relu_rows_hold_pictures_of_a_batch_and_sigmoid_rows_do_not():
    assert _share(scenes.mixed_rows(8, "relu")) > 80
    assert _share(scenes.mixed_rows(8, "sigmoid")) == 0
    assert _share(scenes.mixed_rows(1, "sigmoid")) == 100


def test_bars_name_the_classes_of_the_batch_and_those_that_point_down():
    one = scenes.bias_gradient(1, 0.0)
    listed, negative = (part.split(":")[1].strip() for part in one.caption.split(".")[:2])
    assert listed == negative
    assert len(scenes.bias_gradient(16, 0.0).caption) > len(one.caption)


def test_rules_for_batches_are_shown_for_every_network_and_both_kinds_of_batch():
    read = {
        (network, classes): scenes.batch_rules(network, classes).figure.axes[0].lines
        for network in scenes.NETWORKS
        for classes in ("all", "three")
    }
    shares = {
        key: {line.get_label(): line.get_ydata()[-1] for line in lines}
        for key, lines in read.items()
    }
    assert shares["untrained", "all"]["own images"] > 0.97 > shares["untrained", "all"]["LLG"]
    trained = shares["ten epochs", "three"]
    assert trained["own images"] < 0.6 and trained["even guess"] < 0.4
    sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert list(read["untrained", "all"][0].get_xdata()) == list(map(str, sizes))


def test_more_local_epochs_train_further_when_all_clients_see_the_same():
    assert _share(scenes.local_epochs("even", 5)) > _share(scenes.local_epochs("even", 1)) + 5


def test_each_activation_has_its_own_window_of_weights():
    recovered = {
        (activation, a): _share(scenes.initialisation(activation, a))
        for activation in ("sigmoid", "tanh")
        for a in (0.05, 0.2)
    }
    assert recovered["sigmoid", 0.05] == 0 and recovered["sigmoid", 0.2] == 100
    assert recovered["tanh", 0.05] == 100


def test_noise_and_pruning_stop_the_attacker_who_does_not_know():
    assert _share(scenes.noisy_gradient(0.0)) == 100 and _share(scenes.noisy_gradient(1.0)) == 0
    pruned = [scenes.pruned_gradient(p) for p in (0.0, 0.99)]
    assert [int(p.caption.split("knows nothing: ")[1].split("%")[0]) for p in pruned] == [100, 0]


def test_a_start_inside_the_range_of_pixels_recovers_at_least_what_noise_does():
    shares = {}
    for start in ("normal", "half"):
        images, _, out = scenes.arm("idlg", start, "published")
        shares[start] = metrics.success_rate(out.images, images[:, None])
        assert f"{shares[start]:.0%}" in scenes.idlg_start(start, "published").caption
    assert shares["half"] > 0.8 and shares["half"] >= shares["normal"]


def test_the_arms_of_a_comparison_attack_the_same_leaks_and_are_computed_once():
    assert scenes.digit_leaks() is scenes.digit_leaks()
    assert scenes.arm("idlg", "half", "published") is scenes.arm("idlg", "half", "published")


def test_the_cat_is_solved_where_equations_suffice_and_refused_elsewhere():
    said = {w: scenes.count_and_solve(16, w).caption for w in scenes.WIDTHS}
    assert "refused: Conv2d 'conv1' has too few equations: 768 unknowns against 556" in said[4]
    for width in (w for w in scenes.WIDTHS if w > 4):
        db, expected = map(
            int, re.findall(r"solved: (\d+) dB \(it expected (\d+)\)", said[width])[0]
        )
        assert db > 90 and abs(db - expected) < 15
    assert "1,728 against 1,688" in scenes.count_and_solve(24, 8).alt, "1,752, of which 64 repeat"


def test_the_recursion_wins_without_noise_and_matching_with_it_and_both_are_known():
    told = {}
    for noise in scenes.CLEAR_TO_NOISY:
        picture = scenes.solved_or_matched(noise)
        solved, matched = map(float, re.findall(r"(?:recursion|matching) (\S+) dB", picture.alt))
        told[noise] = solved, matched, float(re.findall(r"expects (\d+) dB", picture.caption)[0])
    assert told[0.0][0] > 100 > told[0.0][1] > 50
    assert told[1e-2][0] < told[1e-2][1]
    assert all(abs(solved - expected) < 6 for noise, (solved, _, expected) in told.items() if noise)


def test_cats_and_dogs_are_shown_with_their_control():
    table = scenes.cats_and_dogs()
    shown = {row[0]: row for row in table.rows}
    assert (
        float(shown["convolution, recursion"][2]) < 5 < float(shown["control: a grey picture"][1])
    )
    assert "100% (" in shown["fully connected, dW/db"][3] and "0 to 255" in table.caption


def test_a_mini_batch_comes_out_of_one_gradient_and_more_evaluations_help():
    def db(*where):
        return float(scenes.mini_batch(*where).caption.split("PSNR ")[1].split()[0])

    few, most = scenes.MOMENTS[0], scenes.MOMENTS[-1]
    for batch_size in (1, 2):
        assert db(batch_size, most) > 40 > db(batch_size, few)
    assert len(scenes.mini_batch(2, most).figure.axes) == 4


@pytest.mark.parametrize("solver", ["published", "safeguarded"])
@pytest.mark.parametrize("images_of", scenes.blended_sets())
def test_blending_is_shown_beside_starts_that_need_none(images_of, solver):
    picture = scenes.blending(solver, images_of)
    (axis,) = picture.figure.axes
    shown = dict(zip(scenes.BLEND_STARTS, (bar.get_height() for bar in axis.patches), strict=True))
    assert shown["blend"] < shown["normal"]
    hatched = [bar for bar in axis.patches if bar.get_hatch()]
    assert [bar.get_height() for bar in hatched] == [shown["blend"]]
    assert images_of in picture.caption and solver in picture.caption


@pytest.fixture(scope="module")
def few_evaluations():
    """The attacks of chapter 7 with 100 evaluations in place of 250."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapter_7, "STEPS", 100)
        chapter_7.attacked.cache_clear()
        yield
    chapter_7.attacked.cache_clear()


def _by_attack(picture):
    """{attack: median PSNR} as told to a reader who does not see the picture."""
    told = picture.alt.split("against private: ")[1]
    return {name: float(db) for name, db in re.findall(r"([a-zA-Z0-9, ]+?) ([0-9.]+) dB", told)}


def test_training_silences_the_squared_distance_first_and_signs_last(few_evaluations):
    db = {rounds: _by_attack(scenes.training(rounds)) for rounds in scenes.ROUNDS}
    first, last = (
        {name.strip(", "): value for name, value in db[rounds].items()}
        for rounds in (scenes.ROUNDS[0], scenes.ROUNDS[-1])
    )
    assert list(first) == list(last) == list(scenes.ATTACKS)
    assert min(first["l2"], first["cosine"]) > 30
    assert last["l2, published"] < 10 and last["l2"] < 15 < last["Inverting Gradients"]
    assert last["cosine"] > last["l2"] + 5


def test_checkpoints_learn_and_victims_are_stacked_one_after_the_other(few_evaluations):
    accuracies = [accuracy for _, _, accuracy in scenes.checkpoints()]
    assert accuracies[0] < 0.3 and accuracies[-1] > 0.9
    images, numbers, leaks = scenes.victims()
    last = scenes.checkpoints()[-1].model
    alone = client.share_gradient(last, images[1:2], numbers[1:2])
    assert leaks.victims == 12
    assert torch.equal(leaks.direction["fc.bias"][10], alone.direction["fc.bias"])
    assert scenes.attacked("l2").images.shape == (12, 1, 3, 32, 32)


@pytest.mark.parametrize("state", scenes.STATES)
@pytest.mark.parametrize("network", scenes.DEEPER_NETWORKS)
def test_deeper_networks_are_shown_with_every_image_and_the_control(network, state):
    picture = scenes.deeper(network, state)
    arms = results.load("deeper")["sets"][f"{network}, {state}"]
    (axis,) = picture.figure.axes
    assert [len(line.get_ydata()) for line in axis.lines] == [len(a["mse"]) for a in arms.values()]
    assert axis.lines[-1].get_marker() == "s" != axis.lines[0].get_marker()
    assert f"{network}, {state}" in picture.caption and "the mean image" in picture.alt


def test_decibels_of_a_lost_image_are_zero():
    assert scenes.decibels({"mse": [0.1, 1.0, None]}) == [10.0, 0.0, 0.0]


def _ends_of_dlm(picture):
    """{column: (k, converged)} of `first_k`; k is None where there is none."""
    told = picture.caption.split("evaluations. ")[1].split(". The last")[0]
    rows = (row.split(": ") for row in told.split("; "))
    return {
        name: (float(k[0]) if (k := re.findall(r"k ended at (\S+),", text)) else None,
               not text.endswith("not converged"))
        for name, text in rows
    }  # fmt: skip


def _psnr_by_name(picture):
    """{column: PSNR} as told to a reader who does not see the picture."""
    told = picture.alt.split("first: ")[1].replace("> 100", "101")
    return {n.strip(", "): float(db) for n, db in re.findall(r"([a-z, ]+?) ([0-9.]+) dB", told)}


def test_the_first_k_decides_what_dlm_finds_and_a_small_one_collapses():
    found = {k_0: scenes.first_k(k_0, 1e-2) for k_0 in (10.0, 200.0, 1000.0)}
    ends = {k_0: _ends_of_dlm(picture) for k_0, picture in found.items()}
    db = {k_0: _psnr_by_name(picture) for k_0, picture in found.items()}
    assert abs(ends[10.0]["label searched"][0]) < 1 and db[10.0]["label searched"] < 20
    assert not ends[10.0]["label searched"][1], "a collapse is not believed"
    for name in ("label searched", "label read"):
        assert abs(ends[200.0][name][0] - 100) < 1 and ends[200.0][name][1]
        assert db[200.0][name] > 40 > 20 > db[1000.0][name]


@pytest.mark.parametrize("lr", scenes.LEARNING_RATES)
def test_the_best_k_needs_no_first_k_at_any_learning_rate(lr):
    picture = scenes.first_k(10.0, lr)
    assert _psnr_by_name(picture)["label read, best k"] > 50
    assert _ends_of_dlm(picture)["label read, best k"] == (None, True)


def test_a_searched_label_does_the_work_of_k_at_a_small_learning_rate():
    searched, read = (scenes.dlm_from(100.0, label) for label in ("searched", "read"))
    last = scenes.LEARNING_RATES.index(1e-3)
    _, x, _ = scenes.face()
    near, far = (float(metrics.psnr(out.images[last], x)) for out in (searched, read))
    assert near > 20 > 10 > far
    assert abs(float(searched.unknowns["k"][last]) - 1000) > 500


def test_the_ends_of_runs_are_drawn_by_their_words():
    out = scenes.dlm_from(10.0, "searched")
    words = ["image", "collapse", "collapse"]
    picture = scenes.endings({10.0: out}, {10.0: words}, 1e-2)
    drawn = {line.get_label(): line.get_xdata() for line in picture.figure.axes[0].lines}
    assert {name: len(xs) for name, xs in drawn.items()} == {"collapse": 2, "image": 1, "1 / η": 2}
    assert drawn["image"][0] == pytest.approx(abs(float(out.unknowns["k"][0])))
    assert "collapse: 2 runs" in picture.alt


def test_local_steps_blur_the_naive_attack_and_sharpen_the_simulation():
    grey = metrics.psnr(torch.full_like(scenes.coffee()[1], 0.5), scenes.coffee()[1]).item()
    told = {}
    for steps in scenes.LOCAL_STEPS:
        alt = scenes.local_steps(steps, 0.01).alt
        told[steps] = {
            name: float(re.findall(rf"{name} (\S+) dB", alt)[0]) for name in scenes.LOCAL_ATTACKS
        }
    assert told[1]["single step"] == told[1]["simulated"]
    assert told[8]["single step"] < grey + 4 < told[8]["surrogate"] < told[8]["simulated"] - 8
    assert told[8]["simulated"] > told[1]["simulated"] + 2
    angles = [
        float(re.findall(r"by (\S+)°", scenes.local_steps(8, lr).caption)[0])
        for lr in scenes.LOCAL_RATES
    ]
    assert angles[2] < angles[0] < angles[1]


def test_the_surrogate_finds_the_middle_of_a_short_way():
    middles = scenes.middles()[0]
    for alpha, K in zip(middles, scenes.LOCAL_STEPS, strict=True):
        assert abs(float(alpha) - (K - 1) / (2 * K)) < 0.04
    assert scenes.middles()[2].abs().max() < 0.05


def _median_psnr(picture):
    return float(picture.alt.split("rebuilt ")[-1].split(" dB")[0])


@pytest.mark.parametrize("norm", scenes.NORMS)
def test_the_learning_rate_cancels_until_rounding_hides_the_face(norm):
    db = {lr: _median_psnr(scenes.norm_and_rate(norm, lr)) for lr in scenes.TINY_RATES}
    assert abs(db[1e-1] - db[1e-3]) < 3 and db[1e-1] > 25
    assert db[1e-7] < 15 < db[1e-6]
    assert norm in scenes.norm_and_rate(norm, 1e-7).caption


def test_a_norm_for_each_tensor_is_slower():
    db = {norm: _median_psnr(scenes.norm_and_rate(norm, 1e-3)) for norm in scenes.NORMS}
    slow = db.pop("each its own")
    assert slow + 2 < min(db.values()) and max(db.values()) - min(db.values()) < 3


def test_a_message_divided_by_its_learning_rate_is_the_gradient():
    model, x, y = scenes.face()
    g = client.share_gradient(model, x, y).direction
    divided = scenes.divided(client.share_weights(model, x, y, lr=0.1), torch.tensor(0.1))
    assert divided.kind == "gradient"
    assert all(torch.allclose(divided.direction[name], g[name], atol=1e-5) for name in g)
    _, leaks = scenes.sent_at_tiny_rates()
    rates = torch.tensor(scenes.TINY_RATES).repeat_interleave(3)
    stacked = scenes.divided(leaks, rates).direction["fc.bias"]
    assert torch.allclose(stacked[4], leaks.direction["fc.bias"][4] / rates[4])


@pytest.mark.parametrize("network", ["LeNet", "MLP"])
def test_dlm_by_learning_rate_shows_the_saved_shares(network):
    picture, saved = scenes.learning_rates(network), results.finished(results.load("dlm"))
    (axis,) = picture.figure.axes
    cases = [case for case in saved if case.startswith(f"{network}, ")]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == [c.split()[-1] for c in cases]
    last = results.shares({"": results.recovered(saved[cases[-1]]["DLM+, leaklib"], 1e-3)})[0]
    assert "DLM+, leaklib" in picture.alt and f"{last.share:.0%}" in picture.alt
    assert network in picture.caption


@pytest.mark.parametrize("optimizer", scenes.fading())
def test_fading_shows_the_median_of_every_number_of_steps(optimizer):
    picture = scenes.steps_fade(optimizer)
    saved = results.finished(results.load("local_steps"))
    curves = {line.get_label(): line for line in picture.figure.axes[0].lines}
    assert list(curves) == list(results.load("local_steps")["settings"]["arms"])
    for name, line in curves.items():
        for steps, db in zip(line.get_xdata(), line.get_ydata(), strict=True):
            arm = saved[f"{optimizer}, {steps} steps"][name]
            assert db == pytest.approx(torch.tensor(scenes.decibels(arm)).quantile(0.5).item())
    assert optimizer in picture.caption


@pytest.mark.parametrize("p", scenes.MASKS)
def test_a_mask_stops_the_naive_attacker_and_not_the_one_who_sees_it(p):
    picture, ssim = scenes.masked_faces(p), scenes.ssim_behind("masking, p")
    naive, aware = (float(scores[scenes.MASKS.index(p)].median()) for scores in ssim.values())
    assert f"naive {naive:z.2f}, knows the defence {aware:z.2f}" in picture.caption
    assert (naive < 0.5) == (p > 0.03), "a few percent are enough"
    assert aware > 0.97 if p <= 0.9 else 0.3 < aware < 0.95
    ratio = float(re.findall(r"(\S+) for each pixel", picture.caption)[0])
    assert abs(ratio - (1 - p) * 13426 / 625) < 0.2


def test_the_attacker_who_knows_clipping_is_not_stopped_and_knowing_noise_helps_less():
    naive, knows = scenes.ssim_behind("clipping, C").values()
    assert naive[-3:].median() < 0.2 and knows.min() > 0.97
    naive, knows = (s.median(1).values for s in scenes.ssim_behind("noising, σ").values())
    gain = knows - naive
    assert (gain > 0).all() and (gain < 0.5).all() and knows[-1] < 0.5 < knows[0]
    naive, knows = (s.median(1).values for s in scenes.ssim_behind("pruning, p").values())
    kept = scenes.OBFUSCATIONS["pruning, p"].strengths.index(0.9)
    assert knows[kept] > 0.9 > 0.2 > naive[kept]


@pytest.mark.parametrize("lock", scenes.LOCKS)
def test_a_lock_keeps_out_the_guess_and_not_who_searches_its_gains(lock):
    picture = scenes.lock_opened(150, lock)
    ssim = {who: float(re.findall(rf"{who} (-?[0-9.]+\d)", picture.caption)[0])
            for who in scenes.KEY_HOLDERS}  # fmt: skip
    assert ssim["true key"] > 0.9 and ssim["nothing known"] > 0.8
    assert ssim["guess"] < ssim["nothing known"] - 0.05
    early = scenes.lock_opened(5, lock)
    assert early.png() != picture.png() and "5 evaluations" in early.caption


def test_a_locks_secrets_are_not_in_what_leaves_the_client():
    case = scenes.locked()
    sent = {**case.sent.weights, **case.sent.update, **case.sent.buffers}
    assert not any("gain" in name or "shift" in name or "key" in name for name in sent)
    assert "lock.gain.weight" in case.told.buffers and "lock.key" not in case.told.buffers
    out = scenes.unlocked("sigmoid, normalised", "nothing known")
    assert (out.unknowns["gamma"] - scenes.locked("sigmoid, normalised").gamma).abs().max() < 0.02


def test_the_attacker_who_knows_the_noise_sees_more_in_the_end():
    _, images, _ = scenes.portraits()
    ssim = {
        name: {
            stop: [float(metrics.ssim(x, images).median()) for x in seen]
            for stop, seen in scenes.through_noise(name).items()
        }
        for name in scenes.KNOWING
    }
    naive, knowing = ssim.values()
    assert naive[100][0] > 0.9 and knowing[100][0] > 0.9
    assert all(knowing[100][i] > naive[100][i] + 0.1 for i in (2, 3))
    # cut short, the naive attack is nearly as good, or better
    assert all(max(v[i] for v in naive.values()) > knowing[100][i] - 0.1 for i in range(4))
    assert naive[20][3] > naive[100][3] + 0.1
    picture = scenes.under_noise(0.1, 20)
    assert "0.1, 20 evaluations" in picture.caption
    assert f"naive {naive[20][3]:.2f}" in picture.caption


def test_shares_are_drawn_with_the_bound_of_their_prior():
    counts = {0.5: 90, 2.0: 30}
    picture = scenes.under_the_bound({"four": (0.25, counts)}, 100)
    lines = picture.figure.axes[0].lines
    bound, points = lines[0], next(line for line in lines if line.get_marker() == "o")
    guess = next(line for line in lines if line.get_linestyle() == ":")
    assert list(points.get_ydata()) == [0.9, 0.3]
    assert bound.get_ydata()[0] == pytest.approx(privacy.reconstruction_bound(0.25, 0.5))
    assert bound.get_ydata()[-1] == pytest.approx(privacy.reconstruction_bound(0.25, 2.0))
    assert guess.get_ydata()[0] == 0.25
    assert "four, from 90% to 30%" in picture.alt


def test_pruned_photographs_are_lost_to_the_naive_attacker_alone():
    kept, seen = scenes.pruned()
    score = {name: [scenes.likeness(images) for images in rows] for name, rows in seen.items()}
    assert max(score["naive"][1:]) < 0.2 and score["adaptive"][0] > 0.9
    assert score["adaptive"][2] > 0.6
    assert score["adaptive"] == sorted(score["adaptive"], reverse=True)
    for share, count, ssim in zip(scenes.PRUNED_SHARES, kept, score["adaptive"], strict=True):
        picture = scenes.pruned_photos(share)
        assert f"{int(count):,} entries" in picture.caption
        assert f"adaptive {ssim:.2f}" in picture.caption
        assert abs(int(count) / 14288 - (1 - share)) < 2e-3


def test_rounded_photographs_need_an_attacker_who_knows_below_eight_bits():
    seen = scenes.quantized()
    score = {name: [scenes.likeness(images) for images in rows] for name, rows in seen.items()}
    for i, bits in enumerate(scenes.BITS):
        gained = score["adaptive"][i] - score["naive"][i]
        assert gained > 0.2 if bits < 8 else abs(gained) < 0.1
        assert f"naive {score['naive'][i]:.2f}" in scenes.quantized_photos(bits).caption
    assert score["naive"][-1] > 0.85


def test_pruning_is_exact_until_the_entries_are_fewer_than_the_pixels():
    sent, independent, db = scenes.counted()
    assert (independent == sent.clamp(max=144)).all()
    assert (db[sent > 250] > 35).all() and (db[sent < 100] < 25).all()
    median = db.median(1).values
    assert (median.diff() < 0).all()


def test_slopes_are_the_derivative_of_the_gradient_by_the_pixels():
    model = models.lenet(1, 12, seed=0).double()
    digits, numbers = data.load("digits", 1, size=12)
    x, y = digits.double(), numbers
    d = 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    ends = [client.share_gradient(model, z, y).direction.values() for z in (x - d, x + d)]
    low, high = (torch.cat([t.flatten() for t in end]) for end in ends)
    moved = chapter_13.slopes(model, x, y) @ (2 * d).flatten()
    assert (high - low - moved).norm() < 1e-6 * moved.norm()


def test_the_front_holds_what_no_other_point_beats():
    Point = scenes.chapter_17.Point
    points = dict(a=Point(0.9, 0.8), b=Point(0.9, 0.5), c=Point(0.7, 0.2), d=Point(0.6, 0.2))
    assert scenes.front(points) == ["b", "c"]
    assert scenes.front({"a": Point(0.5, 0.5), "b": Point(0.5, 0.5)}) == ["a", "b"]


def test_the_stronger_judge_sees_what_either_attacker_does():
    for data_set in scenes.judged_sets():
        for score in scenes.LEAKAGES:
            naive, adaptive, stronger = (
                scenes.trade_offs(data_set, who, score) for who in scenes.JUDGES
            )
            for name, point in stronger.items():
                assert point.leakage == max(naive[name].leakage, adaptive[name].leakage)
                assert point.accuracy == naive[name].accuracy
            assert not any(name.startswith("Soteria") for name in stronger)
    saved = results.finished(results.load("defenses"))["mnist"]
    mean = sum(saved["clip 1"]["naive_ssim"]) / len(saved["clip 1"]["naive_ssim"])
    assert scenes.trade_offs("MNIST", "naive")["clip 1"].leakage == pytest.approx(mean)


@pytest.mark.parametrize("score", scenes.LEAKAGES)
@pytest.mark.parametrize("who", scenes.JUDGES)
def test_the_front_is_named_in_full_color_and_the_rest_is_pale(who, score):
    for data_set in scenes.judged_sets():
        points = scenes.trade_offs(data_set, who, score)
        best, picture = scenes.front(points), scenes.pareto(who, data_set, score)
        (axis,) = picture.figure.axes
        assert [text.get_text() for text in axis.texts] == best
        heights = [text.get_position()[1] for text in axis.texts]
        assert all(a - b > 0.05 for a, b in pairwise(heights))
        drawn = {1: 0, 0.28: 0}
        for dots in axis.collections:
            if hasattr(dots, "get_sizes") and dots.get_alpha() in drawn:
                drawn[dots.get_alpha()] += len(dots.get_offsets())
        assert drawn == {1: len(best), 0.28: len(points)}
        assert f"{len(best)} of {len(points)}" in picture.caption and data_set in picture.caption


def test_two_judges_stand_on_one_line_for_each_defence():
    names = ["clip 1", "mask 0.5", "DP-SGD 0.1"]
    picture = scenes.two_judges("MNIST", names)
    (axis,) = picture.figure.axes
    naive, adaptive = (dict(zip(line.get_ydata(), line.get_xdata())) for line in axis.lines)
    shown = [tick.get_text().split("  ")[0] for tick in axis.get_yticklabels()]
    judged = {who: scenes.trade_offs("MNIST", who) for who in ("naive", "adaptive")}
    assert sorted(shown) == sorted(names)
    for row, name in enumerate(shown):
        assert naive[row] == judged["naive"][name].leakage
        assert adaptive[row] == judged["adaptive"][name].leakage


def test_a_masked_upload_lies_everywhere_and_an_update_around_zero():
    generator = torch.Generator().manual_seed(0)
    sent = torch.empty(20_000, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    picture = scenes.where_integers_lie({"update": [sent // 2**40], "sent": [sent]})
    heights = [[bar.get_height() for bar in bars] for bars in picture.figure.axes[0].containers]
    assert max(heights[0]) == 1 and sum(heights[0]) == 1
    assert len(heights[1]) == 15 and max(heights[1]) < 0.08 and min(heights[1]) > 0.055


def test_who_knows_the_defence_sees_what_changes_form_and_not_what_is_drowned():
    ssim = {
        (who, d, s): float(scenes.likeness_of(who, d, s).mean())
        for who in scenes.ATTACKERS
        for d in scenes.TRIED
        for s in scenes.STRENGTHS
    }
    for form in ("masking, p", "Soteria, q", "clipping, C", "sparse weights, s"):
        assert ssim["naive", form, "middle"] < 0.55 and ssim["adaptive", form, "middle"] > 0.8
    for noise in ("noise, σ", "DP-SGD, σ", "noise on weights, b"):
        assert ssim["naive", noise, "strong"] < 0.2 and ssim["adaptive", noise, "strong"] < 0.25
    for case in {(d, s) for _, d, s in ssim}:
        assert ssim["adaptive", *case] > ssim["naive", *case] - 0.05
    picture = scenes.two_attackers("pruning, p", "strong")
    assert "pruning, p = 0.99" in picture.caption
    assert f"adaptive {ssim['adaptive', 'pruning, p', 'strong']:z.2f}" in picture.caption


def test_a_messages_batch_is_the_message_of_each_alone():
    leaks, (x, y) = scenes.tried_messages("rounding, bits", "strong"), scenes.tried_photos()
    alone = client.share_gradient(
        models.lenet(classes=8, seed=1), x[1:2], y[1:2], defense=defenses.quantize(2)
    )
    assert all(torch.equal(leaks.update[n][1], d) for n, d in alone.update.items())


@pytest.mark.parametrize("images", ["mnist", "cifar10"])
def test_every_arm_of_the_saved_experiment_has_its_row_and_its_dots(images):
    arms = results.finished(results.load("defenses"))[images]
    table = scenes.every_defence(images)
    assert [row[0] for row in table.rows][: len(arms)] == list(arms)
    row = dict(zip(table.header, table.rows[list(arms).index("mask 0.5")], strict=True))
    clear = [mse < 1e-3 for mse in arms["mask 0.5"]["adaptive_mse"]]
    assert row["recovered, adaptive"] == f"{sum(clear)}/{len(clear)}"
    means = {a: results.mean(c["naive_ssim"]).mean for a, c in arms.items()}
    (axis,) = scenes.both_attackers(images, "SSIM").figure.axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == list(arms)
    assert list(axis.lines[0].get_xdata()) == pytest.approx(list(means.values()))
    recovered = scenes.both_attackers(images, "recovered")
    assert "0.001" in recovered.caption and max(recovered.figure.axes[0].lines[1].get_xdata()) == 1


@pytest.mark.parametrize("images", ["mnist", "cifar10"])
def test_a_threshold_is_the_first_strength_at_which_an_attacker_fails(images):
    arms = results.finished(results.load("defenses"))[images]
    for family, first in scenes.thresholds(images).items():
        members = scenes.families()[family]
        for attacker, arm in first.items():
            fails = [results.mean(arms[a][f"{attacker}_ssim"]).mean < 0.3 for a in members]
            assert arm == (members[fails.index(True)] if any(fails) else None)
    assert scenes.families()["bits"] == ["8 bits", "4 bits", "3 bits", "2 bits"]
    assert scenes.accuracy_with(images, "Soteria 0.5") == "–"
