"""What a client computes and sends: a `Leak`, which holds neither private images nor labels."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from . import _loss, _network, random
from ._defended import checked_defense, checked_update, defended
from ._errors import bad, count, one_of, positive, require
from ._foreign import trained_and_fixed
from ._loss import Loss
from ._numbers import root
from .leak import Leak, Tensors

__all__ = [
    "Defense", "InPlaceOfGradient", "OnWeights", "Optimizer", "OPTIMIZERS",
    "gradient", "share_gradient", "share_weights", "state", "local_training", "minibatches",
]  # fmt: skip


class InPlaceOfGradient(NamedTuple):
    """A defence by another way to compute: gradient(model, generator, loss) -> g(W, x, y, buffers).

    loss: as in `share_gradient`.
    """

    gradient: Callable[[nn.Module, torch.Generator, Loss], Callable[..., Tensors]]


class OnWeights(NamedTuple):
    """A defence of the new weights themselves and, with `both`, of W_t as the message tells it."""

    change: Callable[[Tensors, torch.Generator], Tensors]
    both: bool = False


Defense = Callable[[Tensors, torch.Generator], Tensors] | InPlaceOfGradient | OnWeights
Optimizer = Literal["sgd", "momentum", "adam"]
OPTIMIZERS = ("sgd", "momentum", "adam")


def gradient(model: nn.Module, loss: Loss = F.cross_entropy) -> Callable[..., Tensors]:
    """The function g(W, x, y) = d/dW loss(F(x; W), y) that a client evaluates on private data.

    W and, as an optional fourth argument, the buffers replace what `model` holds, which is left as
    it is.  x (B, ...).  y: what the loss takes for targets, of cross-entropy class numbers (B,) or
    probabilities (B, C).  loss: differentiable, (outputs, targets) -> a number.

    >>> net, x, y = nn.Linear(2, 3), torch.rand(4, 2), torch.tensor([0, 1, 2, 0])
    >>> gradient(net)(dict(net.named_parameters()), x, y)["bias"].shape
    torch.Size([3])
    """
    return _gradient(_network.function(model), loss)


def _gradient(network: _network.Forward, loss: Loss) -> Callable[..., Tensors]:
    def g(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
        of = lambda W: loss(network(W, buffers or {}, x), y)  # noqa: E731
        if _network.in_transform():
            return grad(of)(W)
        # one problem alone: a fifth less than `grad` costs on small networks, and it takes any
        given = (*W.values(), x, y, *(buffers or {}).values())
        again = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
        with torch.enable_grad():
            W = {n: t if t.requires_grad else t.detach().requires_grad_() for n, t in W.items()}
            of_W = torch.autograd.grad(
                of(W), list(W.values()), create_graph=again, materialize_grads=True
            )
        return dict(zip(W, of_W))

    return g


@torch.inference_mode(False)
def share_gradient(
    model: nn.Module, x: Tensor, y: Tensor, *, loss: Loss = F.cross_entropy,
    defense: Defense | None = None, seed: int = 0,
) -> Leak:  # fmt: skip
    """One step of FedSGD on the client: compute g(W, x, y), defend it, send it.

    x: images (B, ...), floating point.  y: B targets as in `gradient`.  loss: as there.
    defense: (direction, generator) -> direction of what is sent, or `InPlaceOfGradient`.  The
    generator is the stream "noise" of `seed`, and a `random.child` of it for another purpose.
    Raises ValueError for a defence of weights, targets that the loss does not take, a batch that
    does not fit, a network of one output under cross-entropy, whose softmax is always 1, and for
    one that is random or mixes the images of a batch, as dropout and BatchNorm do in training mode.
    """
    if isinstance(defense, OnWeights):
        raise bad("defense", "one of weights, and this is a gradient", "one of gradients")
    g, W, buffers, (x, y), generator = _client(model, x, y, loss, defense, seed)
    sent = g(W, x, y, buffers)
    sent = defended(defense, sent, generator) if callable(defense) else sent
    return Leak(W, sent, "gradient", buffers, len(x))


@torch.inference_mode(False)
def share_weights(
    model: nn.Module, x: Tensor, y: Tensor, *, lr: float, steps: int = 1, epochs: int | None = None,
    batch_size: int | None = None, optimizer: Optimizer = "sgd", loss: Loss = F.cross_entropy,
    defense: Defense | None = None, seed: int = 0,
) -> Leak:  # fmt: skip
    """One round of FedAvg on the client: train from W_t and send the new weights W_{t+1}.

    lr, optimizer: those of `local_training`.  steps: how many; or epochs, passes over the data.
    batch_size: images in a step, reshuffled at each pass by `seed`; None is the full batch.
    defense: of the direction W_t - W_{t+1}, of each step's gradient, or of the new weights.
    The rest, and errors, as in `share_gradient`.  Source: McMahan et al. 2017, Algorithm 1.
    """
    check_training(optimizer, lr=lr, steps=steps, epochs=epochs, batch_size=batch_size)
    g, W_t, buffers, (x, y), generator = _client(model, x, y, loss, defense, seed)
    size = min(batch_size or len(x), len(x))
    steps = steps if epochs is None else epochs * -(-len(x) // size)
    of_rows = lambda W, rows: g(W, x[rows], y[rows], buffers)  # noqa: E731
    batches = minibatches(len(x), size, steps, seed)
    W = local_training(of_rows, W_t, batches, lr=lr, optimizer=optimizer)
    if isinstance(defense, OnWeights):
        W = defended(defense.change, W, generator)
        W_t = defended(defense.change, W_t, generator) if defense.both else W_t
    elif callable(defense):
        moved = defended(defense, {name: W_t[name] - W[name] for name in W}, generator)
        W = {name: W_t[name] - d for name, d in moved.items()}
    return Leak(W_t, W, "weights", buffers, len(x))


def state(model: nn.Module) -> tuple[Tensors, Tensors]:
    """(W, buffers): copies of what trains, and of all else.  ValueError where nothing trains."""
    W, buffers = (
        {name: tensor.detach().clone() for name, tensor in part.items()}
        for part in trained_and_fixed(model)
    )
    return W, buffers


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


def check_images(name: str, x: Tensor) -> None:
    """Raise ValueError unless x is a batch of images, whatever their size."""
    got = f"shape {tuple(x.shape)} of {x.dtype}" if torch.is_tensor(x) else type(x).__name__
    if not torch.is_tensor(x) or x.ndim < 2 or len(x) == 0:
        raise bad(name, got, "a floating-point tensor (B, C, H, W) of at least one image")
    wanted = "floating point: the book covers images and rows of numbers, and no tokens"
    require(x.is_floating_point(), name, got, wanted)
    require(x.isfinite().all(), name, "NaN or infinite entries", "finite numbers")


def check_batch(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss, network: _network.Forward
) -> None:
    """Raise ValueError unless (x, y) is a batch that the model, as `network`, can be trained on."""
    check_images("x", x)
    B = len(x)
    is_batch = torch.is_tensor(y) and y.ndim > 0 and len(y) == B
    got = type(y).__name__
    if torch.is_tensor(y):
        got = f"{len(y)} labels" if y.ndim else "a tensor without an axis"
    require(is_batch, "y", got, f"a tensor of {B} labels, one an image")
    output = _network.examined(model, x.shape, like=x, name="x", network=network)
    check_targets("y", y, loss, output)


def check_targets(name: str, y: Tensor, loss: Loss, output: Tensor) -> None:
    """Raise ValueError unless the loss takes y (B, ...) for the targets of these outputs."""
    if not _loss.takes_classes(loss, output):
        _loss.value(loss, output, y, name)
        return
    shape, got = tuple(output.shape), f"shape {tuple(y.shape)} of {y.dtype}"
    require(len(shape) == 2, "model", f"an output of shape {shape}", "logits (B, C)")
    B, C = shape
    came, wanted = "one output, whose softmax is always 1", "two outputs or more, or another loss"
    require(C > 1, "model", came, wanted)
    if y.is_floating_point():
        soft = y.shape == shape and torch.allclose(y.sum(-1), y.new_ones(B))
        wanted = f"class numbers, torch.int64, or ({B}, {C}) rows that sum to 1"
        require(soft, name, got, wanted)
        return
    require(y.shape == (B,) and y.dtype == torch.int64, name, got, f"shape ({B},) of torch.int64")
    low, high = y.aminmax()
    require(0 <= low <= high < C, name, f"labels {low} to {high}", f"0..{C - 1}")


def check_leak(model: nn.Module, leak: Leak) -> None:
    """Raise ValueError unless the leak holds, in finite numbers, each parameter of the model."""
    W, buffers = state(model)
    lead = () if leak.victims is None else (leak.victims,)
    for part, of_model in (("weights", W), ("update", W), ("buffers", buffers)):
        held, at = getattr(leak, part), f"leak.{part}"
        for name, tensor in of_model.items():
            require(name in held, at, f"no {name!r}", f"the model's names: {list(of_model)}")
            got, where, shape = held[name], f"{at}[{name!r}]", (*lead, *tensor.shape)
            require(got.shape == shape, where, f"shape {tuple(got.shape)}", f"the model's {shape}")
            require(got.isfinite().all(), where, "NaN or infinite entries", "finite numbers")
        unknown = [name for name in held if name not in of_model and part != "buffers"]
        require(not unknown, at, unknown, f"the model's names: {list(of_model)}")


def check_training(optimizer: Optimizer = "sgd", **settings: float | None) -> None:
    """Raise ValueError for an unknown optimizer, and settings that are given and not positive."""
    one_of("optimizer", optimizer, OPTIMIZERS)
    for name, value in settings.items():
        if value is not None:
            (positive if name == "lr" else count)(name, value)


def logits_shape(model: nn.Module, shape: Sequence[int], like: Tensor, name="shape") -> torch.Size:
    """Shape (B, C) of the network's output for images of this shape, or a ValueError."""
    output = _network.examined(model, shape, like, name)
    require(output.ndim == 2, "model", f"an output of shape {tuple(output.shape)}", "logits (B, C)")
    return output.shape


def _client(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss, defense: Defense | None, seed: int
) -> tuple[Callable[..., Tensors], Tensors, Tensors, tuple[Tensor, Tensor], torch.Generator]:
    """(g, W, buffers, (x, y), generator) of a client, whose g a defence may compute otherwise."""
    checked_defense(defense, InPlaceOfGradient, OnWeights)
    network = _network.function(model)  # one copy for both
    check_batch(model, x, y, loss, network)
    generator = random.generator(seed, "noise", x.device)
    g = _gradient(network, loss)
    if isinstance(defense, InPlaceOfGradient):
        own = defense.gradient(model, generator, loss)
        g = lambda W, *batch: checked_update(own(W, *batch), W)  # noqa: E731
    return g, *state(model), (x.detach().clone(), y.detach().clone()), generator
