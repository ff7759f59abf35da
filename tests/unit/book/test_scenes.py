"""The pictures that react: each shows what its sliders say, and carries the numbers it shows."""

from itertools import pairwise
from statistics import fmean, median

import pytest
import torch

from leaklib import client, data, defenses, metrics, models, privacy, random
from leaklib.book import results, scenes
from leaklib.book.plots import Picture
from leaklib.book.scenes import chapter_13


def told(picture: Picture, *texts: str) -> bool:
    """Whether the caption holds these texts: what is read there is what the data say."""
    return all(text in picture.caption for text in texts)


@pytest.mark.parametrize("noise", [0.0, 1e-2, 1.0])
def test_noise_hurts_one_row_before_it_hurts_all_rows(noise):
    picture = scenes.noisy_linear(noise)
    db = picture.data["psnr"]
    assert list(db) == ["a typical row", "the largest row", "all rows"]
    if noise:
        assert db["all rows"] > db["the largest row"] > db["a typical row"]
    else:
        assert min(db.values()) > 100
    assert told(picture, f"{noise:g} times")


def test_relu_rows_hold_pictures_of_a_batch_and_sigmoid_rows_do_not():
    exact = {
        (B, activation): scenes.mixed_rows(B, activation).data["recovered"]
        for B, activation in ((8, "relu"), (8, "sigmoid"), (1, "sigmoid"))
    }
    assert exact[8, "relu"] > 0.8
    assert exact[8, "sigmoid"] == 0 and exact[1, "sigmoid"] == 1
    assert told(scenes.mixed_rows(8, "relu"), f"{exact[8, 'relu']:.0%} stand in a row")


def test_bars_name_the_classes_of_the_batch_and_those_that_point_down():
    one, many = scenes.bias_gradient(1, 0.0), scenes.bias_gradient(16, 0.0)
    assert one.data["present"] == one.data["negative"] and len(one.data["present"]) == 1
    assert len(many.data["present"]) > 4
    for picture in (one, many):
        down = [int(c) for c, value in picture.data["values"].items() if value < 0]
        assert picture.data["negative"] == down
        for key, words in (("present", "Digits in the batch"), ("negative", "Negative entries")):
            assert told(picture, f"{words}: {', '.join(map(str, picture.data[key]))}.")


def test_rules_for_batches_are_shown_for_every_network_and_both_kinds_of_batch():
    read = {
        (network, classes): scenes.batch_rules(network, classes)
        for network in scenes.NETWORKS
        for classes in ("all", "three")
    }
    last = {
        key: {rule: curve[-1] for rule, curve in picture.data["curves"].items()}
        for key, picture in read.items()
    }
    assert last["untrained", "all"]["own images"] > 0.97 > last["untrained", "all"]["LLG"]
    trained = last["ten epochs", "three"]
    assert trained["own images"] < 0.6 and trained["even guess"] < 0.4
    sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert read["untrained", "all"].data["x"] == list(map(str, sizes))
    accuracy = {key: picture.data["accuracy"] for key, picture in read.items()}
    assert accuracy["untrained", "all"] < 0.3 and accuracy["ten epochs", "all"] > 0.9
    for (network, _), picture in read.items():
        assert told(picture, network, f"accuracy {picture.data['accuracy']:.0%}")


def test_more_local_epochs_train_further_when_all_clients_see_the_same():
    ends = {}
    for epochs in (1, 5):
        picture = scenes.local_epochs("even", epochs)
        (curve,) = picture.data["curves"].values()
        assert len(curve) == len(picture.data["x"]) == 8
        assert told(picture, f"{curve[-1]:.0%} after 8 rounds")
        ends[epochs] = curve[-1]
    assert ends[5] > ends[1] + 0.05


def test_each_activation_has_its_own_window_of_weights():
    recovered = {
        (activation, a): scenes.initialization(activation, a).data["recovered"]
        for activation in ("sigmoid", "tanh")
        for a in (0.05, 0.2)
    }
    assert recovered["sigmoid", 0.05] == 0 and recovered["sigmoid", 0.2] == 1
    assert recovered["tanh", 0.05] == 1


def test_noise_and_pruning_stop_the_attacker_who_does_not_know():
    noisy = [scenes.noisy_gradient(noise) for noise in (0.0, 1.0)]
    pruned = [scenes.pruned_gradient(share) for share in (0.0, 0.99)]
    for clear, hidden in (noisy, pruned):
        assert clear.data["recovered"] == 1 and hidden.data["recovered"] == 0
        assert told(clear, "knows nothing: 100% recovered")
        assert told(hidden, "knows nothing: 0% recovered")


def test_a_start_inside_the_range_of_pixels_recovers_at_least_what_noise_does():
    shares = {}
    for start in ("normal", "half"):
        picture = scenes.idlg_start(start, "published")
        shares[start] = picture.data["recovered"]
        images, _, out = scenes.arm("idlg", start, "published")
        assert shares[start] == metrics.success_rate(out.images, images[:, None])
        assert told(picture, f"{start} start", f"{shares[start]:.0%} recovered")
    assert shares["half"] > 0.8 and shares["half"] >= shares["normal"]


def test_the_arms_of_a_comparison_attack_the_same_leaks_and_are_computed_once():
    assert scenes.digit_leaks() is scenes.digit_leaks()
    assert scenes.arm("idlg", "half", "published") is scenes.arm("idlg", "half", "published")


def test_the_cat_is_solved_where_equations_suffice_and_refused_elsewhere():
    for width in scenes.WIDTHS:
        picture = scenes.count_and_solve(16, width)
        numbers = picture.data
        enough = all(numbers["differ"][n] >= count for n, count in numbers["unknowns"].items())
        assert (width > 4) == (numbers["cause"] is None) == enough == ("psnr" in numbers)
        if enough:
            db, expected = numbers["psnr"], numbers["expected"]
            assert db > 90 and abs(db - expected) < 15
            assert told(picture, f"solved: {db:.0f} dB (it expected {expected:.0f})")
        else:
            assert (numbers["unknowns"]["conv1"], numbers["differ"]["conv1"]) == (768, 540)
            assert told(picture, f"refused: {numbers['cause']}.")
    small = scenes.count_and_solve(24, 8)
    assert 1752 - 64 == small.data["differ"]["conv1"] < small.data["unknowns"]["conv1"] == 1728
    assert "1,728 against 1,688" in small.alt


def test_the_recursion_wins_without_noise_and_matching_with_it_and_both_are_known():
    db = {}
    for noise in scenes.CLEAR_TO_NOISY:
        picture = scenes.solved_or_matched(noise)
        rows = ("recursion", "matching")
        solved, matched = (float(picture.data["psnr"][row].median()) for row in rows)
        db[noise], expected = (solved, matched), picture.data["expected"]
        assert told(picture, f"expects {expected:.0f} dB")
        if noise:
            assert abs(solved - expected) < 6
    assert db[0.0][0] > 100 > db[0.0][1] > 50
    assert db[1e-2][0] < db[1e-2][1]


def test_cats_and_dogs_are_shown_with_their_control():
    table = scenes.cats_and_dogs()
    shown = {row[0]: row for row in table.rows}
    assert (
        float(shown["convolution, recursion"][2]) < 5 < float(shown["control: a grey picture"][1])
    )
    assert "100% (" in shown["fully connected, dW/db"][3] and "0 to 255" in table.caption


def test_a_mini_batch_comes_out_of_one_gradient_and_more_evaluations_help():
    few, most = scenes.MOMENTS[0], scenes.MOMENTS[-1]
    for batch_size in (1, 2):
        early, late = (scenes.mini_batch(batch_size, moment) for moment in (few, most))
        before, after = (p.data["psnr"]["rebuilt"] for p in (early, late))
        assert len(before) == len(after) == batch_size
        assert after.median() > 40 > before.median()
        assert told(late, f"{batch_size} of 8", f"median PSNR {float(after.median()):.1f} dB")
    assert len(scenes.mini_batch(2, most).figure.axes) == 4


@pytest.mark.parametrize("solver", ["published", "safeguarded"])
@pytest.mark.parametrize("images_of", scenes.blended_sets())
def test_blending_is_shown_beside_starts_that_need_none(images_of, solver):
    picture = scenes.blending(solver, images_of)
    cost, recovered = picture.data["values"], picture.data["recovered"]
    assert tuple(cost) == tuple(recovered) == scenes.BLEND_STARTS
    assert cost["blend"] < cost["normal"]
    (axis,) = picture.figure.axes
    assert [bar.get_height() for bar in axis.patches] == list(cost.values())
    hatched = [bar for bar in axis.patches if bar.get_hatch()]
    assert [bar.get_height() for bar in hatched] == [cost["blend"]]
    assert told(picture, images_of, solver, f"blend {recovered['blend']:.0%}")


def test_training_silences_the_squared_distance_first_and_signs_last():
    pictures = [scenes.training(rounds) for rounds in scenes.ROUNDS]
    accuracies = [picture.data["accuracy"] for picture in pictures]
    assert accuracies == [moment.accuracy for moment in scenes.checkpoints()]
    first, last = (
        {name: float(db.median()) for name, db in pictures[i].data["psnr"].items()} for i in (0, -1)
    )
    assert list(first) == list(last) == list(scenes.ATTACKS)
    assert min(first["l2"], first["cosine"]) > 30
    assert last["l2, published"] < 10 and last["l2"] < 13 < last["Inverting Gradients"]
    assert last["cosine"] > last["l2"] + 5
    assert told(pictures[-1], f"After {scenes.ROUNDS[-1]} rounds", f"{accuracies[-1]:.0%}")


def test_checkpoints_learn_and_victims_are_stacked_one_after_the_other():
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
    assert picture.data["psnr"] == {name: scenes.decibels(arm) for name, arm in arms.items()}
    for name, db in picture.data["psnr"].items():
        assert picture.data["means"][name] == results.mean(db)
    (axis,) = picture.figure.axes
    drawn = [list(line.get_ydata()) for line in axis.lines]
    assert drawn == list(picture.data["psnr"].values())
    assert list(arms)[-1] == "the mean image"
    assert axis.lines[-1].get_marker() == "s" != axis.lines[0].get_marker()
    assert told(picture, f"{network}, {state}") and "the mean image" in picture.alt


def test_decibels_of_a_lost_image_are_zero():
    assert scenes.decibels({"mse": [0.1, 1.0, None]}) == [10.0, 0.0, 0.0]


def test_the_first_k_decides_what_dlm_finds_and_a_small_one_collapses():
    found = {k_0: scenes.first_k(k_0, 1e-2).data for k_0 in (10.0, 200.0, 1000.0)}
    collapsed = "label searched"
    assert abs(found[10.0]["k"][collapsed]) < 1 and found[10.0]["psnr"][collapsed] < 20
    assert not found[10.0]["converged"][collapsed], "a collapse is not believed"
    for name in ("label searched", "label read"):
        assert abs(found[200.0]["k"][name] - 100) < 1 and found[200.0]["converged"][name]
        assert found[200.0]["psnr"][name] > 40 > 20 > found[1000.0]["psnr"][name]
    k = found[200.0]["k"]["label read"]
    assert told(scenes.first_k(200.0, 1e-2), f"label read: k ended at {k:.4g}, converged")


@pytest.mark.parametrize("lr", scenes.LEARNING_RATES)
def test_the_best_k_needs_no_first_k_at_any_learning_rate(lr):
    numbers = scenes.first_k(10.0, lr).data
    best = "label read, best k"
    assert numbers["psnr"][best] > 50 and numbers["converged"][best]
    assert set(numbers["k"]) == {"label searched", "label read"}


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
    ends = [(abs(float(k)), float(loss)) for k, loss in zip(out.unknowns["k"], out.objective)]
    assert picture.data == {"collapse": ends[1:], "image": ends[:1]}
    drawn = {line.get_label(): line.get_xydata() for line in picture.figure.axes[0].lines}
    assert set(drawn) == {"collapse", "image", "1 / η"}
    for word, points in picture.data.items():
        assert drawn[word].tolist() == [list(point) for point in points]
    assert "collapse: 2 runs" in picture.alt and told(picture, "one of 3 runs")


def test_local_steps_blur_the_naive_attack_and_sharpen_the_simulation():
    grey = metrics.psnr(torch.full_like(scenes.coffee()[1], 0.5), scenes.coffee()[1]).item()
    pictures = {steps: scenes.local_steps(steps, 0.01) for steps in scenes.LOCAL_STEPS}
    db = {steps: picture.data["psnr"] for steps, picture in pictures.items()}
    assert tuple(db[1]) == scenes.LOCAL_ATTACKS
    assert db[1]["single step"] == db[1]["simulated"]
    assert db[8]["single step"] < grey + 4 < db[8]["surrogate"] < db[8]["simulated"] - 8
    assert db[8]["simulated"] > db[1]["simulated"] + 2
    ends = [scenes.local_steps(8, lr) for lr in scenes.LOCAL_RATES]
    turned = [picture.data["turned"] for picture in ends]
    assert turned[2] < turned[0] < turned[1]
    alphas = [picture.data["alpha"] for picture in ends]
    assert alphas == scenes.middles()[:, -1].tolist()
    for picture, angle, alpha in zip(ends, turned, alphas, strict=True):
        assert told(picture, f"by {angle:.1f}°", f"looks at {alpha:.2f} of the way")


def test_the_surrogate_finds_the_middle_of_a_short_way():
    middles = scenes.middles()[0]
    for alpha, K in zip(middles, scenes.LOCAL_STEPS, strict=True):
        assert abs(float(alpha) - (K - 1) / (2 * K)) < 0.04
    assert scenes.middles()[2].abs().max() < 0.05


def _median_psnr(norm, lr):
    return float(scenes.norm_and_rate(norm, lr).data["psnr"]["rebuilt"].median())


@pytest.mark.parametrize("norm", scenes.NORMS)
def test_the_learning_rate_cancels_until_rounding_hides_the_face(norm):
    db = {lr: _median_psnr(norm, lr) for lr in scenes.TINY_RATES}
    assert abs(db[1e-1] - db[1e-3]) < 3 and db[1e-1] > 25
    assert db[1e-7] < 15 < db[1e-6]
    still = [scenes.norm_and_rate(norm, lr).data["still"] for lr in scenes.TINY_RATES]
    assert still == sorted(still) and still[0] < 0.1 and still[-1] > 0.5
    assert told(scenes.norm_and_rate(norm, 1e-7), norm, f"{still[-1]:.0%} of the weights stay")


def test_a_norm_for_each_tensor_is_slower():
    db = {norm: _median_psnr(norm, 1e-3) for norm in scenes.NORMS}
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
    cases = [case for case in saved if case.startswith(f"{network}, ")]
    (arms,) = picture.data.values()
    for arm, shares in arms.items():
        wanted = {case.split()[-1]: results.recovered(saved[case][arm], 1e-3) for case in cases}
        assert shares == results.shares(wanted)
    (axis,) = picture.figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == [c.split()[-1] for c in cases]
    assert "DLM+, leaklib" in picture.alt
    assert f"{arms['DLM+, leaklib'][-1].share:.0%}" in picture.alt and told(picture, network)


@pytest.mark.parametrize("optimizer", scenes.fading())
def test_fading_shows_the_median_of_every_number_of_steps(optimizer):
    picture = scenes.steps_fade(optimizer)
    saved = results.finished(results.load("local_steps"))
    curves = picture.data["curves"]
    assert list(curves) == list(results.load("local_steps")["settings"]["arms"])
    for name, curve in curves.items():
        for steps, db in zip(picture.data["x"], curve, strict=True):
            arm = saved[f"{optimizer}, {steps} steps"][name]
            assert db == pytest.approx(median(scenes.decibels(arm)))
    drawn = {line.get_label(): list(line.get_ydata()) for line in picture.figure.axes[0].lines}
    assert drawn == curves and told(picture, optimizer)


@pytest.mark.parametrize("along", ["problems", "pixels", "parameters"])
def test_the_cost_of_an_evaluation_is_the_saved_benchmarks(along):
    picture, saved = scenes.cost(along), results.load("throughput")["scaling"][along]
    assert {"x": picture.data["x"], **picture.data["curves"]} == saved
    assert told(picture, f"as the {along} grow")


@pytest.mark.parametrize("p", scenes.MASKS)
def test_a_mask_stops_the_naive_attacker_and_not_the_one_who_sees_it(p):
    picture, ssim = scenes.masked_faces(p), scenes.ssim_behind("masking, p")
    at = scenes.MASKS.index(p)
    assert picture.data["ssim"] == {who: float(s[at].median()) for who, s in ssim.items()}
    naive, aware = picture.data["ssim"].values()
    assert told(picture, f"naive {naive:z.2f}, knows the defence {aware:z.2f}")
    assert naive < 0.5 if p >= 0.05 else naive > 0.4, "the first few percent are enough"
    assert aware > 0.97 if p <= 0.9 else 0.3 < aware < 0.95
    sent = picture.data["per_pixel"]
    assert sent == picture.data["sent"] / 625
    assert abs(sent - (1 - p) * 13426 / 625) < 0.2 and told(picture, f"{sent:.1f} for each pixel")


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
    late, early = scenes.lock_opened(150, lock), scenes.lock_opened(5, lock)
    ssim = late.data["ssim"]
    assert tuple(ssim) == scenes.KEY_HOLDERS
    assert ssim["true key"] > 0.9 and ssim["nothing known"] > 0.8
    assert ssim["guess"] < ssim["nothing known"] - 0.05
    assert early.data["ssim"]["nothing known"] < ssim["nothing known"]
    closed = int((scenes.locked(lock).gamma == 0).sum())
    assert late.data["closed"] == early.data["closed"] == closed
    assert (closed > 0) == lock.startswith("ReLU"), "a sigmoid shuts no gate"
    assert told(late, f"{closed} of 36", f"guess {ssim['guess']:z.2f}")
    assert told(early, "5 evaluations") and early.png() != late.png()


def test_a_locks_secrets_are_not_in_what_leaves_the_client():
    case = scenes.locked()
    sent = {**case.sent.weights, **case.sent.update, **case.sent.buffers}
    assert not any("gain" in name or "shift" in name or "key" in name for name in sent)
    assert "lock.gain.weight" in case.with_maps.buffers and "lock.key" not in case.with_maps.buffers
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
    assert picture.data["ssim"] == {name: ssim[name][20][3] for name in scenes.KNOWING}
    assert told(picture, "0.1, 20 evaluations", f"naive {naive[20][3]:z.2f}")


def test_shares_are_drawn_with_the_bound_of_their_prior():
    counts = {0.5: 90, 2.0: 30}
    picture = scenes.under_the_bound({"four": (0.25, counts)}, 100)
    shares, bounds = picture.data["shares"]["four"], picture.data["bounds"]["four"]
    assert shares == [results.Share.of("0.5", 90, 100), results.Share.of("2", 30, 100)]
    assert bounds == [privacy.reconstruction_bound(0.25, noise) for noise in counts]
    lines = picture.figure.axes[0].lines
    bound, points = lines[0], next(line for line in lines if line.get_marker() == "o")
    guess = next(line for line in lines if line.get_linestyle() == ":")
    assert list(points.get_ydata()) == [0.9, 0.3]
    assert bound.get_ydata()[[0, -1]].tolist() == pytest.approx(bounds)
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
        assert picture.data["sent"] == count and picture.data["ssim"]["adaptive"] == ssim
        assert told(picture, f"{int(count):,} entries", f"adaptive {ssim:z.2f}")
        assert abs(int(count) / 14288 - (1 - share)) < 2e-3


def test_rounded_photographs_need_an_attacker_who_knows_below_eight_bits():
    seen = scenes.quantized()
    score = {name: [scenes.likeness(images) for images in rows] for name, rows in seen.items()}
    for i, bits in enumerate(scenes.BITS):
        gained = score["adaptive"][i] - score["naive"][i]
        assert gained > 0.2 if bits < 8 else abs(gained) < 0.1
        picture = scenes.quantized_photos(bits)
        assert picture.data["levels"] == 2**bits - 1
        assert picture.data["ssim"] == {who: score[who][i] for who in score}
        assert told(picture, f"{bits} bits", f"naive {score['naive'][i]:z.2f}")
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
    d = 1e-6 * torch.randn(x.shape, generator=random.generator(0, "data"), dtype=x.dtype)
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
        assert picture.data == {"points": points, "front": best}
        (axis,) = picture.figure.axes
        assert [text.get_text() for text in axis.texts] == best
        heights = [text.get_position()[1] for text in axis.texts]
        assert all(a - b > 0.05 for a, b in pairwise(heights))
        drawn = {1: 0, 0.28: 0}
        for dots in axis.collections:
            if hasattr(dots, "get_sizes") and dots.get_alpha() in drawn:
                drawn[dots.get_alpha()] += len(dots.get_offsets())
        assert drawn == {1: len(best), 0.28: len(points)}
        assert told(picture, f"{len(best)} of {len(points)}", data_set)


def test_two_judges_stand_on_one_line_for_each_defence():
    names = ["clip 1", "mask 0.5", "DP-SGD 0.1"]
    picture = scenes.two_judges("MNIST", names)
    for who, points in picture.data.items():
        judged = scenes.trade_offs("MNIST", who)
        assert points == {name: judged[name] for name in points} and set(points) == set(names)
    (axis,) = picture.figure.axes
    shown = [tick.get_text().split("  ")[0] for tick in axis.get_yticklabels()]
    leakage = [point.leakage for point in picture.data["naive"].values()]
    assert leakage == sorted(leakage, reverse=True)
    for line, (who, points) in zip(axis.lines, picture.data.items(), strict=True):
        assert line.get_label() == who and shown == list(points)
        assert list(line.get_xdata()) == [point.leakage for point in points.values()]
        assert list(line.get_ydata()) == [0, 1, 2]


def test_a_masked_upload_lies_everywhere_and_an_update_around_zero():
    generator = random.generator(0, "mask")
    sent = torch.empty(20_000, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    picture = scenes.where_integers_lie({"update": [sent // 2**40], "sent": [sent]})
    update, masked = picture.data.values()
    assert max(update) == 1 and sum(update) == 1
    assert len(masked) == 15 and max(masked) < 0.08 and min(masked) > 0.055
    for bars, shares in zip(picture.figure.axes[0].containers, (update, masked), strict=True):
        assert [bar.get_height() for bar in bars] == list(shares)


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
    shown = {who: ssim[who, "pruning, p", "strong"] for who in scenes.ATTACKERS}
    assert picture.data["ssim"] == shown and picture.data["strength"] == 0.99
    assert told(picture, "pruning, p = 0.99", f"adaptive {shown['adaptive']:z.2f}")


def test_a_messages_batch_is_the_message_of_each_alone():
    leaks, (x, y) = scenes.tried_messages("rounding, bits", "strong"), scenes.tried_photos()
    alone = client.share_gradient(
        models.lenet(classes=8, seed=1), x[1:2], y[1:2], defense=defenses.quantize(2)
    )
    assert all(torch.equal(leaks.update[n][1], d) for n, d in alone.update.items())


@pytest.mark.parametrize("images", ["mnist", "cifar10"])
def test_every_arm_of_the_saved_experiment_has_its_row_and_its_dots(images):
    arms = results.finished(results.load("defenses"))[images]
    table = scenes.every_defense(images)
    assert [row[0] for row in table.rows][: len(arms)] == list(arms)
    row = dict(zip(table.header, table.rows[list(arms).index("mask 0.5")], strict=True))
    clear = [mse < 1e-3 for mse in arms["mask 0.5"]["adaptive_mse"]]
    assert row["recovered, adaptive"] == f"{sum(clear)}/{len(clear)}"
    picture = scenes.both_attackers(images, "SSIM")
    for who, scores in picture.data.items():
        wanted = {a: tuple(results.mean(c[f"{who}_ssim"])[1:]) for a, c in arms.items()}
        assert scores == wanted
    (axis,) = picture.figure.axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == list(arms)
    for line, (who, scores) in zip(axis.lines, picture.data.items(), strict=True):
        assert line.get_label() == who
        assert list(line.get_xdata()) == [middle for middle, *_ in scores.values()]
    recovered = scenes.both_attackers(images, "recovered")
    assert recovered.data["adaptive"]["mask 0.5"][0] == fmean(clear)
    assert max(share for share, *_ in recovered.data["adaptive"].values()) == 1
    assert told(recovered, "0.001")


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
