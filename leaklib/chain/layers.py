"""What a layer of a chain is, told once: `LAYERS` has one entry for each type of layer.

A layer of your own is one more entry: `chain.LAYERS[Mine] = chain.Activation(…)`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._numbers import total


class Stage(NamedTuple):
    """A layer in its chain, and the shapes that it takes and gives, without the batch's."""

    name: str
    layer: Any  # a module, whose own attributes no type checker knows
    takes: torch.Size
    gives: torch.Size

    @property
    def unknowns(self) -> int:
        return prod(self.takes)

    @property
    def equations(self) -> tuple[int, int, int]:
        """Of its outputs, of its weights' gradient, and how many of these say what others say."""
        entry = LAYERS.get(type(self.layer))
        return entry.equations(self) if isinstance(entry, Linear) else (0, 0, 0)


def leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and layers of an `nn.Sequential`, nested or not; another network is one layer."""
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for key, child in module._modules.items():
        yield from leaves(child, f"{name}.{key}".removeprefix("."))


@dataclass(frozen=True)
class Layer:
    """A type of layer; here one that is not undone."""

    # why it has no inverse, in words that follow its name; None where it has one
    cause: str | None = "has no inverse that is known here"
    # attributes that are the arguments to make it again; None where the course does not send it
    settings: tuple[str, ...] | None = None

    def obstacle(self, layer: Any) -> str | None:
        """Why this very layer cannot be undone; None where it can."""
        return self.cause

    def axes(self, layer: Any, taken: int) -> int | None:
        """How many axes come out where `taken` go in; None leaves the network to autograd."""
        return None


class Reshape(Layer):
    """The same numbers in another shape."""

    def axes(self, layer: Any, taken: int) -> int | None:
        flattens = isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)
        return 2 if flattens else None


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """a = s(z), each number by itself.  Every function is given the layer s, for its settings."""

    # (s, a) -> (s', s'') at z, told by a; None leaves the network to autograd
    derivatives: Callable[[Any, Tensor], tuple[Tensor, Tensor]] | None = None
    # (s, a) -> z; None where there is none, for which `cause` says why
    inverse: Callable[[Any, Tensor], Tensor] | None = None
    # s -> the ends of the open interval of a; None where its settings leave no inverse
    ends: Callable[[Any], tuple[float, float] | None] = lambda s: (-inf, inf)

    def obstacle(self, layer: Any) -> str | None:
        return None if self.inverse and self.ends(layer) else self.cause

    def axes(self, layer: Any, taken: int) -> int | None:
        return taken if self.derivatives else None


class Linear(Layer):
    """z = W a + b for P problems at once: a (P, B, …) of M numbers each, W (P, O, M), b (P, O)."""

    reads = 1  # axes of one input

    def axes(self, layer: Any, taken: int) -> int | None:
        return taken if taken == 1 + self.reads and layer.bias is not None else None

    def times(self, layer: Any, a: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        a = a.flatten(2)  # (P, B, M)
        return a @ W.mT if b is None else torch.baddbmm(b[:, None], a, W.mT)

    def outer(self, layer: Any, d: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """(dl/dW, dl/db) for d = dl/dz."""
        return d.mT @ a.flatten(2), d.sum(1)

    def back(self, layer: Any, a: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
        """The sum of W' d over terms (d, W)."""
        return total(d @ W for d, W in terms).reshape(a.shape)

    def equations(self, stage: Stage) -> tuple[int, int, int]:
        weights = stage.layer.weight.numel()
        return 0, weights, weights - stage.unknowns  # every row of dl/dW says a


class Convolution(Linear):
    """a (P, B, C, H, W), W (P, O, C, k, l), b (P, O): one convolution of P groups."""

    reads = 3

    def obstacle(self, layer: Any) -> str | None:
        return f"has {layer.groups} groups" if layer.groups != 1 else self.cause

    def axes(self, layer: Any, taken: int) -> int | None:
        zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return super().axes(layer, taken) if zeros and layer.groups == 1 else None

    def times(self, layer: Any, a: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        b = None if b is None else b.flatten()  # (P O,)
        how = layer.stride, layer.padding, layer.dilation, len(W)
        return _apart(torch.conv2d(_grouped(a), W.flatten(0, 1), b, *how), len(W))

    def outer(self, layer: Any, d: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        G = _adjoint(layer, _grouped(d), _grouped(a), W, 1)  # (P O, C, k, l)
        return G.reshape(W.shape), d.sum((1, 3, 4))

    def back(self, layer: Any, a: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
        if a.shape[2] != 1:
            by_term = (_adjoint(layer, _grouped(d), _grouped(a), W, 0) for d, W in terms)
            return _apart(total(by_term), len(a))
        # for a grey image one matrix product for all terms is five times as fast
        d = torch.cat([d for d, _ in terms], 2).flatten(3)  # (P, B, terms O, H' W')
        W = torch.cat([W for _, W in terms], 1).flatten(2)  # (P, terms O, C k l)
        columns = (W.mT[:, None] @ d).flatten(0, 1)  # (P B, C k l, H' W')
        how = layer.kernel_size, layer.dilation, layer.padding, layer.stride
        return F.fold(columns, a.shape[-2:], *how).reshape(a.shape)

    def equations(self, stage: Stage) -> tuple[int, int, int]:
        """At least so many are repeated, and for most W and d just so many.

        Of O filters with K weights each and L places, r = min(O, K) filters and s = min(O, L)
        slopes can be independent.  The outputs give r L equations.  Weights k and k + stride of a
        filter meet the same inputs: such a class gives s equations a weight, but no more than it
        meets inputs.  Of both together r s are the same, as for every pair of filters o and p
            sum_L d_o (W_p * x) = sum_k W_p (d_o * x).
        """
        layer = stage.layer
        outputs, weights = prod(stage.gives), layer.weight.numel()
        if layer.groups != 1:
            return outputs, weights, 0
        where = windows(stage)  # (K, L)
        r, s = (min(layer.out_channels, most) for most in where.shape)
        of = zip(layer.kernel_size, layer.dilation, layer.stride)
        rows, columns = (torch.arange(size) * step % stride for size, step, stride in of)
        phase = (rows[:, None] * layer.stride[1] + columns).flatten()  # (k l,)
        met = [where[: len(phase)][phase == p] for p in phase.unique()]  # channels are alike
        by_class = sum(min(s * len(t), len(t[t >= 0].unique())) for t in met)
        differ = r * where.shape[1] + layer.in_channels * by_class - r * s
        return outputs, weights, outputs + weights - differ


def _grouped(a: Tensor) -> Tensor:
    """(P, B, C, H, W) -> (B, P C, H, W)."""
    return a.transpose(0, 1).flatten(1, 2)


def _apart(a: Tensor, P: int) -> Tensor:
    """(B, P C, H, W) -> (P, B, C, H, W)."""
    return a.unflatten(1, (P, -1)).transpose(0, 1)


def _adjoint(layer: Any, d: Tensor, a: Tensor, W: Tensor, which: int) -> Tensor:
    """d/da (which = 0) or d/dW (1) of <d, W a>, by the kernels that autograd calls."""
    how = (list(setting) for setting in (layer.stride, layer.padding, layer.dilation))
    how = *how, False, [0, 0], len(W), [which == 0, which == 1, False]
    return torch.ops.aten.convolution_backward(d, a, W.flatten(0, 1), None, *how)[which]


def windows(stage: Stage) -> Tensor:
    """Which input each weight of a filter meets at each output: (C k l, H' W'), -1 for padding."""
    # found by the layer itself: the inputs are their numbers, and each filter is a single one
    size = stage.takes[0], *stage.layer.kernel_size  # (C, k, l)
    filters = torch.eye(prod(size), dtype=torch.float64).reshape(-1, *size)
    numbers = torch.arange(1, stage.unknowns + 1, dtype=torch.float64).reshape(1, *stage.takes)
    met = stage.layer._conv_forward(numbers, filters, None)[0]  # (C k l, H', W')
    return met.flatten(1).round().long() - 1


MANY, TWO = "gives many inputs the same output", "gives two inputs the same output"
LESS, RANDOM = "keeps less than it reads", "drops entries at random in training mode"
SPREAD = "divides by a spread that the gradient does not give"
CONVOLUTION = (
    "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode"
)
_pool, _norm = nn.modules.pooling, nn.modules.batchnorm._NormBase

LAYERS: dict[type[nn.Module], Layer] = {
    nn.Linear: Linear(None, ("in_features", "out_features", "bias")),
    nn.Conv2d: Convolution(None, tuple(CONVOLUTION.split())),
    nn.Flatten: Reshape(None, ("start_dim", "end_dim")),
    nn.Unflatten: Reshape(None),
    nn.Identity: Activation(inverse=lambda s, a: a),
    nn.Dropout: Activation(
        RANDOM, inverse=lambda s, a: a, ends=lambda s: None if s.training else (-inf, inf)),
    nn.ReLU: Activation(MANY, (), derivatives=lambda s, a: ((a > 0).to(a), torch.zeros_like(a))),
    nn.Sigmoid: Activation(
        settings=(), derivatives=lambda s, a: (a * (1 - a), a * (1 - a) * (1 - 2 * a)),
        inverse=lambda s, a: torch.logit(a), ends=lambda s: (0.0, 1.0)),
    nn.Tanh: Activation(
        settings=(), derivatives=lambda s, a: (1 - a * a, -2 * a * (1 - a * a)),
        inverse=lambda s, a: torch.atanh(a), ends=lambda s: (-1.0, 1.0)),
    nn.LeakyReLU: Activation(
        MANY, ("negative_slope",), inverse=lambda s, a: a.where(a > 0, a / s.negative_slope),
        ends=lambda s: (-inf, inf) if s.negative_slope > 0 else None),
    nn.ELU: Activation(
        MANY, inverse=lambda s, a: a.where(a > 0, torch.log1p(a / s.alpha)),
        ends=lambda s: (-s.alpha, inf) if s.alpha > 0 else None),
    nn.Softplus: Activation(
        settings=("beta", "threshold"), ends=lambda s: (0.0, inf),
        inverse=lambda s, a: a + (-torch.expm1(-s.beta * a)).log() / s.beta),
    nn.SiLU: Layer(TWO, settings=()),
    nn.GELU: Layer(TWO, settings=("approximate",)),
    **dict.fromkeys((nn.Mish, nn.Hardswish), Layer(TWO)),
    **dict.fromkeys((nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid), Layer(MANY)),
    # those of PyTorch derive from these
    **dict.fromkeys((_pool._MaxPoolNd, _pool._AvgPoolNd), Layer(LESS)),
    **dict.fromkeys((_pool._AdaptiveMaxPoolNd, _pool._AdaptiveAvgPoolNd), Layer(LESS)),
    **dict.fromkeys((_norm, nn.GroupNorm, nn.LayerNorm), Layer(SPREAD)),
    nn.modules.dropout._DropoutNd: Layer(RANDOM),
}  # fmt: skip
