"""Scores against their definitions and against scikit-image."""

import numpy as np
import pytest
import skimage.metrics
import torch

from leaklib import attacks, client, data, metrics, models

SCORES = [metrics.mse, metrics.psnr, metrics.ssim, metrics.match, metrics.assignment]


@pytest.fixture(scope="module")
def photos():
    return data.load("photos", 6)[0]


def noisy(x, sigma, seed=0):
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def test_known_values():
    truth = torch.full((2, 3, 12, 12), 0.5)
    images = torch.stack([torch.full((3, 12, 12), v) for v in (0.6, 0.5)])
    torch.testing.assert_close(metrics.mse(images, truth), torch.tensor([0.01, 0.0]).double())
    assert metrics.psnr(images, truth).tolist() == pytest.approx([20.0, float("inf")], abs=1e-4)
    assert metrics.ssim(images, truth)[1] == pytest.approx(1)


def test_pixels_are_clamped_first():
    truth = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 12, 12)
    beyond = torch.tensor([-7.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 12, 12)
    assert (metrics.mse(beyond, truth) == 0).all()
    assert metrics.psnr(beyond, truth).isinf().all()
    assert metrics.success_rate(beyond, truth) == 1
    assert metrics.ssim(beyond, truth).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.5])
def test_psnr_is_that_of_scikit_image_with_range_1(photos, sigma):
    """Neither the range 255 nor the data's standard deviation has a place in it."""
    images = noisy(photos, sigma).clamp(0, 1)
    wanted = [
        skimage.metrics.peak_signal_noise_ratio(
            b.double().numpy(), a.double().numpy(), data_range=1
        )
        for a, b in zip(images, photos, strict=True)
    ]
    assert metrics.psnr(images, photos).tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_scikit_image(photos, channels):
    truth = photos[:, :channels]
    images = noisy(truth, 0.1).clamp(0, 1)
    got = metrics.ssim(images, truth)
    for i in range(len(truth)):
        wanted = skimage.metrics.structural_similarity(
            images[i].double().numpy(), truth[i].double().numpy(), channel_axis=0, data_range=1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        assert float(got[i]) == pytest.approx(wanted, abs=1e-9)


def test_ssim_of_noise_is_small(photos):
    """With a wrong data range unrelated noise scores 0.99."""
    noise = torch.rand(photos.shape, generator=torch.Generator().manual_seed(0))
    assert metrics.ssim(noise, photos).abs().max() < 0.2
    assert metrics.ssim(noisy(photos, 0.01), photos).min() > 0.9


@pytest.mark.parametrize("score", [metrics.mse, metrics.psnr, metrics.ssim])
def test_scores_have_the_leading_shape(score, photos):
    images = noisy(photos, 0.05)
    plain = score(images, photos)
    assert plain.shape == (6,)
    torch.testing.assert_close(score(images[None], photos), plain[None].squeeze(0))
    torch.testing.assert_close(score(images[:, None], photos), plain)
    victims = score(images.reshape(3, 2, 3, 32, 32), photos.reshape(3, 2, 3, 32, 32))
    torch.testing.assert_close(victims, plain.reshape(3, 2))


def test_scores_take_images_that_an_attack_is_still_moving(photos):
    z = photos.clone().requires_grad_()
    assert not metrics.mse(z, photos).requires_grad
    assert metrics.ssim(z, photos).min() > 0.99


def test_label_accuracy():
    truth = torch.tensor([1, 2, 3, 4])
    assert metrics.label_accuracy(truth[:, None], truth) == 1
    assert metrics.label_accuracy(torch.tensor([1, -1, 3, 0]), truth) == 0.5
    with pytest.raises(ValueError, match=r"^labels: got shape \(3,\); wanted \(4,\)"):
        metrics.label_accuracy(truth[:3], truth)


def test_labels_of_several_victims_are_compared_victim_by_victim():
    """(V, B) laid out as (B, V) has as many numbers, and other ones in each place."""
    truth = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert metrics.label_accuracy(truth, truth) == 1
    with pytest.raises(ValueError, match=r"^labels: got shape \(3, 2\); wanted \(2, 3\)"):
        metrics.label_accuracy(truth.reshape(3, 2), truth)


def test_count_accuracy_is_the_share_of_labels_that_counts_have_right():
    truth = torch.tensor([0, 0, 1, 2])
    assert metrics.count_accuracy(torch.tensor([2, 1, 1]), truth) == 1
    assert metrics.count_accuracy(torch.tensor([0, 2, 2]), truth) == 0.5
    both = torch.stack([torch.tensor([2, 1, 1]), torch.tensor([0, 2, 2])])
    assert metrics.count_accuracy(both, torch.stack([truth, truth])) == 0.75
    assert metrics.count_accuracy(torch.tensor([2, -1, 1]), truth) == 0.75, "-1 is no count"
    with pytest.raises(ValueError, match="^counts: got shape"):
        metrics.count_accuracy(both, truth)


def test_counts_of_more_labels_than_there_are_would_have_all_of_them_right():
    truth = torch.tensor([0, 0, 1, 2])
    with pytest.raises(ValueError, match="^counts: got a sum of 12; wanted at most 4"):
        metrics.count_accuracy(torch.tensor([4, 4, 4]), truth)


def test_success_is_a_threshold_on_the_mean_squared_error():
    truth = torch.zeros(4, 1, 2, 2)
    images = torch.tensor([0.0, 0.03, 0.05, 1.0]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
    assert metrics.success_rate(images, truth) == 0.5  # 0.03^2 < 1e-3 < 0.05^2
    assert metrics.success_rate(images, truth, threshold=0.01) == 0.75


@pytest.mark.parametrize("seed", range(3))
def test_match_finds_the_permutation(photos, seed):
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    shuffled = noisy(photos, 0.1, seed)[order]
    found = metrics.assignment(shuffled, photos)
    assert torch.equal(order[found], torch.arange(6))
    assert metrics.mse(shuffled[found], photos).max() < 0.02
    assert torch.equal(metrics.match(shuffled, photos), shuffled[found])


def test_match_of_several_victims(photos):
    truth = photos.reshape(2, 3, 3, 32, 32)
    shuffled = torch.stack([truth[0, [2, 0, 1]], truth[1, [0, 2, 1]]])
    assert metrics.assignment(shuffled, truth).tolist() == [[1, 2, 0], [0, 2, 1]]
    assert torch.equal(metrics.match(shuffled, truth), truth)


def test_reconstruction_is_put_in_order(photos):
    """A22: (1, B, C, H, W), as an attack on one client returns it, against the client's batch."""
    images = 1.2 * photos[[3, 0, 4, 1, 5, 2]][None]
    assert metrics.assignment(images, photos).tolist() == [1, 3, 5, 0, 2, 4]
    assert torch.equal(metrics.match(images, photos), 1.2 * photos), "unclamped"
    alone = metrics.match(1.2 * photos[:, None], photos)
    assert torch.equal(alone, 1.2 * photos), "V victims of one image have no other order"


def test_batch_of_a_reconstruction_is_put_in_order():
    """A22, on what an attack returns."""
    x, y = data.load("digits", 3, size=12, seed=1)
    model = models.lenet(1, 12)
    leak = client.share_gradient(model, x, y)
    out = attacks.dlg(model, leak, x.shape, labels=y[[2, 0, 1]], start="uniform", steps=200)
    ordered = metrics.match(out.images, x)
    assert ordered.shape == x.shape
    assert metrics.mse(ordered, x).sum() < metrics.mse(out.images, x).sum()
    for image in ordered:
        assert any(torch.equal(image, found) for found in out.images[0])


def test_what_holds_a_nan_is_no_success_and_comes_last(photos):
    images = photos[[1, 0, 2]].clone()
    images[0, 0, 0, 0] = torch.nan
    assert metrics.mse(images, photos[[1, 0, 2]]).isnan().tolist() == [True, False, False]
    assert metrics.psnr(images, photos[:3])[0].isnan()
    assert metrics.success_rate(images, photos[[1, 0, 2]]) == pytest.approx(2 / 3)
    assert metrics.assignment(images, photos[:3]).tolist() == [1, 0, 2]


def test_rows_of_numbers_are_scored_as_images_are():
    g = torch.Generator().manual_seed(0)
    truth, images = torch.rand(2, 5, 7, generator=g), 1.5 * torch.rand(2, 5, 7, generator=g)
    as_images = lambda t: t[..., None, None, :]  # noqa: E731
    for score in (metrics.mse, metrics.psnr, metrics.assignment):
        wanted = score(as_images(images), as_images(truth))
        assert torch.equal(score(images, truth), wanted) and wanted.shape == (2, 5)
        assert torch.equal(score(images[:1], truth[0]), wanted[0]), "one victim"
        assert torch.equal(score(images[0, :, None], truth[0]), score(images[0], truth[0]))
    assert metrics.success_rate(images, truth, 0.3) == 0.7
    torch.testing.assert_close(
        as_images(metrics.levelled(images, truth)),
        metrics.levelled(as_images(images), as_images(truth)),
    )
    ordered = metrics.match(truth[:, [4, 2, 0, 1, 3]], truth)
    assert torch.equal(ordered, truth)
    with pytest.raises(ValueError, match="^images: got 1 x 7 pixels"):
        metrics.ssim(images, truth)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (3, 32, 32)])
def test_square_table_may_be_an_image_without_its_axes_and_is_told_of(shape):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=rf"{shape[-1]} numbers.*\(B, C, H, W\)"):
        assert metrics.mse(image, image).shape == shape[:-1]


def test_levelled_takes_away_contrast_and_brightness_alone(photos):
    levelled = metrics.levelled(0.3 * photos - 0.1, photos)
    torch.testing.assert_close(levelled, photos, atol=1e-5, rtol=0)
    flat = metrics.levelled(torch.zeros_like(photos), photos)
    mean = photos.flatten(1).mean(1).reshape(6, 1, 1, 1)
    torch.testing.assert_close(flat, mean.expand_as(photos))
    other = metrics.levelled(photos[[1, 2, 3, 4, 5, 0]], photos)
    assert metrics.ssim(other, photos).mean() < 0.5, "another picture stays one"


def test_levelled_is_of_each_image_of_each_victim(photos):
    contrast = torch.linspace(0.1, 0.6, 6).reshape(6, 1, 1, 1)
    images, truth = (t.reshape(2, 3, 3, 32, 32) for t in (contrast * photos, photos))
    torch.testing.assert_close(metrics.levelled(images, truth), truth, atol=1e-5, rtol=0)
    alone = metrics.levelled((contrast * photos)[:, None], photos)
    torch.testing.assert_close(alone, photos, atol=1e-5, rtol=0)


def test_levelled_allows_a_negative_slope(photos):
    """What it is said to allow: the negative of an image scores as the image."""
    assert metrics.ssim(metrics.levelled(1 - photos, photos), photos).min() > 0.99


def test_match_uses_each_reconstruction_once(photos):
    """Two reconstructions of the same image: the second has to serve for another."""
    found = metrics.assignment(photos[[0, 0, 2]], photos[:3])
    assert sorted(found.tolist()) == [0, 1, 2] and found[2] == 2


@pytest.mark.parametrize("score", SCORES)
def test_other_shapes_are_refused(score, photos):
    other = (photos[:5], photos[..., :31], photos[:, :1], photos.flatten(2), photos.mT[:, None, :2])
    for images in (*other, photos[None, None], photos.movedim(1, -1)):
        with pytest.raises(ValueError, match="^images: got shape .*the shape of truth"):
            score(images, photos)
    with pytest.raises(ValueError, match="^images: got shape .*the shape of truth"):
        score(photos[:, :1], photos[:, 0])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda x: (x - 0.45) / 0.22, "-2.05 to 2.5"),
        (lambda x: 255 * x, "0 to 255"),
        (lambda x: 2 * x - 1, "-1 to 1"),
        (lambda x: x + 1e-4, "0.0001 to 1"),
        (lambda x: torch.full_like(x, torch.nan), "nan to nan"),
        (lambda x: torch.full_like(x, torch.inf), "inf to inf"),
    ],
    ids=["standardised", "8 bits", "from -1", "a little too bright", "NaN", "infinite"],
)
def test_truth_outside_of_the_range_of_a_pixel_is_refused(score, change, came):
    """A7: and its error says what undoes the usual reasons."""
    x = torch.linspace(0, 1, 288).reshape(2, 1, 12, 12)
    with pytest.raises(ValueError, match=rf"^truth: got numbers from {came}.*x \* std \+ mean"):
        score(x, change(x))


def test_scores_of_pictures_outside_of_the_range_were_perfect():
    """A7, as it was found: -5 against -1 had an infinite PSNR."""
    with pytest.raises(ValueError, match="^truth: got numbers from -1 to -1; wanted 0 to 1"):
        metrics.psnr(torch.full((1, 1, 2, 2), -5.0), torch.full((1, 1, 2, 2), -1.0))


def test_rounding_may_take_a_truth_a_little_out_of_its_range(photos):
    truth = photos / photos.max() * (1 + 5e-7)
    assert truth.max() > 1
    assert metrics.mse(photos / photos.max(), truth).max() < 1e-12
    assert metrics.mse(photos.half(), photos.half()).max() == 0


NO_IMAGES = {
    "a list": [[0.5, 0.5]],
    "an array": np.zeros((1, 1, 4, 4)),
    "None": None,
    "bytes": torch.zeros(2, 1, 12, 12, dtype=torch.uint8),
    "whole numbers": torch.zeros(2, 1, 12, 12, dtype=torch.int64),
    "truth values": torch.zeros(2, 1, 12, 12, dtype=torch.bool),
    "complex": torch.zeros(2, 1, 12, 12, dtype=torch.complex64),
    "no batch": torch.zeros(0, 1, 12, 12),
    "one axis": torch.zeros(5),
    "a number": torch.tensor(0.5),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("what", NO_IMAGES)
def test_what_is_no_image_is_refused(score, what):
    x = torch.zeros(2, 1, 12, 12)
    with pytest.raises(ValueError, match="^images: got .*floating-point images"):
        score(NO_IMAGES[what], x)
    with pytest.raises(ValueError, match="^truth: got .*floating-point images"):
        score(x, NO_IMAGES[what])


@pytest.mark.parametrize("threshold", [0, -1.0, float("nan"), float("inf"), "small", None])
def test_threshold_of_success_is_positive(threshold):
    x = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ValueError, match="^threshold: got .*; wanted a mean squared error"):
        metrics.success_rate(x, x, threshold)


@pytest.mark.parametrize(
    "wrong", [[1, 2], None, torch.tensor([1.0, 2.0]), torch.zeros(0).long(), torch.ones(2).bool()]
)
def test_labels_and_counts_are_whole_numbers(wrong):
    right = torch.tensor([1, 2])
    for score, name in ((metrics.label_accuracy, "labels"), (metrics.count_accuracy, "counts")):
        with pytest.raises(ValueError, match=f"^{name}: got .*whole numbers, torch.int64"):
            score(wrong, right)
        with pytest.raises(ValueError, match="^truth: got .*whole numbers, torch.int64"):
            score(right, wrong)


@pytest.mark.parametrize("truth", [[-1, 0], [0, 3]])
def test_true_labels_are_classes_that_are_counted(truth):
    with pytest.raises(ValueError, match="^truth: got labels .*wanted 0..2"):
        metrics.count_accuracy(torch.tensor([1, 1, 0]), torch.tensor(truth))


def test_scores_need_no_float64_where_the_images_are(device):
    """B9"""
    g = torch.Generator().manual_seed(0)
    truth, images = (
        torch.rand(2, 4, 1, 12, 12, generator=g),
        torch.rand(2, 4, 1, 12, 12, generator=g),
    )
    there = device(images), device(truth)
    for score in (metrics.mse, metrics.psnr, metrics.ssim, metrics.assignment):
        found = score(*there)
        assert found.device.type == "cpu" and torch.equal(found, score(images, truth))
    assert metrics.success_rate(*there, 0.2) == metrics.success_rate(images, truth, 0.2)
    for moved in (metrics.match, metrics.levelled):
        found = moved(*there)
        assert found.device == there[0].device and torch.equal(found.cpu(), moved(images, truth))


def test_images_smaller_than_the_window_have_no_ssim():
    small = torch.rand(2, 1, 10, 10)
    with pytest.raises(ValueError, match="^images: got 10 x 10 pixels; wanted at least 11 x 11"):
        metrics.ssim(small, small)
    assert np.allclose(metrics.ssim(torch.rand(1, 1, 11, 11), torch.rand(1, 1, 11, 11)), 0, atol=1)
