"""What "agree" means: the distance of two directions {name: tensor}, of one problem."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch  # noqa: F401 (the examples)
from torch import Tensor

from ._errors import positive
from ._numbers import inverse, norm, squared, total, wide
from ._words import Word
from .leak import Tensors

__all__ = ["l2", "cosine", "mean_norm", "each_norm", "projected", "likelihood"]
Distance = Callable[[Tensors, Tensors], Tensor]
F = TypeVar("F", bound=Distance)


def _with(formula: str) -> Callable[[F], F]:
    """Gives a function its formula, as a `Word` has one."""
    return lambda distance: distance.__dict__.update(formula=formula) or distance


@_with(r"\sum_l \left\| g_l - h_l \right\|^2")
def l2(g: Tensors, h: Tensors) -> Tensor:
    """Squared Euclidean distance, sum_l ||g_l - h_l||_F^2 (Zhu et al. 2019, Algorithm 1).

    >>> l2({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])})
    tensor(5.)
    """
    return total(squared(g[name] - h[name]) for name in h)


@_with(r"1 - \frac{\langle g, h \rangle}{\| g \| \, \| h \|}")
def cosine(g: Tensors, h: Tensors) -> Tensor:
    """One minus the cosine of the angle between the two, 1 - <g, h> / (||g|| ||h||), in [0, 2].

    Blind to the scale of either; 1 where one of them is zero.  Source: Geiping et al. 2020, eq. 4.

    >>> cosine({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])})
    tensor(1.)
    """
    # 1 - <u, v> = |u - v|^2 / 2,  u = g / |g|,  v = h / |h|: in float32 the left one ends at 1e-7
    scale_g, scale_h = (inverse(norm({name: d[name] for name in h})) for d in (g, h))
    apart = total(squared(scale_g * g[name] - scale_h * h[name]) for name in h)
    # a zero has no direction: its "unit vector" is zero, and the half that it lacks is added
    return apart / 2 + ((scale_g == 0).to(apart) + (scale_h == 0).to(apart)) / 2


@_with(r"\sum_l \left\| \frac{g_l}{n(g)} - \frac{h_l}{n(h)} \right\|^2")
def mean_norm(g: Tensors, h: Tensors) -> Tensor:
    """The distance of DLM+, in which scales cancel: sum_l ||g_l / n(g) - h_l / n(h)||_F^2.

    n(g) = (1/L) sum_l ||g_l||_F over the L tensors, each weight and each bias.  A zero stays zero.
    Source: Zhao, Luo & Ding 2022, published code (DLM_plus.py).

    >>> mean_norm({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([7.0, 0.0])})
    tensor(0.)
    """
    # 1 / n(g),  1 / n(h)
    n_g, n_h = (total(norm({name: d[name]}) for name in h) / len(h) for d in (g, h))
    scale_g, scale_h = inverse(n_g), inverse(n_h)
    return total(squared(scale_g * g[name] - scale_h * h[name]) for name in h)


@_with(r"\sum_l \left\| \frac{g_l}{\| g_l \|} - \frac{h_l}{\| h_l \|} \right\|^2")
def each_norm(g: Tensors, h: Tensors) -> Tensor:
    """Every tensor divided by its own norm: sum_l || g_l / ||g_l|| - h_l / ||h_l|| ||_F^2.

    A bias of ten numbers counts as much as thousands of weights.  A zero stays zero.

    >>> each_norm({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])})
    tensor(2.)
    """
    return l2(*({name: inverse(norm({name: d[name]})) * d[name] for name in h} for d in (g, h)))


@_with(r"\min_k \left\| g - k h \right\|^2")
def projected(g: Tensors, h: Tensors) -> Tensor:
    """Squared distance of g from the line through h: min_k ||g - k h||^2 = ||g||^2 (1 - cos^2).

    k = 0 for h = 0.  Zero where g is zero or parallel to h.  Source: Golub & Pereyra 1973.

    >>> projected({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])})
    tensor(1.)
    """
    # k = <g, h> / ||h||^2
    inner = total((wide(g[name]) * wide(h[name])).sum() for name in h)
    k = inner * inverse(total(squared(h[name]) for name in h))
    return total(squared(g[name] - k * h[name]) for name in h)


@dataclass(frozen=True, repr=False)
class likelihood(Word):
    """Minus the log likelihood of what was sent under normal noise, up to a constant.

    sum_l ||g_l - h_l||_F^2 / (2 sigma^2), sigma > 0 (or ValueError) the noise's standard deviation.
    With `priors.smooth` it finds the most probable image.  Source: Balunovic et al. 2022.

    >>> likelihood(sigma=0.5)({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])})
    tensor(10.)
    """

    sigma: float
    formula = r"\sum_l \frac{\| g_l - h_l \|^2}{2 \cdot %(sigma)g^2}"

    def __post_init__(self) -> None:
        positive("sigma", self.sigma, "a standard deviation")

    def act(self, g: Tensors, h: Tensors) -> Tensor:
        return l2(g, h) / (2 * self.sigma**2)
