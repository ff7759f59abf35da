"""Distances of gradients and their derivatives, for a network that is a chain of layers.

Forwards and backwards, with the mean over B images of -sum q log p as the loss,

    z_l = W_l a_{l-1} + b_l,   a_l = s(z_l),   p = softmax(z_L),
    d_L = (p - q) / B,   u_l = W_{l+1}' d_{l+1},   d_l = s'(z_l) u_l,   G_l = d_l a_{l-1}'.

An attack minimises a distance D of G and what was sent, say sum_l |G_l - h_l|^2.  With
R = dD/dG / 2 held fixed, here G - h, grad_x D = 2 grad_x <G(x), R> = 2 d/de grad_x loss(x; W + e R)
at e = 0: both passes once more, each line differentiated along R, marked by a dot:

    z.  = R a + r + W a.,   a. = s' z.,   d._L = (p z. - p <p, z.>) / B,
    u.  = R' d + W' d.,     d. = s' u. + s'' z. u.

So no graph is built, and P problems are P groups of one convolution.  Source: Pearlmutter 1994.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .._numbers import total
from ..leak import Tensors
from .layers import LAYERS, Activation, Linear, leaves


def layers(model: nn.Module, names: Sequence[str], shape: Sequence[int]) -> dict | None:
    """{name: layer} of a chain whose parameters are called `names`, or None for other networks.

    shape (B, ...) of the images.  A chain is an `nn.Sequential`, nested or not, of layers whose
    entries in `LAYERS` know their derivatives, without hooks, that ends in a linear layer.
    """
    chain, axes, entry, read = dict(leaves(model)), len(shape), None, set()
    for name, layer in chain.items():
        entry = LAYERS.get(type(layer))
        axes = entry.axes(layer, axes) if entry else None
        if axes is None:
            return None
        if isinstance(entry, Linear):
            read |= {f"{name}.weight", f"{name}.bias"}
    hooks = (m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    ends = isinstance(entry, Linear) and axes == 2
    return chain if ends and read == set(names) and not any(hooks) else None


def value(
    layers: dict, W: Tensors, x: Tensor, q: Tensor, compare: Callable, others: Sequence[Tensor] = ()
) -> Tensor:
    """D (P,) of P problems, differentiable once: x (P, B, ...), q (P, B, C), W {name: (P, ...)}.

    compare, `squared` or `by_autograd`: (G, *others) -> (D, R, by_others) for the gradients G
    {name: (P, ...)}, with R = dD/dG / 2 and the derivatives of D by the other unknowns.
    """
    # a reshape is no step: a linear layer reads images of any shape as rows
    entries = ((name, layer, LAYERS[type(layer)]) for name, layer in layers.items())
    steps = [
        _Weights(name, layer, entry, W) if isinstance(entry, Linear) else _Activation(layer, entry)
        for name, layer, entry in entries
        if isinstance(entry, Linear | Activation)
    ]
    weighted = [step for step in steps if isinstance(step, _Weights)]
    after = steps[steps.index(weighted[0]) + 1 :]
    with torch.no_grad():
        a = x.detach()
        for step in steps:
            a = step.forward(a)
        p, B = a.softmax(-1), a.shape[1]
        u = (p - q) / B  # d_L
        for step in reversed(after):
            u = step.backward(u)
        weighted[0].outer_product(u)
        G = {name: G for step in weighted for name, G in zip(step.names, step.G)}
        D, R, by_others = compare(G, *others)
        for step in weighted:
            step.along(R)
        t = weighted[0].forward_along(None)  # the image does not move along R
        for step in after:
            t = step.forward_along(t)
        inner = (p * t).sum(-1, keepdim=True)
        v = (p * t - p * inner) / B  # d._L = (p z. - p <p, z.>) / B
        for step in reversed(steps):
            v = step.backward_along(v)
        # of q the loss -sum q log softmax(z) has the derivative -log p, and along R that of z.
        grad_q = -2 * (t - inner) / B
    return _Known.apply(D, (2 * v, grad_q, *by_others), x, q, *others)


def squared(h: Tensors) -> Callable:
    """sum_l |G_l - h_l|^2, in place of G: no graph, and no room for another G."""

    def compare(G: Tensors) -> tuple[Tensor, Tensors, tuple]:
        R = {name: G[name].sub_(sent) for name, sent in h.items()}
        # a norm needs no room for the squares
        return total(r.flatten(1).norm(dim=1).square() for r in R.values()), R, ()

    return compare


def by_autograd(distance: Callable[..., Tensor]) -> Callable:
    """Any distance(G, *others) (P,): autograd takes it apart, but nothing of the network."""

    def compare(G: Tensors, *others: Tensor) -> tuple[Tensor, Tensors, tuple]:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (*G.values(), *others)]
            D = distance(dict(zip(G, leaves)), *leaves[len(G) :])
            grads = torch.autograd.grad(D.sum(), leaves, allow_unused=True, materialize_grads=True)
        return D.detach(), {name: grad / 2 for name, grad in zip(G, grads)}, grads[len(G) :]

    return compare


class _Known(torch.autograd.Function):
    """Values (P,) whose gradients with respect to some tensors are known already."""

    @staticmethod
    def forward(ctx, values, grads, *tensors):
        ctx.save_for_backward(*grads)
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, scale):
        known = (scale.reshape(-1, *[1] * (grad.ndim - 1)) * grad for grad in ctx.saved_tensors)
        return (None, None, *known)


class _Activation:
    def __init__(self, layer: nn.Module, entry: Activation):
        self.layer, self.entry, self.z = layer, entry, None

    def forward(self, z: Tensor) -> Tensor:
        assert self.entry.derivatives is not None, "`layers` refuses the others"
        a = self.layer(z)
        self.s1, self.s2 = self.entry.derivatives(self.layer, a)
        return a

    def backward(self, u: Tensor) -> Tensor:
        self.u = u
        return self.s1 * u

    def forward_along(self, z: Tensor) -> Tensor:
        self.z = z
        return self.s1 * z

    def backward_along(self, v: Tensor) -> Tensor:
        d = self.s1 * v
        # d. = s' u. + s'' z. u, the second where this layer's input moves
        return d if self.z is None else torch.addcmul(d, self.s2 * self.z, self.u)


class _Weights:
    def __init__(self, name: str, layer: nn.Module, entry: Linear, W: Tensors):
        self.names, self.layer, self.entry = (f"{name}.weight", f"{name}.bias"), layer, entry
        self.W, self.b = (W[name] for name in self.names)

    def forward(self, a: Tensor) -> Tensor:
        self.a = a
        return self.entry.times(self.layer, a, self.W, self.b)

    def outer_product(self, d: Tensor) -> None:
        self.d, self.G = d, self.entry.outer(self.layer, d, self.a, self.W)

    def backward(self, d: Tensor) -> Tensor:
        self.outer_product(d)
        return self.entry.back(self.layer, self.a, (d, self.W))

    def along(self, R: Tensors) -> None:
        self.R, self.r = (R[name] for name in self.names)

    def forward_along(self, t: Tensor | None) -> Tensor:
        # z. = R a + r + W a.
        moved = self.entry.times(self.layer, self.a, self.R, self.r)
        return moved if t is None else moved.add_(self.entry.times(self.layer, t, self.W))

    def backward_along(self, v: Tensor) -> Tensor:
        # u. = R' d + W' d.
        return self.entry.back(self.layer, self.a, (self.d, self.R), (v, self.W))
