"""What a client computes and sends.

The whole message is a `Leak`.  What the server, or anyone who reads the wire, is assumed to hold
is in it, and nothing else: the private images and labels are not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, NamedTuple

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad

from . import _training
from ._errors import bad

Tensors = dict[str, Tensor]


class InPlaceOfGradient(NamedTuple):
    """A defence that computes the update in another way: `defenses.dp_sgd`, `defenses.soteria`.

    gradient(model, generator) -> g(W, x, y, buffers), which takes the place of `client.gradient`.
    """

    gradient: Callable[[nn.Module, torch.Generator], Callable[..., Tensors]]


class OnWeights(NamedTuple):
    """A defence of the new weights themselves, not of W_t - W_{t+1}: `defenses.weights_noise`, …

    change(weights, generator) -> weights.  both: the weights that the client started from are
    changed too, in the message that tells of them, and not in the client's own training.
    """

    change: Callable[[Tensors, torch.Generator], Tensors]
    both: bool = False


Defense = Callable[[Tensors, torch.Generator], Tensors] | InPlaceOfGradient | OnWeights
Optimizer, OPTIMIZERS = _training.Optimizer, _training.OPTIMIZERS
check_training, local_training = _training.check_training, _training.local_training


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

    def save(self, path: str | Path) -> Path:
        """Write the leak as a safetensors file, which `load` reads, and return its path.

        A header of JSON says what is not a tensor.  The file is written aside and then renamed, so
        that there is never half of one.  Raises OSError where it cannot be written.
        """
        path = Path(path)
        tensors = {
            f"{what}/{name}": tensor.contiguous()
            for what in ("weights", "update", "buffers")
            for name, tensor in getattr(self, what).items()
        }
        # the file format sorts its tensors, and which layer is the last one is told by their order
        header = dict(kind=self.kind, batch_size=self.batch_size, victims=self.victims)
        header["names"] = list(tensors)
        content = safetensors.torch.save(tensors, metadata={"leak": json.dumps(header)})
        aside = path.with_name(path.name + ".partial")
        try:
            aside.write_bytes(content)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        return path

    @property
    def direction(self) -> Tensors:
        """What an attack matches, the same for both kinds: the gradient, or W_t - W_{t+1}."""
        if self.kind == "gradient":
            return self.update
        return {name: self.weights[name] - new for name, new in self.update.items()}

    @property
    def rounding(self) -> Tensors:
        """How far each entry of `direction` may be off, for new weights are rounded when kept.

        0 of a gradient; of weights one unit in the last place of the larger of the two, within
        which a few local steps stay.
        """
        if self.kind == "gradient":
            return {name: torch.zeros_like(tensor) for name, tensor in self.update.items()}
        W, up = self.weights, torch.tensor(torch.inf)
        larger = {n: torch.maximum(W[n].abs(), new.abs()) for n, new in self.update.items()}
        return {n: size.nextafter(up.to(size)) - size for n, size in larger.items()}


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
    `defense(direction, generator)` changes what is sent; the generator is seeded by `seed`.  Or it
    computes the gradient in another way (`defenses.dp_sgd`, `defenses.soteria`).
    Raises ValueError for a defence of weights, integer images, an empty batch, labels out of range,
    a shape that the network cannot take, and layers whose training mode breaks the mathematics
    (BatchNorm, dropout).
    """
    check_batch(model, x, y)
    if isinstance(defense, OnWeights):
        raise bad("defense", "one of weights, and this is a gradient", "one of gradients")
    W, buffers = state(model)
    g, defend = _parts(model, defense, torch.Generator(device=x.device).manual_seed(seed))
    return Leak(W, defend(g(W, x, y, buffers)), "gradient", buffers, len(x))


def share_weights(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    lr: float,
    steps: int = 1,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Optimizer = "sgd",
    defense: Defense | None = None,
    seed: int = 0,
) -> Leak:
    """One round of FedAvg on the client: train from W_t and send the new weights W_{t+1}.

    `steps` steps of `local_training`, or `epochs` passes over the data when given.  Mini-batches of
    `batch_size` images are reshuffled each pass by `seed`; None is the full batch.
    A defence acts on the direction W_t - W_{t+1}, on the gradient of each step (`dp_sgd`,
    `soteria`), or on the weights themselves (`weights_noise`, …).  Arguments and errors otherwise
    as in `share_gradient`; lr, steps, epochs and batch_size must be positive, and the optimizer
    known.
    Source: McMahan et al. 2017, Algorithm 1.
    """
    check_batch(model, x, y)
    check_training(lr=lr, steps=steps, epochs=epochs, batch_size=batch_size)
    W_t, buffers = state(model)
    size = min(batch_size or len(x), len(x))
    if epochs is not None:
        steps = epochs * -(-len(x) // size)
    generator = torch.Generator(device=x.device).manual_seed(seed)
    g, defend = _parts(model, defense, generator)
    W = local_training(
        lambda W, rows: g(W, x[rows], y[rows], buffers),
        W_t, _training.minibatches(len(x), size, steps, seed), lr=lr, optimizer=optimizer,
    )  # fmt: skip
    if isinstance(defense, OnWeights):
        W = defense.change(W, generator)
        W_t = defense.change(W_t, generator) if defense.both else W_t
    elif defend is not _as_it_is:
        moved = defend({name: W_t[name] - W[name] for name in W})
        W = {name: W_t[name] - d for name, d in moved.items()}
    return Leak(W_t, W, "weights", buffers, len(x))


def from_state_dicts(
    before: Tensors, after: Tensors, *, batch_size: int = 1, buffers: Sequence[str] = ()
) -> Leak:
    """The leak of two checkpoints of one's own: a network before local training, and after it.

    before, after {name: tensor} as `model.state_dict()` gives them.  batch_size: how many images
    were trained on.  What is not trained counts as a buffer, and is taken from `before`: tensors of
    whole numbers, running statistics of BatchNorm, and the names in `buffers`.
    Raises ValueError when names or shapes of the two differ, and when nothing has changed.
    """
    before, after = ({n: t.detach().clone() for n, t in d.items()} for d in (before, after))
    for name in {**before, **after}:
        shapes = [tuple(d[name].shape) if name in d else "missing" for d in (before, after)]
        if shapes[0] != shapes[1]:
            raise bad(f"after[{name!r}]", shapes[1], f"{shapes[0]}, as in before")
    unknown = set(buffers) - set(before)
    if unknown:
        raise bad("buffers", sorted(unknown), f"names of the network: {list(before)}")
    fixed = {
        name: tensor
        for name, tensor in before.items()
        if name in buffers
        or not tensor.is_floating_point()
        or name.rpartition(".")[2] in ("running_mean", "running_var")
    }
    weights = {name: tensor for name, tensor in before.items() if name not in fixed}
    update = {name: after[name] for name in weights}
    if all(torch.equal(update[name], tensor) for name, tensor in weights.items()):
        raise bad("after", "the weights of before", "weights that training has changed")
    return Leak(weights, update, "weights", fixed, batch_size)


def load(path: str | Path) -> Leak:
    """The leak that `Leak.save` wrote.  Nothing in the file is run.

    Raises ValueError for a file that is no leak, and OSError where there is none.
    """
    wanted = "a file that Leak.save wrote"
    parts: dict[str, Tensors] = {"weights": {}, "update": {}, "buffers": {}}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["leak"])
            for what, name in (key.split("/", 1) for key in header["names"]):
                parts[what][name] = file.get_tensor(f"{what}/{name}")
        kind, size, victims = (header[name] for name in ("kind", "batch_size", "victims"))
    except (
        safetensors.SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise bad("path", f"{path} ({error})", wanted) from error
    counted = all(type(n) is int and n > 0 for n in (size, 1 if victims is None else victims))
    if kind not in ("gradient", "weights") or not counted:
        raise bad("path", f"{path} with the header {header}", wanted)
    return Leak(**parts, kind=kind, batch_size=size, victims=victims)


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


def without(leak: Leak, names: Collection[str]) -> Leak:
    """The leak of a client that keeps the tensors of these names to itself."""
    rest = {
        what: {name: t for name, t in getattr(leak, what).items() if name not in names}
        for what in ("weights", "update", "buffers")
    }
    return replace(leak, **rest)


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


def _parts(
    model: nn.Module, defense: Defense | None, generator: torch.Generator
) -> tuple[Callable[..., Tensors], Callable[[Tensors], Tensors]]:
    """(g, defend): what a client computes, and what it does to a direction before it leaves."""
    if isinstance(defense, InPlaceOfGradient):
        return defense.gradient(model, generator), _as_it_is
    if defense is None or isinstance(defense, OnWeights):
        return gradient(model), _as_it_is
    return gradient(model), lambda direction: defense(direction, generator)


def _as_it_is(direction: Tensors) -> Tensors:
    return direction


def _shapes(tensors: Tensors) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
