"""How close a reconstruction is to the private image.  Only a score may see both.

Images (B, C, H, W) or (V, B, C, H, W) are clamped to [0, 1] first; a score is one number an image.
One victim may be scored against (B, C, H, W), V of one image against (V, C, H, W); else ValueError.
"""

import torch
from torch import Tensor

from ._errors import require

__all__ = [
    "mse", "psnr", "ssim", "success_rate", "match", "levelled",
    "label_accuracy", "count_accuracy",
]  # fmt: skip


def mse(images: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of each image: mean over pixels of (x' - x)^2, in [0, 1]; 0 is perfect."""
    images, truth = _pair(images, truth)
    return (images - truth).square().mean((-3, -2, -1))


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, range 1: -10 log10 MSE, infinite if equal."""
    return -10 * mse(images, truth).log10()


def ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each image, at most 1, by scikit-image with its paper's settings.

    Raises ValueError for images smaller than the window of 11 x 11.  Source: Wang et al. 2004.
    """
    from skimage.metrics import structural_similarity

    images, truth = _pair(images, truth)
    H, W = truth.shape[-2:]
    require(min(H, W) >= 11, "images", f"{H} x {W} pixels", "at least 11 x 11")
    how = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)
    pairs = zip(*(part.cpu().flatten(0, -4).numpy() for part in (images, truth)))
    scores = [structural_similarity(*pair, channel_axis=0, **how) for pair in pairs]
    return torch.tensor(scores).reshape(truth.shape[:-3])


def success_rate(images: Tensor, truth: Tensor, threshold: float = 1e-3) -> float:
    """Share of images whose MSE is below the threshold: recovered, whatever the attack believes."""
    return float((mse(images, truth) < threshold).float().mean())


def match(images: Tensor, truth: Tensor) -> Tensor:
    """For each private image, the number of the reconstruction that shows it: (B,) or (V, B).

    The assignment has the smallest total MSE and uses each reconstruction once.
    """
    from scipy.optimize import linear_sum_assignment

    images, truth = _pair(images, truth)
    apart = images[..., None, :, :, :, :] - truth[..., :, None, :, :, :]
    cost = apart.square().mean((-3, -2, -1)).cpu()  # (V, B, B): truth by reconstruction
    pairs = [linear_sum_assignment(c.numpy()) for c in cost.reshape(-1, *cost.shape[-2:])]
    return torch.stack([torch.from_numpy(found) for _, found in pairs]).reshape(truth.shape[:-3])


def levelled(images: Tensor, truth: Tensor) -> Tensor:
    """The images with the contrast and brightness that bring each nearest to the truth.

    a x + c by least squares, shaped as the truth and not clamped; a negative (a < 0) scores alike.
    """
    x, t = images.reshape(truth.shape).flatten(-3), truth.flatten(-3)  # (…, C H W)
    apart = x - x.mean(-1, keepdim=True)
    # a = cov(x, t) / var(x)
    a = (apart * t).sum(-1, keepdim=True) / apart.square().sum(-1, keepdim=True).clamp(min=1e-12)
    return (a * apart + t.mean(-1, keepdim=True)).reshape(truth.shape)


def label_accuracy(labels: Tensor, truth: Tensor) -> float:
    """Share of labels, in whatever shape, that are right; an undetermined label (-1) is wrong."""
    n, wanted = labels.numel(), truth.numel()
    require(n == wanted, "labels", f"{n} labels", f"{wanted}, one for each image")
    return float((labels.flatten() == truth.flatten()).float().mean())


def count_accuracy(counts: Tensor, truth: Tensor) -> float:
    """Share of a batch's labels that counts (C,) or (V, C) have right: sum_i min(n'_i, n_i) / B.

    truth: the true labels, (B,) or (V, B).  Over several victims, as many in both, the mean.
    """
    fit = counts.ndim == truth.ndim and counts.shape[:-1] == truth.shape[:-1]
    wanted = f"{tuple(truth.shape[:-1])} and a number for each class"
    require(fit, "counts", f"shape {tuple(counts.shape)}", wanted)
    n = torch.zeros_like(counts).scatter_add(-1, truth, torch.ones_like(truth))
    return float((torch.minimum(counts, n).sum(-1) / truth.shape[-1]).mean())


def _pair(images: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both in [0, 1] and of one shape, without an axis of one victim, or of one image each."""
    if images.ndim == truth.ndim + 1 and 1 in images.shape[:2]:
        images = images.squeeze(0 if len(images) == 1 else 1)
    shape, wanted = tuple(images.shape), tuple(truth.shape)
    fit = shape == wanted and len(shape) >= 4
    require(fit, "images", f"shape {shape}", f"the shape of truth {wanted}")
    return images.detach().clamp(0, 1).double(), truth.detach().clamp(0, 1).double()
