"""How close a reconstruction is to the private image.  Only a score may see both.

Images (B, C, H, W) or (V, B, C, H, W), or rows of numbers (B, F) or (V, B, F).  The truth lies in
[0, 1], to which reconstructions are clamped.  A score is one number an image, float64 on the CPU,
and NaN, which is no success, for an image with a NaN.  One victim may be scored against a truth
(B, ...), and V victims of one image against (V, ...).  ValueError for other shapes and types.
"""

import warnings

import torch
from torch import Tensor

from ._errors import positive, require
from ._numbers import exact

__all__ = [
    "mse", "psnr", "ssim", "success_rate", "match", "assignment", "levelled",
    "label_accuracy", "count_accuracy",
]  # fmt: skip
ROUNDING = 1e-6  # how far outside of [0, 1] it may take a truth
SMALLEST = 8  # rows and numbers from which a square table may be meant for an image


def mse(images: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of each image: mean over pixels of (x' - x)^2, in [0, 1]; 0 is perfect."""
    images, truth = _pair(images, truth)
    return _flat(images - truth).square().mean(-1)


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, range 1: -10 log10 MSE, infinite if equal."""
    return -10 * mse(images, truth).log10()


def ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each image, at most 1, by scikit-image with its paper's settings.

    Raises ValueError for images smaller than the window of 11 x 11.  Source: Wang et al. 2004.
    """
    from skimage.metrics import structural_similarity

    images, truth = _pair(images, truth)
    H, W = truth.shape[-2:] if truth.ndim > 3 else (1, truth.shape[-1])
    require(min(H, W) >= 11, "images", f"{H} x {W} pixels", "at least 11 x 11")
    how = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)
    pairs = zip(*(part.flatten(0, -4).numpy() for part in (images, truth)))
    scores = [structural_similarity(*pair, channel_axis=0, **how) for pair in pairs]
    return truth.new_tensor(scores).reshape(truth.shape[:-3])


def success_rate(images: Tensor, truth: Tensor, threshold: float = 1e-3) -> float:
    """Share of images whose MSE is below the threshold: recovered, whatever the attack believes."""
    positive("threshold", threshold, "a mean squared error")
    return float((mse(images, truth) < threshold).double().mean())


def match(images: Tensor, truth: Tensor) -> Tensor:
    """The reconstructions in the order of the truth and shaped as it, unclamped: by `assignment`.

    >>> x = torch.rand(3, 1, 2, 2)
    >>> torch.equal(match(x[None, [2, 0, 1]], x), x)
    True
    """
    places = assignment(images, truth).to(images.device)
    ordered = _flat(_shaped(images, truth)).take_along_dim(places[..., None], -2)
    return ordered.reshape(truth.shape)


def assignment(images: Tensor, truth: Tensor) -> Tensor:
    """For each private image, the number of the reconstruction that shows it: (B,) or (V, B).

    The assignment has the smallest total MSE and uses each reconstruction once.
    """
    from scipy.optimize import linear_sum_assignment

    images, truth = (_flat(part) for part in _pair(images, truth))  # (V, B, F)
    victims = zip(*(part.reshape(-1, *truth.shape[-2:]) for part in (images, truth)))
    # what holds a NaN comes last
    costs = [(t[:, None] - x).square().mean(-1).nan_to_num(nan=2.0) for x, t in victims]
    places = [torch.from_numpy(linear_sum_assignment(cost.numpy())[1]) for cost in costs]
    return torch.stack(places).reshape(truth.shape[:-1])


def levelled(images: Tensor, truth: Tensor) -> Tensor:
    """The images with the contrast and brightness that bring each nearest to the truth.

    a x + c by least squares, shaped as the truth and not clamped; a negative (a < 0) scores alike.
    """
    x, t = _flat(exact(_shaped(images, truth))), _flat(exact(truth))  # (..., C H W)
    apart = x - x.mean(-1, keepdim=True)
    # a = cov(x, t) / var(x)
    a = (apart * t).sum(-1, keepdim=True) / apart.square().sum(-1, keepdim=True).clamp(min=1e-12)
    return (a * apart + t.mean(-1, keepdim=True)).reshape(truth.shape).to(images)


def label_accuracy(labels: Tensor, truth: Tensor) -> float:
    """Share of labels that are right; an undetermined label (-1) is wrong.

    Both of class numbers, (V, B), (B,) or (V,).
    """
    _check_whole_numbers(labels=labels, truth=truth)
    fit = labels.squeeze().shape == truth.squeeze().shape
    require(fit, "labels", f"shape {tuple(labels.shape)}", f"{tuple(truth.shape)}, one an image")
    return float((labels.flatten() == truth.flatten().to(labels.device)).double().mean())


def count_accuracy(counts: Tensor, truth: Tensor) -> float:
    """Share of a batch's labels that counts (C,) or (V, C) have right: sum_i min(n'_i, n_i) / B.

    truth: the true labels, (B,) or (V, B).  Over several victims, as many in both, the mean.
    """
    _check_whole_numbers(counts=counts, truth=truth)
    fit = counts.ndim == truth.ndim and counts.shape[:-1] == truth.shape[:-1]
    wanted = f"{tuple(truth.shape[:-1])} and a number for each class"
    require(fit, "counts", f"shape {tuple(counts.shape)}", wanted)
    (low, high), (C, B) = truth.aminmax(), (counts.shape[-1], truth.shape[-1])
    require(0 <= low <= high < C, "truth", f"labels {low} to {high}", f"0..{C - 1}")
    most = int(counts.sum(-1).max())
    require(most <= B, "counts", f"a sum of {most}", f"at most {B}, as many as there are labels")
    n = torch.zeros_like(counts).scatter_add(-1, truth, torch.ones_like(truth))
    # a count of -1 is none
    return float((torch.minimum(counts.clamp(min=0), n).sum(-1) / B).mean())


def _pair(images: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both in [0, 1] and of one shape, exactly."""
    images, truth = exact(_shaped(images, truth)), exact(truth)
    low, high = truth.aminmax()
    within = -ROUNDING <= low <= high <= 1 + ROUNDING  # of a NaN, neither
    wanted = "0 to 1: undo a mean and a standard deviation by x * std + mean, 8 bits by x / 255"
    require(within, "truth", f"numbers from {low:.3g} to {high:.3g}", wanted)
    return images.clamp(0, 1), truth.clamp(0, 1)


def _shaped(images: Tensor, truth: Tensor) -> Tensor:
    """The images in the shape of the truth: without an axis of one victim, or of one image each."""
    for name, part in (("images", images), ("truth", truth)):
        is_tensor = torch.is_tensor(part)
        got = f"shape {tuple(part.shape)} of {part.dtype}" if is_tensor else type(part).__name__
        fit = is_tensor and part.is_floating_point() and part.ndim > 1 and part.numel() > 0
        require(fit, name, got, "floating-point images (B, C, H, W), or rows (B, F)")
    if truth.ndim in (2, 4) and images.ndim == truth.ndim + 1 and 1 in images.shape[:2]:
        images = images.squeeze(0 if len(images) == 1 else 1)
    shape, wanted = tuple(images.shape), tuple(truth.shape)
    require(shape == wanted, "images", f"shape {shape}", f"the shape of truth {wanted}")
    if truth.ndim < 4 and wanted[-2] == wanted[-1] >= SMALLEST:
        said = f"{wanted} are read as rows of {wanted[-1]} numbers, with a score each"
        warnings.warn(f"{said}; an image has four axes, (B, C, H, W)", stacklevel=4)
    return images


def _flat(images: Tensor) -> Tensor:
    """(..., F): the numbers of each image."""
    return images if images.ndim < 4 else images.flatten(-3)


def _check_whole_numbers(**tensors: Tensor) -> None:
    for name, t in tensors.items():
        fit = torch.is_tensor(t) and t.dtype == torch.int64 and t.numel() > 0
        got = f"shape {tuple(t.shape)} of {t.dtype}" if torch.is_tensor(t) else type(t).__name__
        require(fit, name, got, "a tensor of whole numbers, torch.int64")
