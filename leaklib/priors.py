"""What is believed of one problem's images (B, C, H, W): small for pictures, large for noise."""

from dataclasses import dataclass

import torch  # noqa: F401 (the examples)
from torch import Tensor

from ._errors import at_least_0, positive
from ._numbers import total
from ._words import Word

__all__ = ["total_variation", "smooth"]


@dataclass(frozen=True, repr=False)
class total_variation(Word):
    """weight (mean |x_{i+1,j} - x_ij| + mean |x_{i,j+1} - x_ij|), the mean step between neighbours.

    weight >= 0, or ValueError.  Source: Geiping et al. 2020, published code.

    >>> total_variation(0.1)(torch.eye(2))
    tensor(0.2000)
    """

    weight: float = 1.0
    formula = r"%(weight)g \, \text{TV}(x')"

    def __post_init__(self) -> None:
        at_least_0("weight", self.weight, "a weight")

    def act(self, x: Tensor) -> Tensor:
        return self.weight * total(step.mean() for step in _steps(x))


@dataclass(frozen=True, repr=False)
class smooth(Word):
    """Minus the log probability, up to a constant, of an image with differences of Laplace's law.

    (sum |x_{i+1,j} - x_ij| + sum |x_{i,j+1} - x_ij|) / scale, with scale > 0 (or ValueError) the
    mean difference, or more: they are not independent.  Source: Balunovic et al. 2022.

    >>> smooth(scale=0.5)(torch.eye(2))
    tensor(8.)
    """

    scale: float = 0.3
    formula = r"\frac{1}{%(scale)g} \sum \left| x'_i - x'_j \right|"

    def __post_init__(self) -> None:
        positive("scale", self.scale, "a mean difference of neighbouring pixels")

    def act(self, x: Tensor) -> Tensor:
        return total(step.sum() for step in _steps(x)) / self.scale


def _steps(x: Tensor) -> tuple[Tensor, Tensor]:
    """|x_{i+1,j} - x_ij| and |x_{i,j+1} - x_ij| of every pixel that has such a neighbour."""
    return (x[..., 1:, :] - x[..., :-1, :]).abs(), (x[..., :, 1:] - x[..., :, :-1]).abs()
