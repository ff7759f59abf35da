"""What "agree" means: the distance of two directions {name: tensor}, of one problem."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch  # noqa: F401 (the examples)
from torch import Tensor

from ._errors import positive
from ._numbers import inverse, norm, root, total
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
    """Squared Euclidean distance, summed over all parameters: sum_l ||g_l - h_l||_F^2.

    Source: Zhu et al. 2019, Algorithm 1; published code.

    >>> one, two = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}
    >>> l2(one, two)
    tensor(5.)
    """
    return total((g[name] - h[name]).square().sum() for name in h)


@_with(r"1 - \frac{\langle g, h \rangle}{\| g \| \, \| h \|}")
def cosine(g: Tensors, h: Tensors) -> Tensor:
    """One minus the cosine of the angle between the two, all parameters concatenated; in [0, 2].

    1 - <g, h> / (||g|| ||h||).  Blind to the scale of either; 1 where one of them is zero.
    Source: Geiping et al. 2020, eq. 4.  Written as half the squared distance of two unit vectors:
    in float32 the difference from 1 is lost below 1e-7, where images still have far to go.

    >>> one, two = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}
    >>> cosine(one, two)
    tensor(1.)
    """
    # 1 - <u, v> = |u - v|^2 / 2,  u = g / |g|,  v = h / |h|
    scale_g, scale_h = (inverse(norm({name: d[name] for name in h})) for d in (g, h))
    apart = total((scale_g * g[name] - scale_h * h[name]).square().sum() for name in h)
    # a zero has no direction: its "unit vector" is zero, and the half that it lacks is added
    return apart / 2 + ((scale_g == 0).to(apart) + (scale_h == 0).to(apart)) / 2


@_with(r"\sum_l \left\| \frac{g_l}{n(g)} - \frac{h_l}{n(h)} \right\|^2")
def mean_norm(g: Tensors, h: Tensors) -> Tensor:
    """The distance of DLM+: each divided by the mean norm of its tensors, so that scales cancel.

    sum_l || g_l / n(g) - h_l / n(h) ||_F^2,  n(g) = (1/L) sum_l ||g_l||_F over the L tensors, each
    weight and each bias counting as one.  A zero stays zero.
    Source: Zhao, Luo & Ding 2022, published code (DLM_plus.py).

    >>> one = {"w": torch.tensor([1.0, 0.0])}
    >>> mean_norm(one, {"w": 7 * one["w"]})
    tensor(0.)
    """
    # 1 / n(g),  1 / n(h)
    scale_g, scale_h = (inverse(total(_norms(d, h)) / len(h)) for d in (g, h))
    return total((scale_g * g[name] - scale_h * h[name]).square().sum() for name in h)


@_with(r"\sum_l \left\| \frac{g_l}{\| g_l \|} - \frac{h_l}{\| h_l \|} \right\|^2")
def each_norm(g: Tensors, h: Tensors) -> Tensor:
    """Every tensor divided by its own norm: sum_l || g_l / ||g_l|| - h_l / ||h_l|| ||_F^2.

    A bias of ten numbers counts as much as thousands of weights.  A zero stays zero.

    >>> one, two = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}
    >>> each_norm(one, two)
    tensor(2.)
    """
    pairs = zip(h, _norms(g, h), _norms(h, h))
    unit = ((inverse(n_g) * g[name] - inverse(n_h) * h[name]) for name, n_g, n_h in pairs)
    return total(apart.square().sum() for apart in unit)


@_with(r"\min_k \left\| g - k h \right\|^2")
def projected(g: Tensors, h: Tensors) -> Tensor:
    """Squared distance of g from the line through h: min_k ||g - k h||^2 = ||g||^2 (1 - cos^2).

    k = <g, h> / ||h||^2, and 0 for h = 0.  Zero where g is parallel to h, and where g is zero.
    Source: Golub & Pereyra 1973 (variable projection).

    >>> one, two = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}
    >>> projected(one, two)
    tensor(1.)
    """
    # k = <g, h> / ||h||^2
    squared = total(h[name].square().sum() for name in h)
    k = total((g[name] * h[name]).sum() for name in h) * inverse(squared)
    return total((g[name] - k * h[name]).square().sum() for name in h)


@dataclass(frozen=True, repr=False)
class likelihood(Word):
    """Minus the logarithm of how likely normal noise makes what was sent, up to a constant.

        sum_l ||g_l - h_l||_F^2 / (2 sigma^2)

    sigma: the standard deviation of the noise on each entry.  With `priors.smooth` beside it the
    attack finds the most probable image.  Raises ValueError unless sigma is positive.
    Source: Balunovic et al. 2022.

    >>> one, two = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}
    >>> likelihood(sigma=0.5)(one, two)
    tensor(10.)
    """

    sigma: float
    formula = r"\sum_l \frac{\| g_l - h_l \|^2}{2 \cdot %(sigma)g^2}"

    def __post_init__(self) -> None:
        positive("sigma", self.sigma, "a standard deviation")

    def act(self, g: Tensors, h: Tensors) -> Tensor:
        # sum_l ||g_l - h_l||^2 / (2 sigma^2)
        return l2(g, h) / (2 * self.sigma**2)


def _norms(g: Tensors, names: Tensors) -> list[Tensor]:
    """||g_l||_F of each tensor."""
    return [root(g[name].square().sum()) for name in names]
