"""Closed forms: what a gradient gives away with no optimisation at all."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import labels as label_rules
from ._errors import bad
from .attacks import CONVERGED, search
from .chain import recursion
from .client import gradient, logits_shape, state
from .distances import l2
from .leak import Leak, Tensors, stack

EXACT = 1e-3
"""An image whose expected error is above this is not converged, whatever it matches."""


DOUBTFUL = 0.01
"""A closed form whose error by rounding, of one step, may be this part of it is undetermined.

Steps that are alike are rounded alike: after twenty the error may be ten times as large."""


class Equations(NamedTuple):
    """What the input of one layer has to be found from.

    layer, kind  its name, and its class
    unknowns     entries of its input; 0 where the layer has no weights
    outputs      equations W * x = z - b, one an entry of its output; none of a linear layer
    weights      equations dl/dW = d * x, one an entry of its weights
    repeated     how many of them follow from the others, at least
    cause        why it stops the recursion; None where, as far as counting can say, it does not
    """

    layer: str
    kind: str
    unknowns: int
    outputs: int
    weights: int
    repeated: int
    cause: str | None

    @property
    def equations(self) -> int:
        """All equations: outputs + weights."""
        return self.outputs + self.weights

    @property
    def differ(self) -> int:
        """The equations that differ: those that are not repeated."""
        return self.equations - self.repeated

    def __str__(self) -> str:
        """One line: the layer, what is counted, and what stops the recursion here."""
        name = f"{self.layer} ({self.kind})" if self.layer else f"the network ({self.kind})"
        counted = (
            f"{self.unknowns:,} unknowns, {self.equations:,} equations, {self.repeated:,} repeated"
        )
        told = (counted if self.unknowns else None, self.cause)
        return f"{name}: {'; '.join(filter(None, told))}"


class Plan(NamedTuple):
    """The systems between a gradient and its image; prints as a line each, and the verdict.

    steps  in the order of solving, from the last layer to the first
    cause  what stops the recursion first, by the layer's name; None where nothing does
    """

    steps: tuple[Equations, ...]
    cause: str | None

    @property
    def verdict(self) -> str:
        """A sentence: what stops the recursion, or the size of its largest matrix."""
        if self.cause:
            return f"Stops: {self.cause}."
        n = max((step.unknowns for step in self.steps if step.outputs), default=0)
        matrix = f"; the largest matrix takes {8 * n**2 / 1e9:.2g} GB" if n else ""
        return f"Each layer's input can be solved for, from the last layer to the first{matrix}."

    def __repr__(self) -> str:
        lines = [*map(str, self.steps), self.verdict]
        return "\n".join(textwrap.fill(line, 71, subsequent_indent="    ") for line in lines)


class Inversion(NamedTuple):
    """What the recursion returns for V victims.

    images        (V, 1, C, H, W) pixels are not clamped
    labels        (V, 1) class numbers
    residual      (V,) |g(W, x', y') - h|^2 / |h|^2 with h the leaked gradient, evaluated anew
    converged     (V,) whether the residual is below `attacks.CONVERGED`, and the expected error
                  below `EXACT`: under many layers that squash, all images have one gradient,
                  nearly; and no condition infinite
    expected_mse  (V,) the mean variance of a pixel, from the rounding of h, and from whatever else
                  makes the equations contradict each other
    condition     {layer: (V,)} largest over smallest singular value of each system, as weighted;
                  infinite where the equations leave something open
    """

    images: Tensor
    labels: Tensor
    residual: Tensor
    converged: Tensor
    expected_mse: Tensor
    condition: dict[str, Tensor]


def linear_input(leak: Leak, layer: str | None = None) -> Tensor:
    """The input x of a linear layer z = V x + b, for one sample: exact up to rounding.

    dl/dV_i = (dl/db_i) x for every row i, so by least squares over the rows
        x = sum_i db_i dV_i / sum_i db_i^2.
    Returns (M,), or (V, M) for a stack, M the width of the layer's input.  layer: its name; None is
    the first linear layer, which in a fully connected network reads the image itself.

    The scale of the gradient cancels, so that weights which a client sends will do: each step of
    SGD or momentum on the one sample moves V_i along x.  (Adam rescales each entry by itself, and
    gives something else.)  Rounding of W_t - W_{t+1} may hide x: NaN where its error, as far as
    `leak.rounding` tells, is more than `DOUBTFUL` of x.

    Raises ValueError for a layer without weight or bias, for a gradient whose db is all zero (the
    sample does not reach the layer), and for a batch: each row then holds another mixture of the
    batch's inputs, sum_k delta_ki x_k / sum_k delta_ki, which `linear_rows` returns.
    Source: Phong et al. 2018 (the ratio of one row).
    """
    if leak.batch_size != 1:
        raise bad(
            "leak",
            f"a batch of {leak.batch_size} samples, whose inputs are mixed in every row",
            "a batch of one; linear_rows(leak) shows the mixtures",
        )
    dV, db, off_V, off_b = _linear_gradients(leak, layer)
    norm_squared = db.square().sum(-1)  # sum_i db_i^2
    if leak.kind == "gradient" and (norm_squared == 0).any():
        raise bad("leak", "a bias gradient of all zeros", "a sample that reaches the layer")
    # x = sum_i db_i dV_i / sum_i db_i^2
    x = (db[..., None] * dV).sum(-2) / norm_squared[..., None]
    # var x_j = sum_i db_i^2 (var dV_ij + x_j^2 var db_i) / (sum_i db_i^2)^2
    per_row = off_V.square() + x[..., None, :].square() * off_b[..., None].square()
    error = (db[..., None].square() * per_row).sum(-2) / norm_squared[..., None].square()
    lost = error.sum(-1) > DOUBTFUL**2 * x.square().sum(-1)
    return torch.where(lost[..., None], torch.nan, x)


def linear_rows(leak: Leak, layer: str | None = None) -> Tensor:
    """What each row i of a linear layer says of its inputs: dl/dV_i / (dl/db_i).

    For one sample every row is x.  For a batch row i is sum_k delta_ki x_k / sum_k delta_ki, with
    delta_ki = dl/dz_ki: a weighted mean, and x_k itself where only sample k reaches unit i.
    Returns (N, M), or (V, N, M) for a stack; NaN in rows that no sample reaches, or that rounding
    hides, as in `linear_input`.
    Source: the chain rule; Phong et al. 2018 for one sample.
    """
    dV, db, off_V, off_b = _linear_gradients(leak, layer)
    error = off_V.square().sum(-1) / dV.square().sum(-1) + off_b.square() / db.square()
    lost = (db == 0) | (error > DOUBTFUL**2)
    return torch.where(lost[..., None], torch.nan, dV / db[..., None])


def _linear_gradients(leak: Leak, layer: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dl/dV (..., N, M) and dl/db (..., N) at any scale, and what rounding may have moved each."""
    matrices = 2 if leak.victims is None else 3
    pairs = {
        name: f"{name.removesuffix('weight')}bias"
        for name, W in leak.weights.items()
        if W.ndim == matrices and name.endswith("weight")
    }
    found = {weight: bias for weight, bias in pairs.items() if bias in leak.weights}
    named = [w for w in found if layer is None or w in (layer, f"{layer}.weight")]
    if not named:
        came = "no linear layer with bias" if layer is None else repr(layer)
        known = [weight.removesuffix(".weight") for weight in found]
        raise bad("layer", came, f"a linear layer with a bias; this leak has {known}")
    weight, bias = named[0], found[named[0]]
    names, of = (weight, bias), (leak.direction, leak.rounding)
    return tuple(tensors[name] for tensors in of for name in names)


def plan(model: nn.Module, shape: Sequence[int]) -> Plan:
    """What `invert_network` would have to solve: unknowns and equations of each layer.

    A convolution's input has C H W unknowns, for which there are its outputs and the entries of its
    weights' gradient; a linear layer's has n, each of them in every row of its weights' gradient.
    Some of these say the same: r s of a convolution's do, for r = min(filters, weights of each)
    and s = min(filters, places), since sum d_o (W_p * x) = sum W_p (d_o * x) for each two filters.
    Too few that differ stop the recursion, and so does a layer that cannot be undone (ReLU,
    pooling, normalisation, dropout in training mode), a network that is no chain, a last layer
    without bias, and a batch of more than one.  For unlucky weights even more may say the same.

    shape (1, C, H, W).  Raises ValueError for images that the network does not take.
    Source: Zhu & Blaschko 2021 (R-GAP) for the systems; what is repeated is our own count.
    """
    logits_shape(model, shape, like=next(iter(state(model)[0].values())))
    chain = recursion.stages(model, shape)
    steps = []
    for i, stage in reversed(list(enumerate(chain))):
        cause, equations = recursion.obstacle(chain, i), stage.equations
        if cause or any(equations):
            counts = (stage.unknowns if any(equations) else 0, *equations)
            steps.append(Equations(stage.name, type(stage.layer).__name__, *counts, cause))
    cause = next((_told(step) for step in steps if step.cause), None)
    if shape[0] != 1:
        cause = f"a batch of {shape[0]} images, whose gradients are added up"
    return Plan(tuple(steps), cause)


def _told(step: Equations) -> str:
    told = f"{step.kind} {step.layer!r} {step.cause}" if step.layer else f"{step.kind} {step.cause}"
    if step.unknowns <= step.differ:  # it is something else
        return told
    return (
        f"{told}: {step.unknowns:,} unknowns against {step.equations:,} equations, "
        f"{step.outputs:,} of its outputs and {step.weights:,} of its weights, "
        f"of which {step.repeated:,} follow from the others"
    )


def invert_network(model: nn.Module, leak: Leak, shape: Sequence[int]) -> Inversion:
    """The image behind one gradient, solved for layer by layer: no start, no optimisation.

    From the last layer to the first, with d = dl/dz of a layer z = W x + b and x = s(z) below it:
        linear       x = (dl/dW)' d / |d|^2, d = dl/db where there is a bias
        convolution  W * x = z - b and d * x = dl/dW, by least squares
        activation   z = s^-1(x), d = s'(z) (W' d of the layer above)
    for a chain of linear layers, convolutions, and activations that `chain.LAYERS` can undo.
    An equation weighs as much as the rounding of the gradient leaves it exact.

    shape (1, C, H, W).  The cost is that of a Cholesky factor of 8 n^2 bytes for each convolution
    with n inputs, in float64 on the CPU, one victim after another.
    Raises ValueError where `plan` finds something in the way, for a batch, for leaked weights
    (their scale, the learning rate, is not known), and for a gradient of all zeros.
    Source: Zhu & Blaschko 2021 (R-GAP: two classes, no biases); many classes and weights are ours.
    """
    search.check(model, leak, shape)
    if leak.batch_size != 1:
        raise bad("leak", f"a batch of {leak.batch_size} images", "a batch of one")
    if leak.kind != "gradient":
        raise bad("leak", "weights, whose change is the gradient times a rate", "a gradient")
    way = plan(model, shape)
    if way.cause:
        raise bad("model", way.cause, "a chain that plan(model, shape) finds a way through")
    chain = recursion.stages(model, shape)
    leaks = leak if leak.victims is not None else stack([leak])
    last = chain[-1].name
    if (leaks.direction[f"{last}.bias".removeprefix(".")] == 0).all(-1).any():
        raise bad("leak", f"a gradient of all zeros at {last!r}", "one of an image not yet learned")
    labels = label_rules.idlg(leaks, layer=last)  # (V, 1)
    images, variances, conditions, residuals = [], [], [], []
    for v in range(leaks.victims):
        W, h = ({n: t[v] for n, t in ts.items()} for ts in (leaks.weights, leaks.direction))
        x, condition = recursion.solve(chain, W, h)
        images.append(x.value.reshape(tuple(shape)).to(next(iter(h.values()))))
        variances.append(x.sd.square().mean())
        conditions.append(condition)
        buffers = {n: t[v] for n, t in leaks.buffers.items()}
        residuals.append(_residual(model, W, images[-1], labels[v].clamp(min=0), buffers, h))
    residual = torch.stack(residuals)
    expected = torch.stack(variances).to(residual)
    condition = {n: residual.new_tensor([c[n] for c in conditions]) for n in conditions[0]}
    determined = torch.stack([c.isfinite() for c in condition.values()]).all(0)
    return Inversion(
        images=torch.stack(images),
        labels=labels,
        residual=residual,
        converged=(residual < CONVERGED) & (expected < EXACT) & (labels >= 0).all(1) & determined,
        expected_mse=expected,
        condition=condition,
    )


def _residual(
    model: nn.Module, W: Tensors, x: Tensor, y: Tensor, buffers: Tensors, h: Tensors
) -> Tensor:
    """|g(W, x, y) - h|^2 / |h|^2, in the precision of h.

    Where the network is sure of y, rounding p - y alone can be off by more than `CONVERGED` allows;
    evaluated as the client did, it is off by the same.
    """
    zero = {name: torch.zeros_like(t) for name, t in h.items()}
    return (l2(gradient(model)(W, x, y, buffers), h) / l2(zero, h)).double()
