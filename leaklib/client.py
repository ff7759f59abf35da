"""What a client computes and sends: a `Leak`, which holds neither private images nor labels."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad

from . import random
from ._errors import bad, one_of, positive, require
from ._numbers import root
from .leak import Leak, Tensors

__all__ = [
    "Defense", "InPlaceOfGradient", "OnWeights", "Optimizer", "OPTIMIZERS",
    "gradient", "share_gradient", "share_weights", "state", "local_training", "minibatches",
]  # fmt: skip


class InPlaceOfGradient(NamedTuple):
    """A defence by another way to compute: gradient(model, generator) -> g(W, x, y, buffers)."""

    gradient: Callable[[nn.Module, torch.Generator], Callable[..., Tensors]]


class OnWeights(NamedTuple):
    """A defence of the new weights themselves and, with `both`, of W_t as the message tells it."""

    change: Callable[[Tensors, torch.Generator], Tensors]
    both: bool = False


Defense = Callable[[Tensors, torch.Generator], Tensors] | InPlaceOfGradient | OnWeights
Optimizer = Literal["sgd", "momentum", "adam"]
OPTIMIZERS = ("sgd", "momentum", "adam")


def gradient(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
) -> Callable[..., Tensors]:
    """The function g(W, x, y) = d/dW loss(F(x; W), y) that a client evaluates on private data.

    W and, as an optional fourth argument, the buffers replace what `model` holds.  x (B, ...), y
    (B,) class numbers or (B, C) probabilities.  loss(logits, y) is a mean over the batch.
    """

    def g(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
        return grad(lambda W: loss(functional_call(model, (W, buffers or {}), (x,)), y))(W)

    return g


def share_gradient(
    model: nn.Module, x: Tensor, y: Tensor, *, defense: Defense | None = None, seed: int = 0
) -> Leak:
    """One step of FedSGD on the client: compute g(W, x, y), defend it, send it.

    x: images (B, ...), floating point.  y: class numbers (B,), int64, or soft labels (B, C).
    defense: (direction, generator) -> direction of what is sent, or `InPlaceOfGradient`.  The
    generator is the stream "noise" of `seed`, and a `random.child` of it for another purpose.
    Raises ValueError for a defence of weights, a batch that does not fit, and BatchNorm or dropout
    in training mode.
    """
    g, W, buffers, generator = _client(model, x, y, defense, seed)
    if isinstance(defense, OnWeights):
        raise bad("defense", "one of weights, and this is a gradient", "one of gradients")
    sent = g(W, x, y, buffers)
    sent = defense(sent, generator) if callable(defense) else sent
    return Leak(W, sent, "gradient", buffers, len(x))


def share_weights(
    model: nn.Module, x: Tensor, y: Tensor, *, lr: float, steps: int = 1, epochs: int | None = None,
    batch_size: int | None = None, optimizer: Optimizer = "sgd", defense: Defense | None = None,
    seed: int = 0,
) -> Leak:  # fmt: skip
    """One round of FedAvg on the client: train from W_t and send the new weights W_{t+1}.

    lr, optimizer: those of `local_training`.  steps: how many; or epochs, passes over the data.
    batch_size: images in a step, reshuffled at each pass by `seed`; None is the full batch.
    defense: of the direction W_t - W_{t+1}, of each step's gradient, or of the new weights.
    The rest, and errors, as in `share_gradient`.  Source: McMahan et al. 2017, Algorithm 1.
    """
    check_training(optimizer, lr=lr, steps=steps, epochs=epochs, batch_size=batch_size)
    g, W_t, buffers, generator = _client(model, x, y, defense, seed)
    size = min(batch_size or len(x), len(x))
    steps = steps if epochs is None else epochs * -(-len(x) // size)
    of_rows = lambda W, rows: g(W, x[rows], y[rows], buffers)  # noqa: E731
    batches = minibatches(len(x), size, steps, seed)
    W = local_training(of_rows, W_t, batches, lr=lr, optimizer=optimizer)
    if isinstance(defense, OnWeights):
        W = defense.change(W, generator)
        W_t = defense.change(W_t, generator) if defense.both else W_t
    elif callable(defense):
        moved = defense({name: W_t[name] - W[name] for name in W}, generator)
        W = {name: W_t[name] - d for name, d in moved.items()}
    return Leak(W_t, W, "weights", buffers, len(x))


def state(model: nn.Module) -> tuple[Tensors, Tensors]:
    """(W, buffers): copies of what trains, and of all else.  ValueError where nothing trains."""
    parameters = dict(model.named_parameters())
    W = {name: p.detach().clone() for name, p in parameters.items() if p.requires_grad}
    require(W, "model", "no trainable parameter", "a network with parameters to learn")
    held = {**parameters, **dict(model.named_buffers())}
    return W, {name: t.detach().clone() for name, t in held.items() if name not in W}


def local_training(
    g: Callable[[Tensors, Tensor], Tensors], W: Tensors, batches: Iterable[Tensor],
    *, lr: float, optimizer: Optimizer = "sgd",
) -> Tensors:  # fmt: skip
    """The weights after a step for each of the `batches`, with the gradient g(W, batch).

        "sgd"       W <- W - lr g
        "momentum"  v <- 0.9 v + g;  W <- W - lr v
        "adam"      m <- 0.9 m + 0.1 g;  v <- 0.999 v + 0.001 g^2;
                    W <- W - lr m^ / (sqrt(v^) + 1e-8),  m^ = m / (1 - 0.9^t), v^ likewise

    As in `torch.optim`, but differentiable, for an attacker's guess.  ValueError for another.
    """
    check_training(optimizer)
    m = v = {name: torch.zeros_like(tensor) for name, tensor in W.items()}
    for t, batch in enumerate(batches, start=1):
        step = g(W, batch)
        if optimizer == "momentum":
            step = v = {name: 0.9 * v[name] + d for name, d in step.items()}
        elif optimizer == "adam":
            m = {name: 0.9 * m[name] + 0.1 * d for name, d in step.items()}
            v = {name: 0.999 * v[name] + 0.001 * d.square() for name, d in step.items()}
            # m^ / (sqrt(v^) + 1e-8)
            step = {n: m[n] / (1 - 0.9**t) / (root(v[n] / (1 - 0.999**t)) + 1e-8) for n in W}
        W = {name: W[name] - lr * d for name, d in step.items()}
    return W


def minibatches(n: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """`steps` index sets of `size` of n images, reshuffled by seed at each pass, none left out."""
    generator, queue = random.generator(seed, "batches"), []
    for _ in range(steps):
        if not queue:
            order = torch.arange(n) if size == n else torch.randperm(n, generator=generator)
            queue = list(order.split(size))
        yield queue.pop(0)


def check_model(model: nn.Module) -> None:
    """Raise ValueError for layers whose training mode breaks the mathematics of an attack."""
    for name, module in model.named_modules():
        mixes = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        came = f"BatchNorm layer {name!r} in training mode, which mixes the images of a batch"
        require(not mixes, "model", came, "model.eval(), so that it uses its running statistics")
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p
        came = f"dropout layer {name!r} in training mode, which makes the gradient random"
        require(not drops, "model", came, "model.eval(), or dropout with p = 0")


def check_batch(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless (x, y) is a batch that the network can be trained on."""
    check_model(model)
    check_images("x", x)
    B = len(x)
    got = f"{len(y)} labels" if torch.is_tensor(y) else type(y).__name__
    require(torch.is_tensor(y) and len(y) == B, "y", got, f"a tensor of {B} labels, one an image")
    classes = logits_shape(model, x.shape, like=x, name="x")[-1]
    got = f"shape {tuple(y.shape)} of {y.dtype}"
    if y.is_floating_point():
        soft = y.shape == (B, classes) and torch.allclose(y.sum(-1), y.new_ones(B))
        require(soft, "y", got, f"({B}, {classes}) rows that sum to 1")
        return
    require(y.shape == (B,) and y.dtype == torch.int64, "y", got, f"shape ({B},) of torch.int64")
    low, high = y.aminmax()
    require(0 <= low <= high < classes, "y", f"labels {low} to {high}", f"0..{classes - 1}")


def check_images(name: str, x: Tensor) -> None:
    """Raise ValueError unless x is a batch of images, whatever their size."""
    if not torch.is_tensor(x) or not x.is_floating_point() or x.ndim < 2 or len(x) == 0:
        got = f"shape {tuple(x.shape)} of {x.dtype}" if torch.is_tensor(x) else type(x).__name__
        raise bad(name, got, "a floating-point tensor (B, C, H, W) of at least one image")


def check_leak(model: nn.Module, leak: Leak) -> None:
    """Raise ValueError unless the leak holds, in finite numbers, each parameter of the model."""
    check_model(model)
    W, buffers = state(model)
    lead = () if leak.victims is None else (leak.victims,)
    for part, of_model in (("weights", W), ("update", W), ("buffers", buffers)):
        for name, tensor in of_model.items():
            held, at, shape = getattr(leak, part), f"leak.{part}", (*lead, *tensor.shape)
            require(name in held, at, f"no {name!r}", f"the model's names: {list(of_model)}")
            got, at = held[name], f"{at}[{name!r}]"
            require(got.shape == shape, at, f"shape {tuple(got.shape)}", f"the model's {shape}")
            require(got.isfinite().all(), at, "NaN or infinite entries", "finite numbers")


def check_training(optimizer: Optimizer = "sgd", **settings: float | None) -> None:
    """Raise ValueError for an unknown optimizer, and settings that are given and not positive."""
    one_of("optimizer", optimizer, OPTIMIZERS)
    for name, value in settings.items():
        positive(name, 1 if value is None else value)


@torch.no_grad()
def logits_shape(model: nn.Module, shape: Sequence[int], like: Tensor, name="shape") -> torch.Size:
    """Shape (B, C) of the network's output for images of this shape, or a ValueError."""
    try:
        logits = model(torch.zeros(*shape, dtype=like.dtype, device=like.device))
    except (RuntimeError, ValueError, IndexError) as error:
        got = f"{tuple(shape)} of {like.dtype}"
        raise bad(name, got, f"images that the network takes ({error})") from error
    fit = logits.ndim == 2 and len(logits) == shape[0]
    require(fit, "model", f"an output of shape {tuple(logits.shape)}", "logits (B, C)")
    return logits.shape


def _client(
    model: nn.Module, x: Tensor, y: Tensor, defense: Defense | None, seed: int
) -> tuple[Callable[..., Tensors], Tensors, Tensors, torch.Generator]:
    """(g, W, buffers, generator) of a client, whose g a defence may compute in another way."""
    check_batch(model, x, y)
    generator = random.generator(seed, "noise", x.device)
    in_place = isinstance(defense, InPlaceOfGradient)
    g = defense.gradient(model, generator) if in_place else gradient(model)
    return g, *state(model), generator
