"""Distances of gradients and their derivatives, for a network that is a chain of layers.

Forwards, with q the label's probabilities, B images, and the mean of -sum q log p as the loss,

    z_l = W_l a_{l-1} + b_l,   a_l = s(z_l),   p = softmax(z_L),

and backwards

    d_L = (p - q) / B,   u_l = W_{l+1}' d_{l+1},   d_l = s'(z_l) u_l,   G_l = d_l a_{l-1}'.

What an attack minimises is a distance D of G and what was sent, say sum_l |G_l - h_l|^2.  With
R = dD/dG / 2 held fixed, here G - h,
grad_x D = 2 grad_x <G(x), R> = 2 d/de grad_x loss(x; W + e R) at e = 0: both passes once more, each
line differentiated along R, marked by a dot below:

    z.  = R a + r + W a.,   a. = s' z.,   d._L = (p z. - p <p, z.>) / B,
    u.  = R' d + W' d.,     d. = s' u. + s'' z. u.

So no graph of the network is built and none is differentiated twice, and P problems are P groups of
one convolution.  `client.gradient` by autograd is the slow truth that it is tested against.
Source of the trick: Pearlmutter 1994.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..leak import Tensors

DERIVATIVES = {  # of s at z, where a = s(z):  (s', s'')
    nn.Sigmoid: lambda a: (a * (1 - a), a * (1 - a) * (1 - 2 * a)),
    nn.Tanh: lambda a: (1 - a * a, -2 * a * (1 - a * a)),
    nn.ReLU: lambda a: ((a > 0).to(a), torch.zeros_like(a)),
}


def layers(model: nn.Module, names: Sequence[str], shape: Sequence[int]) -> dict | None:
    """{name: layer} of a chain whose parameters are called `names`, or None for other networks.

    shape (B, ...) of the images.  A chain is an `nn.Sequential`, nested or not, of Conv2d, Linear,
    Flatten and the activations of `DERIVATIVES`, without hooks, that ends in a Linear.
    """
    # with duplicates, for one activation may stand in several places
    modules = model.named_modules(remove_duplicate=False)
    leaves = {n: m for n, m in modules if type(m) is not nn.Sequential}
    dims, last = len(shape), None
    for module in leaves.values():
        # the dimensions that go in, and those that come out
        known = {
            nn.Conv2d: (4, 4),
            nn.Linear: (2, 2),
            nn.Flatten: (dims, 2),
            **dict.fromkeys(DERIVATIVES, (dims, dims)),
        }
        takes, gives = known.get(type(module), (None, None))
        if takes != dims or not _is_plain(module):
            return None
        dims, last = gives, module
    weighted = [n for n, m in leaves.items() if type(m) in (nn.Conv2d, nn.Linear)]
    read = {f"{n}.{what}" for n in weighted for what in ("weight", "bias")}
    hooked = any(_hooks(m) for m in model.modules())
    return leaves if type(last) is nn.Linear and read == set(names) and not hooked else None


def _is_plain(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        zeros = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return zeros and module.groups == 1 and module.bias is not None
    if type(module) is nn.Linear:
        return module.bias is not None
    return type(module) is not nn.Flatten or (module.start_dim, module.end_dim) == (1, -1)


def _hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def value(
    layers: dict, W: Tensors, x: Tensor, q: Tensor, compare: Callable, others: Sequence[Tensor] = ()
) -> Tensor:
    """D (P,) of P problems: x (P, B, ...), q (P, B, C), and W {name: (P, ...)} of each.

    compare(G, *others) -> (D, R, by_others) for the gradients G {name: (P, ...)}, with
    R = dD/dG / 2 and the derivatives of D by the other unknowns: `squared` or `by_autograd`.
    Differentiable with respect to x, q and others, once: a second time is an error.
    """
    steps = [_step(name, layer, W) for name, layer in layers.items()]
    weighted = [step for step in steps if isinstance(step, _Weights)]
    with torch.no_grad():
        a = x.detach()
        for step in steps:
            a = step.forward(a)
        p, B = a.softmax(-1), a.shape[1]
        # d_L = (p - q) / B
        u = (p - q) / B
        first = steps.index(weighted[0])
        for step in reversed(steps[first + 1 :]):
            u = step.backward(u)
        weighted[0].outer_product(u)
        D, R, by_others = compare(
            {name: G for step in weighted for name, G in step.gradients().items()}, *others
        )
        for step in weighted:
            step.along(R)

        t = None  # the image does not move along R
        for step in steps[first:]:
            t = step.forward_along(t)
        # d._L = (p z. - p <p, z.>) / B
        inner = (p * t).sum(-1, keepdim=True)
        v = (p * t - p * inner) / B
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
        norms = (torch.linalg.vector_norm(r.flatten(1), dim=1) for r in R.values())
        return sum(norm.square() for norm in norms), R, ()

    return compare


def by_autograd(distance: Callable[..., Tensor]) -> Callable:
    """Any distance(G, *others) (P,): autograd takes it apart, but nothing of the network."""

    def compare(G: Tensors, *others: Tensor) -> tuple[Tensor, Tensors, tuple]:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (*G.values(), *others)]
            D = distance(dict(zip(G, leaves)), *leaves[len(G) :])
            grads = torch.autograd.grad(D.sum(), leaves, allow_unused=True, materialize_grads=True)
        R = {name: grad / 2 for name, grad in zip(G, grads)}
        return D.detach(), R, grads[len(G) :]

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
        of = lambda grad: scale.reshape(-1, *[1] * (grad.ndim - 1)) * grad  # noqa: E731
        return (None, None, *map(of, ctx.saved_tensors))


def _step(name: str, layer: nn.Module, W: Tensors):
    if type(layer) in DERIVATIVES:
        return _Activation(layer)
    if type(layer) is nn.Flatten:
        return _Flatten()
    return (_Linear if type(layer) is nn.Linear else _Convolution)(name, layer, W)


class _Activation:
    def __init__(self, layer: nn.Module):
        self.layer = layer

    def forward(self, z: Tensor) -> Tensor:
        a = self.layer(z)
        self.s1, self.s2 = DERIVATIVES[type(self.layer)](a)
        self.u = self.z = None
        return a

    def backward(self, u: Tensor) -> Tensor:
        self.u = u
        return self.s1 * u

    def forward_along(self, z: Tensor) -> Tensor:
        self.z = z
        return self.s1 * z

    def backward_along(self, v: Tensor) -> Tensor:
        # d. = s' u. + s'' z. u, the second where this layer's input moves
        return (
            self.s1 * v if self.z is None else torch.addcmul(self.s1 * v, self.s2 * self.z, self.u)
        )


class _Flatten:
    def forward(self, a: Tensor) -> Tensor:
        self.shape = a.shape
        return a.flatten(2)  # (P, B, M)

    def backward(self, u: Tensor) -> Tensor:
        return u.reshape(self.shape)

    def forward_along(self, t: Tensor) -> Tensor:
        return t.flatten(2)

    backward_along = backward


class _Weights:
    """z = W a + b; the kinds define `times`, `outer` and `back`."""

    def __init__(self, name: str, layer: nn.Module, W: Tensors):
        self.names = (f"{name}.weight", f"{name}.bias")
        self.layer, self.W, self.b = layer, *(W[name] for name in self.names)

    def forward(self, a):
        self.a = a
        return self.times(a, self.W, self.b)

    def backward(self, d):
        self.outer_product(d)
        return self.back((d, self.W))

    def outer_product(self, d):
        self.d, self.G = d, self.outer(d)

    def gradients(self):
        return dict(zip(self.names, self.G))

    def along(self, R):
        self.R, self.r = (R[name] for name in self.names)

    def forward_along(self, t):
        # z. = R a + r + W a.
        moved = self.times(self.a, self.R, self.r)
        return moved if t is None else moved.add_(self.times(t, self.W))

    def backward_along(self, v):
        # u. = R' d + W' d.
        return self.back((self.d, self.R), (v, self.W))


class _Linear(_Weights):
    """a (P, B, M), W (P, O, M)."""

    def times(self, a, W, b=None):
        return a @ W.mT if b is None else torch.baddbmm(b[:, None], a, W.mT)

    def outer(self, d):
        return d.mT @ self.a, d.sum(1)

    def back(self, *terms):
        return sum(d @ W for d, W in terms)


class _Convolution(_Weights):
    """a (P, B, C, H, W), W (P, O, C, k, l): one convolution of P groups."""

    def times(self, a, W, b=None):
        b = None if b is None else b.flatten()
        z = torch.conv2d(_grouped(a), W.flatten(0, 1), b, *self._how(), groups=len(W))
        return _apart(z, len(W))

    def outer(self, d):
        G = self._adjoint(_grouped(d), _grouped(self.a), self.W.flatten(0, 1), 1)
        return G.reshape(self.W.shape), d.sum((1, 3, 4))

    def back(self, *terms):
        if self.W.shape[2] == 1:
            return self._back_by_columns(*terms)
        a = _grouped(self.a)
        by_term = (self._adjoint(_grouped(d), a, W.flatten(0, 1), 0) for d, W in terms)
        return _apart(sum(by_term), len(self.W))

    def _back_by_columns(self, *terms):
        """The same as one matrix product for all terms: five times as fast for a grey image."""
        stride, padding, dilation = self._how()
        d = torch.cat([d for d, _ in terms], 2).flatten(3)  # (P, B, terms O, H' W')
        W = torch.cat([W for _, W in terms], 1).flatten(2)  # (P, terms O, C k l)
        columns = W.mT[:, None] @ d  # (P, B, C k l, H' W')
        size, kernel = self.a.shape[-2:], self.layer.kernel_size
        images = F.fold(columns.flatten(0, 1), size, kernel, dilation, padding, stride)
        return images.reshape(self.a.shape)

    def _how(self):
        return self.layer.stride, self.layer.padding, self.layer.dilation

    def _adjoint(self, d, a, W, which):
        """d/da (which = 0) or d/dW (1) of <d, W a>, by the kernels that autograd calls."""
        mask = [which == 0, which == 1, False]
        how = [*map(list, self._how()), False, [0, 0], len(self.W), mask]
        return torch.ops.aten.convolution_backward(d, a, W, None, *how)[which]


def _grouped(a: Tensor) -> Tensor:
    """(P, B, C, H, W) -> (B, P C, H, W)."""
    return a.transpose(0, 1).flatten(1, 2)


def _apart(a: Tensor, P: int) -> Tensor:
    """(B, P C, H, W) -> (P, B, C, H, W)."""
    return a.unflatten(1, (P, -1)).transpose(0, 1)
