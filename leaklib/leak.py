"""What crosses the wire: a `Leak`, alone or stacked, out of a file or out of a loop of your own."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from . import _files, _foreign, _precision
from ._errors import bad, require

__all__ = [
    "Tensors", "Leak", "from_gradients", "from_state_dicts", "load", "stack", "join", "some",
    "without",
]  # fmt: skip

Tensors = dict[str, Tensor]
PARTS = ("weights", "update", "buffers")  # the fields that hold tensors
HEADER = ("kind", "batch_size", "victims")  # and the others, which a file has in its header


@dataclass(frozen=True)
class Leak:
    """What crosses the wire in one round, and before it; tensors of a stack have an axis of V."""

    weights: Tensors  # W_t, the weights that the client started from
    update: Tensors  # what the client sent: the gradient, or its new weights W_{t+1}
    kind: Literal["gradient", "weights"] = "gradient"  # which of the two `update` is
    buffers: Tensors = field(default_factory=dict)  # running statistics, frozen parameters
    batch_size: int = 1  # number of images B behind the update
    victims: int | None = None  # V of a stack; None for one client

    def save(self, path: str | Path) -> Path:
        """Write the leak as a safetensors file, whole or not at all, and return its path."""
        return _files.write(path, packed(self))

    @property
    def direction(self) -> Tensors:
        """What an attack matches, the same for both kinds: the gradient, or W_t - W_{t+1}."""
        if self.kind == "gradient":
            return self.update
        return {name: self.weights[name] - new for name, new in self.update.items()}

    @property
    def rounding(self) -> Tensors:
        """How far rounding may have moved `direction`: a unit in the last place of what was sent.

        Of weights, the larger of the units of W_t and W_{t+1}.  A tensor counts as held in float16
        or bfloat16 if all its numbers fit that dtype and the message makes use of its last place,
        so that half precision that was cast back is seen too.  A network that computes in half
        precision loses more, of which the numbers tell nothing.
        """
        off = _precision.units(self.update, self.victims)
        if self.kind == "gradient":
            return off
        W = {name: self.weights[name] for name in self.update}
        return {n: t.maximum(off[n]) for n, t in _precision.units(W, self.victims).items()}


def from_gradients(
    model: nn.Module,
    gradients: Sequence[Tensor | None] | Mapping[str, Tensor | None] | None = None,
    batch_size: int = 1,
) -> Leak:
    """The leak of a gradient out of your own loop, at the weights that the model has now.

    model: as it was in the backward pass, so before the optimiser steps; its frozen parameters and
    its buffers are the leak's `buffers`.  gradients: a list in the order of the parameters that
    train, as `torch.autograd.grad` gives it (or of all parameters); a dict by name, also with the
    prefixes of DataParallel and torch.compile; None for the `.grad` of the parameters.  Among them,
    None is a parameter that the loss does not reach, whose gradient is zero.  Of a mean over
    batch_size images, and unscaled.  All is copied, as float64 if all of it is, else as float32.
    Raises ValueError for names or shapes that are not the model's, for numbers that are not finite,
    for gradients of frozen parameters, and where there is no gradient, or nothing but zeros.

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.rand(1, 1, 2, 2)
    >>> nn.functional.cross_entropy(net(x), torch.tensor([7])).backward()
    >>> from_gradients(net).update["1.bias"].argmin()
    tensor(7)
    """
    trained, fixed = _foreign.trained_and_fixed(model)
    given, update = _foreign.gradients_of(model, gradients), {}
    frozen = "None: the model does not train it (requires_grad is False)"
    for name in fixed:
        require(given.get(name) is None, f"gradients[{name!r}]", "a tensor", frozen)
    for name, p in trained.items():
        at = f"gradients[{name!r}]"
        require(name in given, at, "nothing", "a tensor; `without` leaves out what is not sent")
        update[name] = torch.zeros_like(p) if given[name] is None else given[name]
        _foreign.check(f"model[{name!r}]", p, p.shape)
        _foreign.check(at, update[name], p.shape)
    some = any(bool(g.any()) for g in update.values())
    require(some, "gradients", "zeros alone, or None", "those of loss.backward(), not yet cleared")
    return _of_others("gradient", batch_size, trained, update, fixed)


def from_state_dicts(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor],
    *, model: nn.Module | None = None, batch_size: int = 1, buffers: Collection[str] = (),
) -> Leak:  # fmt: skip
    """The leak of two checkpoints of your own: a network before local training, and after it.

    before, after: as `model.state_dict()` gives them.  batch_size: how many images were trained on.
    model: the network that they are of, which tells what is trained (`requires_grad`), what is tied
    and what its names are without the prefixes of DataParallel and torch.compile, and which has its
    own values for buffers and frozen parameters that were not saved.  Without a model all is taken
    for trained but whole numbers, running statistics, and the names in `buffers`; and layers whose
    matrices moved alike from the same numbers are taken for one, under the first name.
    Buffers are as in `before`.  All is copied, as float64 if all that trains is, else as float32;
    half precision, also if it was cast back, is told by `Leak.rounding`.
    Raises ValueError when names or shapes of the two or of the model differ, for numbers that are
    not finite, when a frozen parameter has changed, and when nothing else has.

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.rand(1, 1, 2, 2)
    >>> before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    >>> nn.functional.cross_entropy(net(x), torch.tensor([7])).backward()
    >>> torch.optim.SGD(net.parameters(), lr=0.1).step()
    >>> from_state_dicts(before, net.state_dict(), model=net).direction["1.bias"].argmin()
    tensor(7)
    """
    right = model is None or isinstance(model, nn.Module)
    require(right, "model", type(model).__name__, "an nn.Module, or None")
    before = _foreign.state_of("before", before, model)
    after = _foreign.state_of("after", after, model)
    for name in {**before, **after}:
        was, now = (tuple(d[name].shape) if name in d else "missing" for d in (before, after))
        require(was == now, f"after[{name!r}]", now, f"{was}, as in before")
    require(model is None or not buffers, "buffers", buffers, "none: the model tells them")
    if model is None:
        trained, fixed = _foreign.told_by_names(before, after, buffers)
    else:
        trained, fixed = _foreign.told_by_model(before, after, model)
    update = {name: after[name] for name in trained}
    changed = any(not _foreign.same(trained[name], now) for name, now in update.items())
    wanted = "weights that training has changed; state_dict() gives the live ones, so copy them"
    require(changed, "after", "the weights of before", wanted)
    return _of_others("weights", batch_size, trained, update, fixed)


def _of_others(
    kind: Literal["gradient", "weights"], batch_size: int, *parts: Mapping[str, Tensor]
) -> Leak:
    """The leak that holds copies of these weights, update and buffers."""
    whole = type(batch_size) is int and batch_size > 0
    require(whole, "batch_size", repr(batch_size), "how many images, a positive whole number")
    weights, update, buffers = _foreign.alike(parts, [*parts[0].values(), *parts[1].values()])
    return Leak(weights, update, kind, buffers, batch_size)


def load(path: str | Path) -> Leak:
    """The leak that `Leak.save` wrote; nothing in it is run.  Raises ValueError for other files."""
    require(not Path(path).is_dir(), "path", f"{path}, a folder", "a file that Leak.save wrote")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            return unpacked(json.loads((file.metadata() or {})["leak"]), tensors)
    except (safetensors.SafetensorError, LookupError, ValueError) as error:
        raise bad("path", f"{path} ({error})", "a file that Leak.save wrote") from error


def packed(leak: Leak, **more: object) -> bytes:
    """The leak as a safetensors file, with `more` in its header, over which `unpacked` passes."""
    # clones, because the file format refuses tensors that share their memory
    held = {f"{part}/{n}": t for part in PARTS for n, t in getattr(leak, part).items()}
    tensors = {
        name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in held.items()
    }
    # the file format sorts its tensors, and which layer is the last one is told by their order
    header = {name: getattr(leak, name) for name in HEADER} | {"names": list(tensors)} | more
    # one entry alone: the file format writes several in another order each time
    return safetensors.torch.save(tensors, metadata={"leak": json.dumps(header)})


def unpacked(header: dict[str, Any], tensors: Tensors) -> Leak:
    """The leak of a file's header and tensors.  Raises ValueError for those that are of no leak."""
    parts: dict[str, Tensors] = {what: {} for what in PARTS}
    try:
        for what, name in (key.split("/", 1) for key in header["names"]):
            parts[what][name] = tensors[f"{what}/{name}"]
        kind, size, victims = (header[name] for name in HEADER)
        counted = all(type(n) is int and n > 0 for n in (size, 1 if victims is None else victims))
        if kind not in ("gradient", "weights") or not counted:
            raise ValueError(kind, size, victims)
        if sorted(header["names"]) != sorted(tensors) or not parts["update"]:
            raise ValueError("other names than those of its tensors")
        for name, tensor in parts["update"].items():
            if tensor.shape != parts["weights"][name].shape:
                raise ValueError(f"an update of another shape: {name}")
        if victims is not None and any(t.shape[:1] != (victims,) for t in tensors.values()):
            raise ValueError(f"tensors that are not of {victims} victims")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        wanted = "names, a known kind, counts above 0, and tensors that fit"
        raise bad("header", f"{error!r:.80}", wanted) from error
    return Leak(**parts, kind=kind, batch_size=size, victims=victims)


def stack(leaks: Iterable[Leak]) -> Leak:
    """V leaks of the same network as one, tensors (V, …).  ValueError where they do not fit."""
    return _piled("leaks", leaks, "a single Leak", torch.stack)


def as_stack(leak: Leak) -> Leak:
    """The leak itself where it is a stack, else a stack of it alone."""
    return leak if leak.victims is not None else stack([leak])


def first_of(leak: Leak) -> Leak:
    """The leak itself where it is of one victim, else that of the first."""
    if leak.victims is None:
        return leak
    one = {part: {n: t[0] for n, t in getattr(leak, part).items()} for part in PARTS}
    return replace(leak, victims=None, **one)


def join(stacks: Iterable[Leak]) -> Leak:
    """Several stacks of the same network as one, victims after victims.  Raises as `stack` does."""
    return _piled("stacks", stacks, "a stack", torch.cat)


def some(leaks: Leak, rows: slice | Sequence[int] | Tensor) -> Leak:
    """Some victims of a stack, by numbers or a mask, as a stack.  ValueError where none is left."""
    if leaks.victims is None:
        raise bad("leaks", "a single Leak", "a stack")
    every, came = np.arange(leaks.victims), f"{rows!r:.80}"
    wanted = f"some of the {leaks.victims} victims: their numbers, a slice, or a mask"
    try:
        chosen = every[rows if isinstance(rows, slice) else np.asarray(rows)]
        index = torch.from_numpy(np.array(chosen))
    except (LookupError, TypeError, ValueError) as error:
        raise bad("rows", came, wanted) from error
    require(index.ndim == 1 and len(index), "rows", came, wanted)
    kept = {part: {n: t[index] for n, t in getattr(leaks, part).items()} for part in PARTS}
    return replace(leaks, victims=len(index), **kept)


def without(leak: Leak, names: Collection[str]) -> Leak:
    """The leak of a client that keeps the tensors of these names to itself.

    Raises ValueError for names that the leak does not have, and where nothing would be sent.
    """
    kept = _foreign.strings("names", names)
    parts = {part: getattr(leak, part) for part in PARTS}
    held = list(dict.fromkeys(name for tensors in parts.values() for name in tensors))
    require(kept <= set(held), "names", sorted(kept - set(held)), f"names of the leak: {held}")
    require(set(leak.update) - kept, "names", "all that is sent", "not all of it")
    rest = {part: {n: t for n, t in of.items() if n not in kept} for part, of in parts.items()}
    return replace(leak, **rest)


def _piled(argument: str, of: Iterable[Leak], wanted: str, pile: Callable[..., Tensor]) -> Leak:
    """Leaks, or stacks of them, of the same kind and network as one."""
    require(isinstance(of, Iterable), argument, type(of).__name__, "a list of leaks")
    leaks = list(of)
    for i, leak in enumerate(leaks):
        require(isinstance(leak, Leak), f"{argument}[{i}]", type(leak).__name__, wanted)
    require(leaks, argument, "an empty list", "at least one")
    first, B, lead = leaks[0], leaks[0].batch_size, int(leaks[0].victims is not None)
    shapes = lambda tensors: {name: t.shape[lead:] for name, t in tensors.items()}  # noqa: E731
    for i, leak in enumerate(leaks):
        came, at = "a single Leak" if leak.victims is None else "a stack", f"{argument}[{i}]"
        require(came == wanted, at, came, wanted)
        require(leak.kind == first.kind, f"{at}.kind", leak.kind, first.kind)
        require(leak.batch_size == B, f"{at}.batch_size", leak.batch_size, f"{B}")
        for part in PARTS:
            fit = shapes(getattr(leak, part)) == shapes(getattr(first, part))
            require(fit, f"{at}.{part}", "other names or shapes", "those of the first")
    piled = lambda of: {n: pile([tensors[n] for tensors in of]) for n in of[0]}  # noqa: E731
    tensors = {part: piled([getattr(leak, part) for leak in leaks]) for part in PARTS}
    return replace(first, **tensors, victims=sum(leak.victims or 1 for leak in leaks))
