"""The image behind one gradient of a chain of layers, from the last layer to the first.

Above a layer z = W x + b all is known: its output z, and d = dl/dz.  They give its input x:

    linear        dl/dW = d x', so x = (dl/dW)' d / |d|^2, where d = dl/db if there is a bias;
    convolution   W * x = z - b stacked on dl/dW = d * x, both linear in x: least squares.

Then dl/dx = W' d, and an activation x = s(z) is undone by z = s^-1(x), dl/dz = s'(z) dl/dx.

As a gradient is rounded, each number carries its standard deviation, and in the least squares an
equation is divided by that of its right-hand side.
Source: Zhu & Blaschko 2021, published code (R-GAP: two classes, no biases, equations unweighted).
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._network import copied
from ..leak import Tensors
from ..random import generator
from .layers import LAYERS, Activation, Linear, Stage, leaves, windows

PROBES = 40  # random vectors behind a standard deviation, which is right to about 11 %
POWERS, REFINEMENTS = 3, 2  # of a matrix, behind its condition; and of a solution
RIDGE = 1e-9  # what a matrix gets that has no inverse, its diagonal being 1


class Estimate(NamedTuple):
    """Numbers and their standard deviations, (n,) each, in float64."""

    value: Tensor
    sd: Tensor

    def reshape(self, *shape: int) -> "Estimate":
        return Estimate(*(part.reshape(shape) for part in self))


@torch.no_grad()
def stages(model: nn.Module, shape: Sequence[int]) -> list[Stage]:
    """The `leaves` of a network, in order, for images of this shape (B, ...)."""
    x, chain = torch.zeros(tuple(shape)).to(next(model.parameters())), []
    for name, layer in leaves(copied(model)):  # whose buffers a forward pass may move
        z = layer(x.clone())  # an activation in place must not move x
        chain.append(Stage(name, layer, x.shape[1:], z.shape[1:]))
        x = z
    return chain


def obstacle(chain: Sequence[Stage], i: int) -> str | None:
    """Why layer i of the chain cannot be inverted; None where it can, as far as counting says."""
    stage, layer, entry = chain[i], chain[i].layer, LAYERS.get(type(chain[i].layer))
    # a type that is not known has the obstacles of those that it derives from
    known = [entry] if entry else [LAYERS[kind] for kind in type(layer).__mro__ if kind in LAYERS]
    if causes := [cause for e in known if (cause := e.obstacle(layer))]:
        return causes[0]
    if entry is None:
        return "is no layer known here, and may branch: wanted an nn.Sequential of layers"
    if i == len(chain) - 1 and (getattr(entry, "reads", 0) != 1 or layer.bias is None):
        return "ends the network, where the recursion starts from a linear layer with a bias"
    if not isinstance(entry, Linear):
        return None
    mine = {id(p) for p in layer.parameters()}
    users = sum(any(id(p) in mine for p in other.layer.parameters()) for other in chain)
    if users > 1 or not all(p.requires_grad for p in layer.parameters()):
        return "has frozen or shared weights, and so no gradient of its own"
    if len(stage.takes) != entry.reads:
        return f"reads inputs of shape {tuple(stage.takes)}, not (n,) or (C, H, W)"
    if entry.reads == 3:
        where = windows(stage)
        if unread := stage.unknowns - len(where[where >= 0].unique()):
            return f"never reads {unread:,} of its inputs"
    outputs, weights, repeated = stage.equations
    return "has too few equations" if stage.unknowns > outputs + weights - repeated else None


def solve(chain: Sequence[Stage], W: Tensors, h: Tensors) -> tuple[Estimate, dict[str, float]]:
    """The image (C H W,) from weights W and gradient h, and {layer: condition of its system}."""
    eps = torch.finfo(next(iter(h.values())).dtype).eps / 2  # what rounding does to a number sent
    W, h = ({name: t.detach().cpu().double() for name, t in ts.items()} for ts in (W, h))
    condition = {}
    z = d = Estimate(torch.empty(0), torch.empty(0))  # the last layer reads neither
    for stage in reversed(chain):
        entry = LAYERS[type(stage.layer)]
        if isinstance(entry, Activation):
            shaped = (estimate.reshape(*stage.gives) for estimate in (z, d))
            undone = _through_activation(stage.layer, entry, *shaped, eps)
            z, d = (estimate.reshape(-1) for estimate in undone)
        elif isinstance(entry, Linear):
            name = f"{stage.name}.".removeprefix(".")
            V, b, dV, db = (ts.get(f"{name}{of}") for ts in (W, h) for of in ("weight", "bias"))
            through = _through_linear if entry.reads == 1 else _through_convolution
            z, d, condition[stage.name] = through(stage, V, b, dV, db, z, d, eps)
    return z, condition


def _through_activation(layer: nn.Module, s: Activation, a: Estimate, u: Estimate, eps: float):
    """(a, dl/da) -> (z, dl/dz), a = s(z)."""
    ends = s.ends(layer)
    assert s.inverse and ends, "`obstacle` refuses the others"
    low, high = ends
    sd = torch.hypot(a.sd, eps * a.value) + torch.finfo(torch.float32).tiny
    # a must lie where s^-1 is defined; closer to its ends than its error it says no more
    margin = sd.clamp(max=(high - low) / 4)
    z = s.inverse(layer, torch.minimum(torch.maximum(a.value, low + margin), high - margin))
    slope = torch.func.grad(lambda z: layer(z.clone()).sum())
    s1 = slope(z)
    # z = s^-1(a) is off by da / s'(z);  d = s'(z) u, and s' bends, or jumps, over that error
    sd_z = sd / s1
    bend = (slope(z + sd_z) - slope(z - sd_z)) / 2
    variance = (bend * u.value).square() + (s1 * u.sd).square() + (eps * s1 * u.value).square()
    return Estimate(z, sd_z), Estimate(s1 * u.value, variance.sqrt())


def _through_linear(stage, V, b, dV, db, z, d, eps):
    """(z, dl/dz) -> (x, dl/dx, condition), z = V x + b."""
    if db is not None:
        d = Estimate(db, torch.zeros_like(db))  # the very numbers that the client went on with
    norm_squared = (d.value @ d.value).clamp(min=torch.finfo(torch.float64).tiny)  # |d|^2
    # x = dV' d / |d|^2, which an error of d rescales
    x = dV.mT @ d.value / norm_squared
    sd = (eps + (d.value * d.sd).norm() / norm_squared) * x.abs()
    # dl/dx = V' d
    u, noise = V.mT @ d.value, V.mT.square() @ _variance(d, len(V), eps)
    return Estimate(x, sd), Estimate(u, noise.sqrt()), 1.0


def _through_convolution(stage, W, b, dW, db, z, d, eps):
    """(z, dl/dz) -> (x, dl/dx, condition), z = W * x + b."""
    from scipy import sparse  # a third of the time that importing leaklib would take

    where, n = windows(stage), stage.unknowns  # (C k l, H' W')
    (K, L), places = where.shape, (where >= 0).nonzero(as_tuple=True)

    def rows(values: Tensor, along: int) -> sparse.csr_array:
        """Coefficients (O, C k l, H' W') as equations: one of each filter and place `along`."""
        filters, length = len(values), where.shape[along]
        row = torch.arange(filters)[:, None] * length + places[along]  # (O, entries)
        parts = values[:, *places], row, where[places].expand(filters, -1)
        value, row, column = (t.flatten().numpy() for t in parts)
        return sparse.csr_array((value, (row, column)), (filters * length, n))

    seen, W = (where >= 0).double(), W.flatten(1)  # (O, C k l)
    z0 = z.value.reshape(-1, L) - (0 if b is None else b[:, None])  # (O, H' W')
    # one row for each output, W * x = z - b, and one for each weight, d * x = dl/dW
    by_output = rows(W[:, :, None].expand(-1, -1, L), 1)
    by_weight = rows(d.value.reshape(-1, 1, L).expand(-1, K, -1), 0)
    # z is off as it came, and by the client's own sum over C k l terms
    sd_z = torch.hypot(z.sd, _of_sum(K, eps) * z0.square().mean().sqrt())
    # dl/dW = sum d x is off by sum dd x, and by its own sum; |z - b|^2 = |W * x|^2 sizes x^2
    x_squared = z0.square().sum() / (W.square() @ seen).sum()
    sd_G = (x_squared * _variance(d, L, eps).reshape(-1, L) @ seen.mT).sqrt()  # (O, C k l)
    right, sd = torch.cat([z0.flatten(), dW.flatten()]), torch.cat([sd_z, sd_G.flatten()])
    x, condition = _least_squares(sparse.vstack([by_output, by_weight]), right, sd)
    # dl/dx = W' d
    u = _times(by_output.T, d.value)
    sd_u = _times(by_output.power(2).T, _variance(d, by_output.nnz / n, eps)).sqrt()
    return x, Estimate(u, sd_u), condition


def _of_sum(terms: float, eps: float) -> float:
    """How far a sum is off, against its size: sqrt(terms) / 4 roundings, measured on a LeNet."""
    return eps * max(1.0, terms**0.5 / 4)


def _variance(d: Estimate, terms: float, eps: float) -> Tensor:
    """Of each d in a sum of so many terms, d times numbers known."""
    return d.sd.square() + (_of_sum(terms, eps) * d.value).square()


def _least_squares(A: Any, r: Tensor, sd: Tensor) -> tuple[Estimate, float]:
    """x (n,) that minimises |(A x - r) / sd|^2, A sparse; and A's condition, as scaled here."""
    # Cholesky of the normal equations, columns of length 1, refined with the residual of A itself
    weight = torch.where(sd > 0, 1 / sd, 0.0)  # no deviation, no equation
    r, A = weight * r, A.multiply(weight[:, None].numpy()).tocsr()
    lengths = torch.from_numpy(A.multiply(A).sum(axis=0)).sqrt()
    lengths[lengths == 0] = 1
    A = A.multiply(1 / lengths[None].numpy()).tocsr()
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
    V = torch.randn(PROBES, len(M), generator=generator(0, "probes")).double().mT
    sd = triangle(L.mT, V, upper=True).square().mean(1).sqrt()
    sd *= ((r - _times(A, x)).norm() / max(A.shape[0] - len(M), 1) ** 0.5).clamp(min=1)
    if failed:  # what is open could be as large as what was found
        sd = torch.hypot(sd / lengths, (x / lengths).square().mean().sqrt()) * lengths
    squared = _largest(lambda V: _times(A.T, _times(A, V)), V[:, :8]) * _largest(inverse, V[:, :8])
    return Estimate(x / lengths, sd / lengths), inf if failed else squared.sqrt().item()


def _largest(matrix: Callable[[Tensor], Tensor], V: Tensor) -> Tensor:
    """The largest eigenvalue of a symmetric matrix, by powers of it applied to columns V."""
    for _ in range(POWERS):
        V = torch.linalg.qr(matrix(V)).Q
    return torch.linalg.eigvalsh(V.mT @ matrix(V))[-1]


def _times(A: Any, v: Tensor) -> Tensor:
    return torch.from_numpy(A @ v.numpy())  # (n,) or (n, columns)
