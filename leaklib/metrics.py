"""How close a reconstruction is to the private image.  Only a score may see both.

Images are (B, C, H, W) or (V, B, C, H, W) and are clamped to [0, 1] first; scores have the leading
shape, one number an image.  A stack of one victim may be scored against plain (B, C, H, W), and V
victims of one image each against (V, C, H, W).  Other shapes raise ValueError.
"""

import torch
from torch import Tensor

from ._errors import bad

__all__ = [
    "mse", "psnr", "ssim", "success_rate", "match", "in_order", "levelled",
    "label_accuracy", "count_accuracy",
]  # fmt: skip


def mse(images: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of each image: mean over pixels of (x' - x)^2, in [0, 1]; 0 is perfect.

    >>> mse(torch.full((1, 1, 2, 2), 0.6), torch.full((1, 1, 2, 2), 0.5)).float()
    tensor([0.0100])
    """
    images, truth = _pair(images, truth)
    return (images - truth).square().mean((-3, -2, -1))


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, for the range 1: -10 log10 MSE.

    Above about 30 dB the eye sees little difference; infinite when the two are equal.

    >>> psnr(torch.full((1, 1, 2, 2), 0.6), torch.full((1, 1, 2, 2), 0.5)).float()
    tensor([20.0000])
    """
    return -10 * mse(images, truth).log10()


def ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each image, at most 1, by scikit-image with its paper's settings.

    Gaussian window of sigma 1.5, data range 1.  Raises ValueError for images smaller than 11 x 11,
    the size of the window.  Source: Wang et al. 2004.

    >>> x = torch.rand(2, 3, 16, 16)
    >>> ssim(x, x).tolist()
    [1.0, 1.0]
    """
    from skimage.metrics import structural_similarity

    images, truth = _pair(images, truth)
    if min(truth.shape[-2:]) < 11:
        raise bad("images", f"{truth.shape[-2]} x {truth.shape[-1]} pixels", "at least 11 x 11")
    pairs = zip(images.flatten(0, -4), truth.flatten(0, -4), strict=True)
    scores = [
        structural_similarity(
            a.cpu().numpy(), b.cpu().numpy(), channel_axis=0, data_range=1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for a, b in pairs
    ]  # fmt: skip
    return torch.tensor(scores).reshape(truth.shape[:-3])


def success_rate(images: Tensor, truth: Tensor, threshold: float = 1e-3) -> float:
    """Share of images whose MSE is below the threshold: recovered, whatever the attack believes.

    >>> success_rate(torch.zeros(4, 1, 1, 1), torch.tensor([0, 0, 0.1, 0.5]).view(4, 1, 1, 1))
    0.5
    """
    return float((mse(images, truth) < threshold).float().mean())


def match(images: Tensor, truth: Tensor) -> Tensor:
    """For each private image, the number of the reconstruction that shows it: (B,) or (V, B).

    A batch has no order in its gradient.  The assignment has the smallest total MSE and uses each
    reconstruction once.  `in_order` puts the images so.

    >>> x = torch.rand(3, 1, 8, 8)
    >>> match(x[[2, 0, 1]], x)
    tensor([1, 2, 0])
    """
    from scipy.optimize import linear_sum_assignment

    images, truth = _pair(images, truth)
    apart = images[..., None, :, :, :, :] - truth[..., :, None, :, :, :]
    cost = apart.square().mean((-3, -2, -1))  # (V, B, B): truth by reconstruction
    columns = [
        torch.from_numpy(linear_sum_assignment(c.cpu().numpy())[1])
        for c in cost.reshape(-1, *cost.shape[-2:])
    ]
    return torch.stack(columns).reshape(truth.shape[:-3])


def in_order(images: Tensor, truth: Tensor) -> Tensor:
    """The images, such as those of a `Reconstruction`, in the order and the shape of the truth.

    >>> x = torch.rand(2, 3, 1, 8, 8)
    >>> torch.equal(in_order(x[:, [2, 0, 1]], x), x)
    True
    """
    numbers = match(images, truth).to(images.device)[..., None, None, None]  # (V, B, 1, 1, 1)
    return images.reshape(truth.shape).take_along_dim(numbers, dim=-4)


def levelled(images: Tensor, truth: Tensor) -> Tensor:
    """The images with the contrast and brightness that bring each nearest to the truth.

    a x + c by least squares, a and c for each image: a measure, because it sees the truth.
    A negative slope a is allowed: the negative of an image is levelled to the image itself, and
    scores as it does.  Show such controls beside it.
    Returns images of the shape of the truth, not clamped.

    >>> x = torch.rand(2, 1, 8, 8)
    >>> torch.allclose(levelled(0.9 - 0.3 * x, x), x, atol=1e-5)
    True
    """
    x, t = images.reshape(truth.shape).flatten(-3), truth.flatten(-3)  # (…, C H W)
    apart = x - x.mean(-1, keepdim=True)
    # a = cov(x, t) / var(x)
    a = (apart * t).sum(-1, keepdim=True) / apart.square().sum(-1, keepdim=True).clamp(min=1e-12)
    return (a * apart + t.mean(-1, keepdim=True)).reshape(truth.shape)


def label_accuracy(labels: Tensor, truth: Tensor) -> float:
    """Share of labels that are right; an undetermined label (-1) is wrong.

    Raises ValueError unless there are as many labels as in `truth`, in whatever shape.

    >>> label_accuracy(torch.tensor([[3], [-1]]), torch.tensor([3, 5]))
    0.5
    """
    if labels.numel() != truth.numel():
        raise bad("labels", f"{labels.numel()} labels", f"{truth.numel()}, one for each image")
    return float((labels.flatten() == truth.flatten()).float().mean())


def count_accuracy(counts: Tensor, truth: Tensor) -> float:
    """Share of a batch's labels that counts (C,) or (V, C) have right: sum_i min(n'_i, n_i) / B.

    truth (B,) or (V, B) holds the true labels.  Over several victims, the mean.  Raises ValueError
    where counts are not of as many victims.

    >>> count_accuracy(torch.tensor([0, 2, 2]), torch.tensor([0, 0, 1, 2]))
    0.5
    """
    if counts.shape[:-1] != truth.shape[:-1] or counts.ndim != truth.ndim:
        wanted = f"{tuple(truth.shape[:-1])} and a number for each class"
        raise bad("counts", f"shape {tuple(counts.shape)}", wanted)
    n = torch.zeros_like(counts).scatter_add(-1, truth, torch.ones_like(truth))
    return float((torch.minimum(counts, n).sum(-1) / truth.shape[-1]).mean())


def _pair(images: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if images.ndim == truth.ndim + 1 and len(images) == 1:
        images = images[0]
    elif images.ndim == truth.ndim + 1 and images.shape[1] == 1:
        images = images[:, 0]
    if images.shape != truth.shape or images.ndim < 4:
        wanted = f"the shape of truth {tuple(truth.shape)}"
        raise bad("images", f"shape {tuple(images.shape)}", wanted)
    return images.detach().clamp(0, 1).double(), truth.detach().clamp(0, 1).double()
