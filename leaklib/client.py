"""What a client computes and sends.

The whole message is a `Leak`.  What the server, or anyone who reads the wire, is assumed to hold
is in it, and nothing else: the private images and labels are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad

from ._errors import bad

Tensors = dict[str, Tensor]
Defense = Callable[[Tensors, torch.Generator], Tensors]


@dataclass(frozen=True)
class Leak:
    """What crosses the wire in one round, and what the server sent before it.

    weights    {name: tensor} W_t, the weights that the client started from
    update     {name: tensor} what the client sent: the gradient, or its new weights W_{t+1}
    kind       "gradient" or "weights": which of the two `update` is
    buffers    {name: tensor} what else the network holds: running statistics, frozen parameters
    batch_size number of images B behind the update
    victims    None for one client; V for a stack, whose tensors all gain a leading axis of V
    """

    weights: Tensors
    update: Tensors
    kind: Literal["gradient", "weights"] = "gradient"
    buffers: Tensors = field(default_factory=dict)
    batch_size: int = 1
    victims: int | None = None

    @property
    def direction(self) -> Tensors:
        """What an attack matches, the same for both kinds: the gradient, or W_t - W_{t+1}."""
        if self.kind == "gradient":
            return self.update
        return {name: self.weights[name] - new for name, new in self.update.items()}


def gradient(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy):
    """The function g(W, x, y) = d/dW loss(F(x; W), y) that a client evaluates on private data.

    W {name: tensor} and an optional fourth argument, the buffers {name: tensor}, replace whatever
    `model` holds: the model is only the architecture.  x (B, ...), y (B,) class numbers or (B, C)
    probabilities.  Returns {name: tensor} in the order of W, a mean over the batch.
    """

    def objective(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors) -> Tensor:
        return loss(functional_call(model, (W, buffers), (x,)), y)

    def g(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
        return grad(objective)(W, x, y, buffers or {})

    return g


def share_gradient(
    model: nn.Module, x: Tensor, y: Tensor, *, defense: Defense | None = None, seed: int = 0
) -> Leak:
    """One step of FedSGD on the client: compute g(W, x, y), defend it, send it.

    x (B, ...) floating point, y (B,) int64 class numbers, or (B, C) probabilities (soft labels).
    `defense(direction, generator)` changes what is sent; the generator is seeded by `seed`.
    Raises ValueError for integer images, an empty batch, labels out of range, a shape that the
    network cannot take, and layers whose training mode breaks the mathematics (BatchNorm, dropout).
    """
    check_batch(model, x, y)
    W, buffers = state(model)
    update = gradient(model)(W, x, y, buffers)
    return Leak(W, _defended(update, defense, x, seed), "gradient", buffers, len(x))


def share_weights(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    lr: float,
    steps: int = 1,
    epochs: int | None = None,
    batch_size: int | None = None,
    defense: Defense | None = None,
    seed: int = 0,
) -> Leak:
    """One round of FedAvg on the client: train from W_t by SGD and send the new weights W_{t+1}.

    W <- W - lr g(W, x_b, y_b), for `steps` steps, or for `epochs` passes over the data when given.
    Mini-batches of `batch_size` images are reshuffled each pass by `seed`; None is the full batch.
    A defence acts on the direction W_t - W_{t+1}.  Arguments and errors otherwise as in
    `share_gradient`; lr, steps, epochs and batch_size must be positive.
    Source: McMahan et al. 2017, Algorithm 1.
    """
    check_batch(model, x, y)
    for name, value in dict(lr=lr, steps=steps, epochs=epochs, batch_size=batch_size).items():
        if value is not None and not value > 0:
            raise bad(name, value, "a positive number")
    W_t, buffers = state(model)
    g, W = gradient(model), W_t
    size = min(batch_size or len(x), len(x))
    if epochs is not None:
        steps = epochs * -(-len(x) // size)
    for rows in _minibatches(len(x), size, steps, seed):
        W = {name: W[name] - lr * d for name, d in g(W, x[rows], y[rows], buffers).items()}
    if defense is not None:
        moved = {name: W_t[name] - W[name] for name in W}
        W = {name: W_t[name] - d for name, d in _defended(moved, defense, x, seed).items()}
    return Leak(W_t, W, "weights", buffers, len(x))


def stack(leaks: Sequence[Leak]) -> Leak:
    """V leaks of the same network as one `Leak`, so that an attack runs on all of them at once.

    Every tensor (…) becomes (V, …).  Raises ValueError when the leaks do not fit together.
    """
    leaks = list(leaks)
    if not leaks:
        raise bad("leaks", "an empty list", "at least one Leak")
    first = leaks[0]
    for i, leak in enumerate(leaks):
        if leak.victims is not None:
            raise bad(f"leaks[{i}]", "a stack", "single leaks")
        for what in ("kind", "batch_size"):
            if getattr(leak, what) != getattr(first, what):
                raise bad(f"leaks[{i}].{what}", getattr(leak, what), f"{getattr(first, what)}")
        for what in ("weights", "update", "buffers"):
            if _shapes(getattr(leak, what)) != _shapes(getattr(first, what)):
                raise bad(f"leaks[{i}].{what}", "other names or shapes", "those of leaks[0]")
    pile = {
        what: {k: torch.stack([getattr(leak, what)[k] for leak in leaks]) for k in _shapes(tensors)}
        for what, tensors in [(f.name, getattr(first, f.name)) for f in fields(Leak)]
        if isinstance(tensors, dict)
    }
    return Leak(**pile, kind=first.kind, batch_size=first.batch_size, victims=len(leaks))


def some(leaks: Leak, rows: slice | Sequence[int]) -> Leak:
    """Some of the victims of a stack, as a stack.

    Raises ValueError for a single leak, or where no victim is left.
    """
    if leaks.victims is None:
        raise bad("leaks", "a single Leak", "a stack")
    kept = {
        f.name: {name: tensor[rows] for name, tensor in getattr(leaks, f.name).items()}
        for f in fields(Leak)
        if isinstance(getattr(leaks, f.name), dict)
    }
    victims = len(torch.arange(leaks.victims)[rows])
    if victims == 0:
        raise bad("rows", rows, f"some of the {leaks.victims} victims")
    return replace(leaks, **kept, victims=victims)


def state(model: nn.Module) -> tuple[Tensors, Tensors]:
    """(W, buffers): the trainable parameters of a model, and all else it holds, detached."""
    W = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    buffers = {n: b.detach().clone() for n, b in model.named_buffers()}
    if not W:
        raise bad("model", "no trainable parameter", "a network with parameters to learn")
    return W, frozen | buffers


def check_model(model: nn.Module) -> None:
    """Raise ValueError for layers whose training mode breaks the mathematics of an attack."""
    for name, module in model.named_modules():
        if not module.training:
            continue
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise bad(
                "model",
                f"BatchNorm layer {name!r} in training mode, which mixes the images of a batch",
                "model.eval(), so that it uses its running statistics",
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise bad(
                "model",
                f"dropout layer {name!r} in training mode, which makes the gradient random",
                "model.eval(), or dropout with p = 0",
            )


def check_batch(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless (x, y) is a batch that the network can be trained on."""
    check_model(model)
    if not torch.is_tensor(x) or not x.is_floating_point():
        came = x.dtype if torch.is_tensor(x) else type(x).__name__
        raise bad("x", came, "a floating-point tensor of images in [0, 1], (B, C, H, W)")
    if x.ndim < 2 or len(x) == 0:
        raise bad("x", f"shape {tuple(x.shape)}", "at least one image, (B, C, H, W)")
    if not torch.is_tensor(y) or len(y) != len(x):
        came = f"{len(y)} labels" if torch.is_tensor(y) else type(y).__name__
        raise bad("y", came, f"a tensor of {len(x)} labels, one an image")
    classes = logits_shape(model, x.shape, like=x, name="x")[-1]
    if y.is_floating_point():
        if y.shape != (len(x), classes) or not torch.allclose(y.sum(-1), y.new_ones(len(y))):
            raise bad("y", f"shape {tuple(y.shape)}", f"({len(x)}, {classes}) rows that sum to 1")
    elif y.ndim != 1 or y.dtype != torch.int64:
        raise bad("y", f"shape {tuple(y.shape)} of {y.dtype}", f"shape ({len(x)},) of torch.int64")
    elif y.min() < 0 or y.max() >= classes:
        raise bad("y", f"labels {y.min()} to {y.max()}", f"labels in 0..{classes - 1}")


def check_leak(model: nn.Module, leak: Leak) -> None:
    """Raise ValueError unless the leak holds, in finite numbers, each parameter of the model."""
    check_model(model)
    lead = () if leak.victims is None else (leak.victims,)
    W, buffers = state(model)
    for what, wanted in (("weights", W), ("update", W), ("buffers", buffers)):
        tensors = getattr(leak, what)
        for name, tensor in wanted.items():
            if name not in tensors:
                raise bad(
                    f"leak.{what}", f"no {name!r}", f"every name of the model: {list(wanted)}"
                )
            if tensors[name].shape != lead + tensor.shape:
                raise bad(
                    f"leak.{what}[{name!r}]",
                    f"shape {tuple(tensors[name].shape)}",
                    f"the model's shape {tuple(lead + tensor.shape)}",
                )
            if tensors[name].is_floating_point() and not tensors[name].isfinite().all():
                raise bad(f"leak.{what}[{name!r}]", "NaN or infinite entries", "finite numbers")


def logits_shape(
    model: nn.Module, shape: Sequence[int], like: Tensor, name: str = "shape"
) -> torch.Size:
    """Shape (B, C) of the network's output for images of this shape, or a ValueError."""
    try:
        with torch.no_grad():
            logits = model(torch.zeros(*shape, dtype=like.dtype, device=like.device))
    except (RuntimeError, ValueError, IndexError) as error:
        came = f"{tuple(shape)} of {like.dtype}"
        raise bad(name, came, f"images that the network takes ({error})") from error
    if logits.ndim != 2 or len(logits) != shape[0]:
        raise bad("model", f"an output of shape {tuple(logits.shape)}", "logits (B, C)")
    return logits.shape


def _defended(direction: Tensors, defense: Defense | None, x: Tensor, seed: int) -> Tensors:
    if defense is None:
        return direction
    return defense(direction, torch.Generator(device=x.device).manual_seed(seed))


def _minibatches(n: int, size: int, steps: int, seed: int):
    """`steps` index sets of `size` of n images, reshuffled at each pass (none left out)."""
    generator = torch.Generator().manual_seed(seed)
    queue: list[Tensor] = []
    for _ in range(steps):
        if not queue:
            order = torch.arange(n) if size == n else torch.randperm(n, generator=generator)
            queue = list(order.split(size))
        yield queue.pop(0)


def _shapes(tensors: Tensors) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
