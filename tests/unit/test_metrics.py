"""Scores against their definitions and against scikit-image."""

import numpy as np
import pytest
import skimage.metrics
import torch

from leaklib import data, metrics


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
    with pytest.raises(ValueError, match="^labels: got 3 labels; wanted 4"):
        metrics.label_accuracy(truth[:3], truth)


def test_count_accuracy_is_the_share_of_labels_that_counts_have_right():
    truth = torch.tensor([0, 0, 1, 2])
    assert metrics.count_accuracy(torch.tensor([2, 1, 1]), truth) == 1
    assert metrics.count_accuracy(torch.tensor([0, 2, 2]), truth) == 0.5
    both = torch.stack([torch.tensor([2, 1, 1]), torch.tensor([0, 2, 2])])
    assert metrics.count_accuracy(both, torch.stack([truth, truth])) == 0.75
    with pytest.raises(ValueError, match="^counts: got shape"):
        metrics.count_accuracy(both, truth)


def test_success_is_a_threshold_on_the_mean_squared_error():
    truth = torch.zeros(4, 1, 2, 2)
    images = torch.tensor([0.0, 0.03, 0.05, 1.0]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
    assert metrics.success_rate(images, truth) == 0.5  # 0.03^2 < 1e-3 < 0.05^2
    assert metrics.success_rate(images, truth, threshold=0.01) == 0.75


@pytest.mark.parametrize("seed", range(3))
def test_match_finds_the_permutation(photos, seed):
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    shuffled = noisy(photos, 0.1, seed)[order]
    found = metrics.match(shuffled, photos)
    assert torch.equal(order[found], torch.arange(6))
    assert metrics.mse(shuffled[found], photos).max() < 0.02


def test_match_of_several_victims(photos):
    truth = photos.reshape(2, 3, 3, 32, 32)
    shuffled = torch.stack([truth[0, [2, 0, 1]], truth[1, [0, 2, 1]]])
    assert metrics.match(shuffled, truth).tolist() == [[1, 2, 0], [0, 2, 1]]


def test_reconstruction_is_put_in_order(photos):
    """(1, B, C, H, W), as an attack on one client returns it, against the client's batch."""
    images = 1.2 * photos[[3, 0, 4, 1, 5, 2]][None]
    assert metrics.match(images, photos).tolist() == [1, 3, 5, 0, 2, 4]
    assert torch.equal(images[0, metrics.match(images, photos)], 1.2 * photos)


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
    found = metrics.match(photos[[0, 0, 2]], photos[:3])
    assert sorted(found.tolist()) == [0, 1, 2] and found[2] == 2


@pytest.mark.parametrize("score", [metrics.mse, metrics.psnr, metrics.ssim, metrics.match])
def test_other_shapes_are_refused(score, photos):
    for images in (photos[:5], photos[..., :31], photos[:, :1], photos.flatten(2)):
        with pytest.raises(ValueError, match="^images: got shape .*the shape of truth"):
            score(images, photos)
    with pytest.raises(ValueError, match="^images: "):
        score(photos[0, 0], photos[0, 0])


def test_images_smaller_than_the_window_have_no_ssim():
    small = torch.rand(2, 1, 10, 10)
    with pytest.raises(ValueError, match="^images: got 10 x 10 pixels; wanted at least 11 x 11"):
        metrics.ssim(small, small)
    assert np.allclose(metrics.ssim(torch.rand(1, 1, 11, 11), torch.rand(1, 1, 11, 11)), 0, atol=1)
