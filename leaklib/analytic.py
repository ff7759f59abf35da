"""Closed forms: what a gradient gives away with no optimisation at all."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import labels as label_rules
from ._errors import bad, require
from ._network import copied
from .attacks import CONVERGED, begin
from .chain import recursion
from .client import gradient, logits_shape, state
from .distances import l2
from .leak import Leak, as_stack

__all__ = [
    "EXACT", "DOUBTFUL", "Equations", "Plan", "Inversion", "linear_input", "linear_rows", "plan",
    "invert_network",
]  # fmt: skip

EXACT = 1e-3  # an image of a larger expected error is not converged, whatever it matches
DOUBTFUL = 0.01  # a closed form that rounding one step may move by this part is undetermined


class Equations(NamedTuple):
    """What the input of one layer has to be found from."""

    layer: str  # its name
    kind: str  # its class
    unknowns: int  # entries of its input; 0 where the layer has no weights
    outputs: int  # equations W * x = z - b, one an entry of its output; none of a linear layer
    weights: int  # equations dl/dW = d * x, one an entry of its weights
    repeated: int  # how many of both follow from the others, at least
    cause: str | None  # why it stops the recursion; None where, by counting, it does not

    @property
    def equations(self) -> int:
        return self.outputs + self.weights

    @property
    def differ(self) -> int:
        return self.equations - self.repeated


class Plan(NamedTuple):
    """The systems between a gradient and its image."""

    steps: tuple[Equations, ...]  # in the order of solving, from the last layer to the first
    cause: str | None  # what stops the recursion first, by the layer's name

    @property
    def verdict(self) -> str:
        """A sentence: what stops the recursion, or the size of its largest matrix."""
        if self.cause:
            return f"Stops: {self.cause}."
        n = max((step.unknowns for step in self.steps if step.outputs), default=0)
        matrix = f"; the largest matrix takes {8 * n**2 / 1e9:.2g} GB" if n else ""
        return f"Each layer's input can be solved for, from the last layer to the first{matrix}."


class Inversion(NamedTuple):
    """What the recursion returns for V victims.

    converged: residual < `attacks.CONVERGED`, expected_mse < `EXACT` (below many layers that squash
    all images have nearly one gradient), and all conditions finite.
    """

    images: Tensor  # (V, 1, C, H, W), pixels are not clamped
    labels: Tensor  # (V, 1) class numbers
    residual: Tensor  # (V,) |g(W, x', y') - h|^2 / |h|^2, h the leaked gradient, g evaluated anew
    converged: Tensor  # (V,)
    expected_mse: Tensor  # (V,) mean variance of a pixel, by what makes the equations contradictory
    condition: dict[str, Tensor]  # {layer: (V,)} of each weighted system; infinite: not unique


def linear_input(leak: Leak, layer: str | None = None) -> Tensor:
    """The input x (M,), or (V, M), of a linear layer z = V x + b, for one sample.

    As dl/dV_i = (dl/db_i) x for every row i, least squares give x = sum_i db_i dV_i / sum_i db_i^2.
    The scale cancels, so leaked weights will do: each step of SGD or momentum (not of Adam) on the
    one sample moves V_i along x.  NaN where rounding of W_t - W_{t+1} may be over `DOUBTFUL` of x.
    layer: its name; None is the first with a bias.
    Raises ValueError for a layer without a bias, a gradient whose db is all zero, and a batch.
    Source: Phong et al. 2018 (the ratio of one row).
    """
    came = f"a batch of {leak.batch_size} samples, whose inputs are mixed in every row"
    wanted = "a batch of one; linear_rows(leak) shows the mixtures"
    require(leak.batch_size == 1, "leak", came, wanted)
    dV, db, off_V, off_b = _linear_gradients(leak, layer)
    norm_squared = db.square().sum(-1)  # sum_i db_i^2
    some = leak.kind != "gradient" or (norm_squared != 0).all()
    require(some, "leak", "a bias gradient of all zeros", "a sample that reaches the layer")
    # x = sum_i db_i dV_i / sum_i db_i^2
    x = (db[..., None] * dV).sum(-2) / norm_squared[..., None]
    # var x_j = sum_i db_i^2 (var dV_ij + x_j^2 var db_i) / (sum_i db_i^2)^2
    per_row = off_V.square() + x[..., None, :].square() * off_b[..., None].square()
    error = (db[..., None].square() * per_row).sum(-2) / norm_squared[..., None].square()
    lost = error.sum(-1) > DOUBTFUL**2 * x.square().sum(-1)
    return torch.where(lost[..., None], torch.nan, x)


def linear_rows(leak: Leak, layer: str | None = None) -> Tensor:
    """What each row i of a linear layer says of its inputs: dl/dV_i / (dl/db_i).

    (N, M), or (V, N, M).  Of a batch, with delta_ki = dl/dz_ki, row i is sum_k delta_ki x_k /
    sum_k delta_ki: x_k itself where only sample k reaches unit i, and NaN where none does, or
    rounding hides it.  Raises ValueError for a layer without a bias.  Source: Phong et al. 2018.
    """
    dV, db, off_V, off_b = _linear_gradients(leak, layer)
    error = off_V.square().sum(-1) / dV.square().sum(-1) + off_b.square() / db.square()
    lost = (db == 0) | (error > DOUBTFUL**2)
    return torch.where(lost[..., None], torch.nan, dV / db[..., None])


def _linear_gradients(leak: Leak, layer: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dl/dV (..., N, M) and dl/db (..., N) at any scale, and what rounding may have moved each."""
    known = {w.removesuffix(".weight"): (w, b) for w, b in label_rules.matrices(leak).items() if b}
    for name, (weight, bias) in known.items():
        if layer in (None, name, weight):
            sent, off = leak.direction, leak.rounding
            return sent[weight], sent[bias], off[weight], off[bias]
    came = "no linear layer with bias" if layer is None else repr(layer)
    raise bad("layer", came, f"a linear layer with a bias; this leak has {list(known)}")


def plan(model: nn.Module, shape: Sequence[int]) -> Plan:
    """What `invert_network` would have to solve: unknowns and equations of each layer.

    Too few that differ stop the recursion, and so do a layer that cannot be undone, a network that
    is no chain, a last layer without bias, and a batch.  Unlucky weights repeat more than counted.
    shape (1, C, H, W).  Raises ValueError for images that the network does not take.
    Source: Zhu & Blaschko 2021 (R-GAP) for the systems; what is repeated is our own count.
    """
    # in evaluation mode, for a layer that is random in training is a cause, and no error
    logits_shape(copied(model).eval(), shape, like=next(iter(state(model)[0].values())))
    chain, steps, cause = recursion.stages(model, shape), [], None
    for i, stage in reversed(list(enumerate(chain))):
        stops, counts = recursion.obstacle(chain, i), stage.equations
        if stops or any(counts):
            unknowns, kind = stage.unknowns if any(counts) else 0, type(stage.layer).__name__
            steps.append(Equations(stage.name, kind, unknowns, *counts, stops))
            cause = cause or _told(steps[-1])
    batch = f"a batch of {shape[0]} images, whose gradients are added up"
    return Plan(tuple(steps), cause if shape[0] == 1 else batch)


def _told(step: Equations) -> str | None:
    """What stops the recursion here, with the layer's name, and the counts where they do."""
    if step.cause is None:
        return None
    name = f"{step.kind} {step.layer!r}" if step.layer else step.kind
    counts = (
        f": {step.unknowns:,} unknowns against {step.equations:,} equations, {step.outputs:,} of "
        f"its outputs and {step.weights:,} of its weights, of which {step.repeated:,} follow from "
        f"the others"
    )
    return f"{name} {step.cause}{counts if step.unknowns > step.differ else ''}"


def invert_network(model: nn.Module, leak: Leak, shape: Sequence[int]) -> Inversion:
    """The image behind one gradient, solved for layer by layer: no start, no optimisation.

    For a chain of layers that `chain.LAYERS` can undo, by the formulas of `chain.recursion`.
    shape (1, C, H, W).  Costs a Cholesky factor of 8 n^2 bytes for each convolution with n inputs,
    in float64 on the CPU, one victim after another.
    Raises ValueError for what stops `plan`, a batch, leaked weights, and a gradient of all zeros.
    Source: Zhu & Blaschko 2021 (R-GAP: two classes, no biases); many classes and weights are ours.
    """
    begin.examined(model, leak, shape)
    require(leak.batch_size == 1, "leak", f"a batch of {leak.batch_size} images", "a batch of one")
    came = "weights, whose change is the gradient times a rate"
    require(leak.kind == "gradient", "leak", came, "a gradient")
    cause, chain = plan(model, shape).cause, recursion.stages(model, shape)
    require(not cause, "model", cause, "a chain that plan(model, shape) finds a way through")
    leaks, last = as_stack(leak), chain[-1].name
    some = (leaks.update[f"{last}.bias".removeprefix(".")] != 0).any(-1).all()
    require(some, "leak", f"a gradient of all zeros at {last!r}", "one of an image not yet learned")
    labels = label_rules.idlg(leaks, layer=last)  # (V, 1)
    images, residuals, variances, conditions = [], [], [], []
    for v, y in enumerate(labels.clamp(min=0)):
        parts = (leaks.weights, leaks.update, leaks.buffers)
        W, h, buffers = ({name: t[v] for name, t in tensors.items()} for tensors in parts)
        x, condition = recursion.solve(chain, W, h)
        images.append(x.value.reshape(tuple(shape)).to(next(iter(h.values()))))
        variances.append(x.sd.square().mean())
        conditions.append(condition)
        # in the precision of h: where the network is sure of y, rounding p - y alone can be off by
        # more than CONVERGED; evaluated as the client did, it is off by the same
        again = gradient(model)(W, images[-1], y, buffers)
        nothing = {name: torch.zeros_like(t) for name, t in h.items()}
        residuals.append((l2(again, h) / l2(nothing, h)).double())
    residual, expected = torch.stack(residuals), torch.stack(variances).to(residuals[0])
    condition = {n: residual.new_tensor([c[n] for c in conditions]) for n in conditions[0]}
    determined = torch.stack([c.isfinite() for c in condition.values()]).all(0)
    converged = (residual < CONVERGED) & (expected < EXACT) & (labels >= 0).all(1) & determined
    return Inversion(torch.stack(images), labels, residual, converged, expected, condition)
