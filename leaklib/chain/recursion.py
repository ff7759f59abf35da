"""The image behind one gradient of a chain of layers, from the last layer to the first.

Above a layer z = W x + b all is known: its output z, and d = dl/dz.  They give its input x:

    linear        dl/dW = d x', so x = (dl/dW)' d / |d|^2, where d = dl/db if there is a bias;
    convolution   W * x = z - b stacked on dl/dW = d * x, both linear in x: least squares.

Then dl/dx = W' d, and an activation x = s(z) is undone by z = s^-1(x), dl/dz = s'(z) dl/dx.

No number is exact: a gradient of 32 bits is rounded, and where s is flat a rounded x says little of
z.  So each number carries its standard deviation, to first order, and in the least squares an
equation is divided by that of its right-hand side: the weights that the noise itself asks for.
Source: Zhu & Blaschko 2021, published code (R-GAP: two classes, no biases, equations unweighted).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf, prod
from typing import NamedTuple

import torch
from scipy import sparse
from torch import Tensor, nn
from torch.func import functional_call

from ..leak import Tensors

PROBES = 40  # random vectors behind a standard deviation, which is right to about 11 %
POWERS = 3  # of a matrix, behind its condition
REFINEMENTS = 2
RIDGE = 1e-9  # what a matrix gets that has no inverse, its diagonal being 1
RENUMBER = (nn.Flatten, nn.Unflatten)
INVERSES = {  # of a = s(z): (s^-1, and the ends of the open interval of a), given the layer s
    nn.Identity: lambda s: (lambda a: a, -inf, inf),
    nn.Dropout: lambda s: (lambda a: a, -inf, inf),  # in evaluation mode
    nn.Sigmoid: lambda s: (torch.logit, 0.0, 1.0),
    nn.Tanh: lambda s: (torch.atanh, -1.0, 1.0),
    nn.LeakyReLU: lambda s: (lambda a: a.where(a > 0, a / s.negative_slope), -inf, inf),
    nn.ELU: lambda s: (lambda a: a.where(a > 0, torch.log1p(a / s.alpha)), -s.alpha, inf),
    nn.Softplus: lambda s: (lambda a: a + (-torch.expm1(-s.beta * a)).log() / s.beta, 0.0, inf),
}
_pooling, _norm = nn.modules.pooling, nn.modules.batchnorm._NormBase
CAUSES = {
    "gives many inputs the same output": (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid),
    "gives two inputs the same output": (nn.SiLU, nn.GELU, nn.Mish, nn.Hardswish),
    "keeps less than it reads": (
        *(_pooling._MaxPoolNd, _pooling._AvgPoolNd),
        *(_pooling._AdaptiveMaxPoolNd, _pooling._AdaptiveAvgPoolNd),
    ),
    "drops entries at random in training mode": (nn.modules.dropout._DropoutNd,),
    "divides by a spread that the gradient does not give": (_norm, nn.GroupNorm, nn.LayerNorm),
}


class Estimate(NamedTuple):
    """Numbers and their standard deviations, (n,) each, in float64."""

    value: Tensor
    sd: Tensor


class Stage(NamedTuple):
    """A layer of a chain, and the shapes that it takes and gives, without the batch's."""

    name: str
    layer: nn.Module
    takes: torch.Size
    gives: torch.Size

    @property
    def unknowns(self) -> int:
        return prod(self.takes)

    @property
    def equations(self) -> tuple[int, int, int]:
        """Of the layer's outputs, of its weights' gradient, and how many say what others say."""
        weights = self.layer.weight.numel()
        if type(self.layer) is nn.Linear:
            return 0, weights, weights - self.unknowns  # every row of dl/dV says x
        outputs = prod(self.gives)
        differ = _rank(self) if self.layer.groups == 1 else outputs + weights
        return outputs, weights, outputs + weights - differ


# ------------------------------------------------------------------ before anything is solved
def stages(model: nn.Module, shape: Sequence[int]) -> list[Stage]:
    """The layers of an `nn.Sequential`, nested or not, in order; another network is one stage."""
    like = next(model.parameters())
    x = torch.zeros(tuple(shape), dtype=like.dtype, device=like.device)
    chain = []
    with torch.no_grad():
        for name, layer in _leaves(model, ""):
            z = layer(x.clone())  # an activation in place must not move x
            chain.append(Stage(name, layer, x.shape[1:], z.shape[1:]))
            x = z
    return chain


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for key, child in module._modules.items():
        yield from _leaves(child, f"{name}.{key}".removeprefix("."))


def obstacle(chain: Sequence[Stage], i: int) -> str | None:
    """Why layer i of the chain cannot be inverted; None where it can, as far as counting says."""
    stage, layer, kind = chain[i], chain[i].layer, type(chain[i].layer)
    for cause, kinds in CAUSES.items():
        if isinstance(layer, kinds) and not (kind in INVERSES and not layer.training):
            return cause
    if kind not in (nn.Linear, nn.Conv2d, *INVERSES, *RENUMBER):
        return "is no layer known here, and may branch: wanted an nn.Sequential of layers"
    if i == len(chain) - 1 and (kind is not nn.Linear or layer.bias is None):
        return "ends the network, where the recursion starts from a linear layer with a bias"
    if kind in (nn.Linear, nn.Conv2d):
        return _obstacle_of_weights(chain, stage)
    # a leaky slope of zero or below has no inverse, nor has ELU with such an alpha
    rises = getattr(layer, "negative_slope", 1) > 0 and getattr(layer, "alpha", 1) > 0
    return None if rises else "gives many inputs the same output"


def _obstacle_of_weights(chain: Sequence[Stage], stage: Stage) -> str | None:
    layer, mine = stage.layer, {id(p) for p in stage.layer.parameters()}
    users = sum(any(id(p) in mine for p in other.layer.parameters()) for other in chain)
    if users > 1 or not all(p.requires_grad for p in layer.parameters()):
        return "has frozen or shared weights, and so no gradient of its own"
    if len(stage.takes) != (1 if type(layer) is nn.Linear else 3):
        return f"reads inputs of shape {tuple(stage.takes)}, not (n,) or (C, H, W)"
    if type(layer) is nn.Linear:
        return None
    if layer.groups != 1:
        return f"has {layer.groups} groups"
    where = windows(stage)
    unread = stage.unknowns - len(where[where >= 0].unique())
    if unread:
        return f"never reads {unread:,} of its inputs"
    outputs, weights, repeated = stage.equations
    too_few = stage.unknowns > outputs + weights - repeated
    return "has too few equations" if too_few else None


def _rank(stage: Stage) -> int:
    """How many of a convolution's equations differ, at most; just so many for most W and d.

    Of O filters with K weights each and L places, r = min(O, K) filters and s = min(O, L) slopes
    can be independent.  The outputs give r L equations.  With a stride, weights k and k + stride
    of a filter meet the same inputs: each such class of weights gives s equations a weight, but no
    more than the inputs that it meets.  And of both together r s are the same, since
        sum_L d_o (W_p * x) = sum_k W_p (d_o * x)   for every pair of filters o and p.
    """
    layer, where = stage.layer, windows(stage)
    filters, (K, L) = layer.out_channels, where.shape
    r, s = min(filters, K), min(filters, L)
    phase = [
        torch.arange(layer.kernel_size[i]) * layer.dilation[i] % layer.stride[i] for i in (0, 1)
    ]
    phase = (phase[0][:, None] * layer.stride[1] + phase[1]).flatten()
    taps = where[: len(phase)]  # of one channel: the others are alike
    met = [taps[phase == p] for p in phase.unique()]
    by_class = (min(s * len(t), len(t[t >= 0].unique())) for t in met)
    return r * L + layer.in_channels * sum(by_class) - r * s


def windows(stage: Stage) -> Tensor:
    """Which input every weight of a filter meets at every output: (C k l, H' W'), -1 for padding.

    Found by convolving the numbers of the inputs with each of the C k l filters that have a single
    one, so that strides, dilations and all kinds of padding are the layer's own.
    """
    C, H, W = stage.takes
    K = C * prod(stage.layer.kernel_size)
    one_hot = torch.eye(K, dtype=torch.float64).reshape(K, C, *stage.layer.kernel_size)
    filters = {"weight": one_hot}
    if stage.layer.bias is not None:
        filters["bias"] = torch.zeros(K, dtype=torch.float64)
    numbers = torch.arange(1, C * H * W + 1, dtype=torch.float64).reshape(1, C, H, W)
    return functional_call(stage.layer, filters, (numbers,))[0].flatten(1).round().long() - 1


# ------------------------------------------------------------------ the recursion
def solve(chain: Sequence[Stage], W: Tensors, h: Tensors) -> tuple[Estimate, dict[str, float]]:
    """The image (C H W,) from weights W and gradient h, and {layer: condition of its system}."""
    eps = torch.finfo(next(iter(h.values())).dtype).eps / 2  # what rounding does to a number sent
    W, h = ({name: t.detach().cpu().double() for name, t in ts.items()} for ts in (W, h))
    condition = {}
    z = d = None
    for stage in reversed(chain):
        if type(stage.layer) in RENUMBER:
            continue
        if type(stage.layer) in INVERSES:
            z, d = _through_activation(stage.layer, z, d, eps)
            continue
        through = _through_linear if type(stage.layer) is nn.Linear else _through_convolution
        name = f"{stage.name}.".removeprefix(".")
        ours = (ts.get(f"{name}{what}") for what in ("weight", "bias") for ts in (W, h))
        z, d, condition[stage.name] = through(stage, *ours, z, d, eps)
    return z, condition


def _through_activation(layer: nn.Module, a: Estimate, u: Estimate, eps: float):
    """(a, dl/da) -> (z, dl/dz), a = s(z)."""
    inverse, low, high = INVERSES[type(layer)](layer)
    sd = torch.hypot(a.sd, eps * a.value) + torch.finfo(torch.float32).tiny
    # a must lie where s^-1 is defined; closer to its ends than its error it says no more
    margin = sd.clamp(max=(high - low) / 4)
    z = inverse(torch.minimum(torch.maximum(a.value, low + margin), high - margin))
    s1 = _slope(layer, z)
    # z = s^-1(a) is off by da / s'(z);  d = s'(z) u, and s' bends, or jumps, over that error
    sd_z = sd / s1
    bend = (_slope(layer, z + sd_z) - _slope(layer, z - sd_z)) / 2
    variance = (bend * u.value).square() + (s1 * u.sd).square() + (eps * s1 * u.value).square()
    return Estimate(z, sd_z), Estimate(s1 * u.value, variance.sqrt())


def _slope(layer: nn.Module, z: Tensor) -> Tensor:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        return torch.autograd.grad(layer(z.clone()).sum(), z)[0]


def _through_linear(stage, V, dV, b, db, z, d, eps):
    """(z, dl/dz) -> (x, dl/dx), z = V x + b; z, which the last layer does not know, is not read."""
    if db is not None:
        d = Estimate(db, torch.zeros_like(db))  # the very numbers that the client went on with
    norm_squared = (d.value @ d.value).clamp(min=torch.finfo(torch.float64).tiny)
    # x = dV' d / |d|^2, which an error of d rescales
    x = dV.mT @ d.value / norm_squared
    sd = (eps + (d.value * d.sd).norm() / norm_squared) * x.abs()
    # dl/dx = V' d
    u, variance = V.mT @ d.value, V.mT.square() @ _variance(d, len(V), eps)
    return Estimate(x, sd), Estimate(u, variance.sqrt()), 1.0


def _through_convolution(stage, W, G, b, _, z, d, eps):
    """(z, dl/dz) -> (x, dl/dx), z = W * x + b."""
    where, n = windows(stage), stage.unknowns  # (C k l, H' W')
    K, L = where.shape
    seen, W = (where >= 0).double(), W.flatten(1)  # (O, C k l)
    z0 = z.value.reshape(-1, L) - (0 if b is None else b[:, None])  # (O, H' W')
    # one row for each output, W * x = z - b, and one for each weight, d * x = dl/dW
    by_output = _rows(W[:, :, None].expand(-1, -1, L), where, 1, n)
    by_weight = _rows(d.value.reshape(-1, 1, L).expand(-1, K, -1), where, 0, n)
    # z is off as it came, and by the client's own sum over C k l terms
    sd_z = torch.hypot(z.sd, _of_sum(K, eps) * z0.square().mean().sqrt())
    # dl/dW = sum d x is off by sum dd x, and by its own sum; |z - b|^2 = |W * x|^2 sizes x^2
    x_squared = z0.square().sum() / (W.square() @ seen).sum()
    sd_G = (x_squared * _variance(d, L, eps).reshape(-1, L) @ seen.mT).sqrt()  # (O, C k l)
    x, condition = _least_squares(
        sparse.vstack([by_output, by_weight]),
        torch.cat([z0.flatten(), G.flatten()]),
        torch.cat([sd_z, sd_G.flatten()]),
    )
    # dl/dx = W' d
    u = _times(by_output.T, d.value)
    noise = _variance(d, by_output.nnz / n, eps)
    return x, Estimate(u, _times(by_output.multiply(by_output).T, noise).sqrt()), condition


def _of_sum(terms: float, eps: float) -> float:
    """By how much a sum of so many terms is off, against its size: about sqrt(terms) / 4 roundings.

    A quarter was measured on the LeNet's convolutions, on one processor.
    """
    return eps * max(1.0, terms**0.5 / 4)


def _variance(d: Estimate, terms: float, eps: float) -> Tensor:
    """Of each d in a sum of so many terms, d times numbers known."""
    return d.sd.square() + (_of_sum(terms, eps) * d.value).square()


def _rows(values: Tensor, where: Tensor, along: int, n: int) -> sparse.csr_array:
    """The system's rows: one for each of O filters and each place along an axis of `where`.

    values (O, C k l, H' W') are the coefficients of the inputs that `where` tells.
    """
    places = (where >= 0).nonzero(as_tuple=True)
    length, place = where.shape[along], places[along]
    row = torch.arange(len(values))[:, None] * length + place  # (O, entries)
    column = where[places].expand(len(values), -1)
    value, row, column = (t.flatten().numpy() for t in (values[:, *places], row, column))
    return sparse.csr_array((value, (row, column)), (len(values) * length, n))


def _least_squares(A: sparse.csr_array, r: Tensor, sd: Tensor) -> tuple[Estimate, float]:
    """x (n,) that minimises |(A x - r) / sd|^2, with its deviations, and the condition of A.

    By Cholesky of the normal equations, with each column of A scaled to length 1, and refined with
    the residual of A itself.  The condition is that of A with its rows and columns so scaled.
    """
    weight = torch.where(sd > 0, 1 / sd, 0.0)  # no deviation, no equation
    r, A = weight * r, sparse.diags_array(weight.numpy()) @ A
    lengths = torch.from_numpy((A * A).sum(axis=0)).sqrt()
    lengths[lengths == 0] = 1
    A = (A @ sparse.diags_array(1 / lengths.numpy())).tocsr()
    M = torch.from_numpy((A.T @ A).toarray())
    L, failed = torch.linalg.cholesky_ex(M)
    if failed:  # no unique solution: any of them
        L = torch.linalg.cholesky(M + RIDGE * torch.eye(len(M)).to(M))
    triangle = torch.linalg.solve_triangular  # cholesky_solve would copy L each time
    inverse = lambda V: triangle(L.mT, triangle(L, V, upper=False), upper=True)  # noqa: E731
    x = torch.zeros_like(M[0])
    for _ in range(1 + REFINEMENTS):
        x += inverse(_times(A.T, r - _times(A, x))[:, None])[:, 0]
    # the deviations are those of L'^-1 v, v ~ N(0, 1); larger, where the equations do not agree
    V = torch.randn(PROBES, len(M), generator=torch.Generator().manual_seed(0)).double().mT
    sd = triangle(L.mT, V, upper=True).square().mean(1).sqrt()
    excess = (r - _times(A, x)).square().sum() / max(A.shape[0] - len(M), 1)
    sd *= excess.sqrt().clamp(min=1)
    if failed:  # what is open could be as large as what was found
        sd = torch.hypot(sd / lengths, (x / lengths).square().mean().sqrt()) * lengths
    few = V[:, :8]
    squared = _largest(lambda V: _times(A.T, _times(A, V)), few) * _largest(inverse, few)
    return Estimate(x / lengths, sd / lengths), inf if failed else squared.sqrt().item()


def _largest(matrix: Callable[[Tensor], Tensor], V: Tensor) -> Tensor:
    """The largest eigenvalue of a symmetric matrix, by powers of it applied to columns V."""
    for _ in range(POWERS):
        V = torch.linalg.qr(matrix(V)).Q
    return torch.linalg.eigvalsh(V.mT @ matrix(V))[-1]


def _times(A: sparse.sparray, v: Tensor) -> Tensor:
    return torch.from_numpy(A @ v.numpy())  # (n,) or (n, columns)
