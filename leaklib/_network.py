"""A network as a function of its weights, and what its forward pass does: found by running it.

Everything runs on a copy, so that whatever a forward pass changes, the caller's module stays as it
is: its parameters, buffers, hooks and modes.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import random
from ._errors import bad, first_line, is_out_of_memory, require
from .leak import Tensors

Forward = Callable[[Tensors, Tensors, Tensor], Any]


def function(model: nn.Module) -> Forward:
    """F(W, buffers, x): the network's output with these tensors in the place of its own.

    What is not given, the network's own stands in for; buffers that it lacks are passed over.  A
    tensor that several modules use is exchanged in all of them.  Raises ValueError for a network
    that cannot be copied.
    """
    network = copied(model)
    places = _places(network)
    own = {name: tensor.detach().clone() for name, tensor in network.named_buffers()}

    def forward(W: Tensors, buffers: Tensors, x: Tensor) -> Any:
        # clones, because a forward pass may write into buffers
        moved = {n: t.clone() for n, t in {**own, **buffers}.items() if n in places}
        # of attention, only this kernel has second derivatives on every device
        with _holding(places, {**moved, **W}), sdpa_kernel(SDPBackend.MATH):
            return network(x)

    return forward


def copied(model: nn.Module) -> nn.Module:
    """A copy of the module that shares its parameters and nothing else."""
    require(isinstance(model, nn.Module), "model", type(model).__name__, "an nn.Module")
    came = "a scripted network, whose weights cannot be exchanged"
    require(not isinstance(model, torch.jit.ScriptModule), "model", came, "the module behind it")
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    for module in model.modules():
        # what was computed out of parameters, such as an old weight norm's weight, has no deepcopy
        computed = (t for t in vars(module).values() if torch.is_tensor(t) and not t.is_leaf)
        shared |= {id(tensor): tensor.detach() for tensor in computed}
    try:
        return copy.deepcopy(model, shared)
    except Exception as error:
        came = f"a network that cannot be copied ({type(error).__name__}: {first_line(error)})"
        raise bad("model", came, "one that copy.deepcopy can copy, such as model.module") from error


def _places(network: nn.Module) -> dict[str, list[tuple[dict, str]]]:
    """{name: where each tensor is held}, under every name that it has."""
    held: dict[int, list[tuple[dict, str]]] = {}
    for module in network.modules():  # each once, however many names it has
        for holder in (module._parameters, module._buffers):
            for attribute, tensor in holder.items():
                if tensor is not None:
                    held.setdefault(id(tensor), []).append((holder, attribute))
    tensors = [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]
    return {name: held[id(tensor)] for name, tensor in tensors}


@contextmanager
def _holding(places: dict[str, list[tuple[dict, str]]], tensors: Tensors) -> Iterator[None]:
    """These tensors in their places; afterwards, what was there before."""
    spots = [(spot, tensor) for name, tensor in tensors.items() for spot in places[name]]
    before = [holder[attribute] for (holder, attribute), _ in spots]
    try:
        for (holder, attribute), tensor in spots:
            holder[attribute] = tensor
        yield
    finally:
        for ((holder, attribute), _), tensor in zip(reversed(spots), reversed(before)):
            holder[attribute] = tensor


def in_transform() -> bool:
    """Whether we are inside of vmap or another transform of torch.func."""
    try:
        torch.empty(0).requires_grad_()  # which they forbid
    except RuntimeError:
        return True
    return False


@torch.no_grad()
def examined(
    model: nn.Module, shape: Sequence[int], like: Tensor, name: str = "shape",
    W: Tensors | None = None, buffers: Tensors | None = None, network: Forward | None = None,
) -> Tensor:  # fmt: skip
    """The network's output (B, ...) for noise of this shape, once its forward pass is found sound.

    like: a tensor of the images' dtype and device.  name: the argument that the images come from.
    network: `function(model)`, where it is there already.
    Raises ValueError for images that the network does not take, for an output without a row for
    each image, and for one that is random or in which the images of a batch are mixed; warns where
    only a constant is told by all of them, for which no derivative answers.
    """
    draws, B = random.generator(0, "probes"), shape[0]
    noise = torch.rand((max(B, 3), *shape[1:]), generator=draws).to(like.device, like.dtype)

    def with_leak(network: Forward) -> Callable[[Tensor], Any]:
        return lambda x: network(W or {}, buffers or {}, x)

    forward = with_leak(network or function(model))
    trouble = _trouble(forward, noise, B)
    if trouble:
        is_sound = lambda m: _trouble(with_leak(function(m)), noise, B) is None  # noqa: E731
        layer = _ends_in_eval(model, is_sound)
        came = trouble if layer is None else f"{trouble}, by its layer {layer!r}"
        if layer is not None or B > 1 or trouble is RANDOM:
            raise bad(
                "model", came, "a network without such layers" if layer is None else "model.eval()"
            )
    try:
        logits = forward(noise[:B])
    except Exception as error:
        if is_out_of_memory(error):
            raise
        got = f"{tuple(shape)} of {like.dtype}"
        wanted = f"images, in floating point, that the network takes ({first_line(error)})"
        raise bad(name, got, wanted) from error
    is_tensor = torch.is_tensor(logits) and logits.is_floating_point() and logits.ndim > 0
    came = f"shape {tuple(logits.shape)}" if torch.is_tensor(logits) else type(logits).__name__
    fit = is_tensor and len(logits) == B
    require(fit, "model", f"an output of {came}", f"a tensor with {B} rows, such as logits (B, C)")
    if B > 1 and not _alike(logits[0], forward(noise[:1])[0]):
        said = "this network computes something of a batch that it treats as a constant"
        warnings.warn(f"{said}: what is true of an image alone does not hold", stacklevel=3)
    return logits


RANDOM = "a network whose output is random, as dropout makes it in training mode"
MIXES = "a network that mixes the images of a batch, as BatchNorm does in training mode"


def _trouble(network: Callable[[Tensor], Any], noise: Tensor, B: int) -> str | None:
    """What makes the outputs for noise no function of each image by itself."""
    with torch.random.fork_rng([noise.device] if noise.is_cuda else []), torch.enable_grad():
        for x in (noise[:2], noise[:B]):  # not every network takes batches of two
            before, x = torch.get_rng_state(), x.clone().requires_grad_()
            try:
                one, again = network(x), network(x)
                break
            except Exception:  # the caller sees to it
                continue
        else:
            return None
        if not torch.is_tensor(one) or one.ndim == 0:
            return None
        if not (torch.equal(before, torch.get_rng_state()) and _alike(one, again)):
            return RANDOM
        if len(x) == 1 or not one.requires_grad:
            return None
        # weights, for a plain sum of outputs may be the same for all images
        some = one[0].flatten() @ torch.linspace(1, 2, one[0].numel()).to(one)
        (by_x,) = torch.autograd.grad(some, x, allow_unused=True, materialize_grads=True)
        return MIXES if by_x[1:].nan_to_num().any() else None


def _ends_in_eval(model: nn.Module, is_sound: Callable[[nn.Module], bool]) -> str | None:
    """The layer with whose evaluation mode the network is sound at last; None where it never is."""
    network = copied(model)
    for name, module in network.named_modules():
        module.training = False  # its own alone: those of its children come later
        if is_sound(network):
            return name
    return None


def _alike(one: Tensor, other: Tensor) -> bool:
    """Equal up to what rounding does."""
    one, other = one.detach().float(), other.detach().float()
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()), equal_nan=True)
