"""What is believed of images: small for pictures, large for noise.

A prior takes one problem's images (B, C, H, W) and returns a number, which an attack adds to its
distance.
"""

from dataclasses import dataclass

from torch import Tensor

from ._errors import at_least_0, positive
from ._words import Word

__all__ = ["total_variation", "smooth"]


@dataclass(frozen=True, repr=False)
class total_variation(Word):
    """Mean absolute difference of neighbours, times a weight.

        weight (mean |x_{i+1,j} - x_ij| + mean |x_{i,j+1} - x_ij|)

    weight: 0 or more.  Images x (..., H, W).  Raises ValueError for another weight.
    Source: Geiping et al. 2020, published code.

    >>> import torch
    >>> total_variation(0.1)(torch.eye(2))
    tensor(0.2000)
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        at_least_0("weight", self.weight, "a weight")

    @property
    def formula(self) -> str:
        return rf"{self.weight:g} \, \text{{TV}}(x')"

    def act(self, x: Tensor) -> Tensor:
        down, right = _differences(x)
        # weight (mean |x_{i+1,j} - x_ij| + mean |x_{i,j+1} - x_ij|)
        return self.weight * (down.mean() + right.mean())


@dataclass(frozen=True, repr=False)
class smooth(Word):
    """Minus the logarithm of how probable an image is whose differences follow Laplace's law.

        (sum |x_{i+1,j} - x_ij| + sum |x_{i,j+1} - x_ij|) / scale, up to a constant

    Total variation, with a weight that says what is believed.  scale: the mean difference of
    neighbours.  Neighbouring differences are not independent, so more than the mean that one
    measures (about 0.1 in photographs) serves best.  Images x (..., H, W).
    Raises ValueError unless scale is positive.  Source: Balunovic et al. 2022 (priors of images).

    >>> import torch
    >>> smooth(scale=0.5)(torch.eye(2))
    tensor(8.)
    """

    scale: float = 0.3

    def __post_init__(self) -> None:
        positive("scale", self.scale, "a mean difference of neighbouring pixels")

    @property
    def formula(self) -> str:
        return rf"\frac{{1}}{{{self.scale:g}}} \sum \left| x'_i - x'_j \right|"

    def act(self, x: Tensor) -> Tensor:
        down, right = _differences(x)
        # (sum |x_{i+1,j} - x_ij| + sum |x_{i,j+1} - x_ij|) / scale
        return (down.sum() + right.sum()) / self.scale


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """|x_{i+1,j} - x_ij| and |x_{i,j+1} - x_ij| of every pixel that has such a neighbour."""
    return (x[..., 1:, :] - x[..., :-1, :]).abs(), (x[..., :, 1:] - x[..., :, :-1]).abs()
