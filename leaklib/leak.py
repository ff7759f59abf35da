"""What crosses the wire: a `Leak`, alone or stacked, out of memory or out of a file."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from . import _files
from ._errors import bad, require

__all__ = ["Tensors", "Leak", "from_state_dicts", "load", "stack", "join", "some", "without"]

Tensors = dict[str, Tensor]
PARTS = ("weights", "update", "buffers")  # the fields that hold tensors
HEADER = ("kind", "batch_size", "victims")  # and the others, which a file has in its header
STATISTICS = ("running_mean", "running_var")  # of BatchNorm


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
        """How far `direction` may be off: of weights, a unit in the larger's last place."""
        if self.kind == "gradient":
            return {name: torch.zeros_like(tensor) for name, tensor in self.update.items()}
        W, up = self.weights, torch.tensor(torch.inf)
        larger = {n: torch.maximum(W[n].abs(), new.abs()) for n, new in self.update.items()}
        return {n: size.nextafter(up.to(size)) - size for n, size in larger.items()}


def from_state_dicts(
    before: Tensors, after: Tensors, *, batch_size: int = 1, buffers: Sequence[str] = ()
) -> Leak:
    """The leak of two checkpoints of your own: a network before local training, and after it.

    before, after: as `model.state_dict()` gives them.  batch_size: how many images were trained on.
    buffers: names not trained, besides whole numbers and running statistics; as in `before`.
    Raises ValueError when names or shapes of the two differ, and when nothing has changed.
    """
    before, after = ({n: t.detach().clone() for n, t in d.items()} for d in (before, after))
    for name in {**before, **after}:
        was, now = (tuple(d[name].shape) if name in d else "missing" for d in (before, after))
        require(was == now, f"after[{name!r}]", now, f"{was}, as in before")
    unknown = sorted(set(buffers) - set(before))
    require(not unknown, "buffers", unknown, f"names of the network: {list(before)}")
    fixed = {
        n: t for n, t in before.items()
        if n in buffers or not t.is_floating_point() or n.split(".")[-1] in STATISTICS
    }  # fmt: skip
    weights = {n: t for n, t in before.items() if n not in fixed}
    changed = any(not torch.equal(after[name], tensor) for name, tensor in weights.items())
    require(changed, "after", "the weights of before", "weights that training has changed")
    return Leak(weights, {n: after[n] for n in weights}, "weights", fixed, batch_size)


def load(path: str | Path) -> Leak:
    """The leak that `Leak.save` wrote; nothing in it is run.  Raises ValueError for other files."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            return unpacked(json.loads((file.metadata() or {})["leak"]), tensors)
    except (safetensors.SafetensorError, LookupError, ValueError) as error:
        raise bad("path", f"{path} ({error})", "a file that Leak.save wrote") from error


def packed(leak: Leak, **more: object) -> bytes:
    """The leak as a safetensors file, with `more` in its header, over which `unpacked` passes."""
    tensors = {f"{p}/{n}": t.contiguous() for p in PARTS for n, t in getattr(leak, p).items()}
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
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise bad("header", f"{error!r:.80}", "names, a known kind, counts above 0") from error
    return Leak(**parts, kind=kind, batch_size=size, victims=victims)


def stack(leaks: Iterable[Leak]) -> Leak:
    """V leaks of the same network as one, tensors (V, …).  ValueError where they do not fit."""
    return _piled("leaks", list(leaks), "a single Leak", torch.stack)


def as_stack(leak: Leak) -> Leak:
    """The leak itself where it is a stack, else a stack of it alone."""
    return leak if leak.victims is not None else stack([leak])


def join(stacks: Iterable[Leak]) -> Leak:
    """Several stacks of the same network as one, victims after victims.  Raises as `stack` does."""
    return _piled("stacks", list(stacks), "a stack", torch.cat)


def some(leaks: Leak, rows: slice | Sequence[int]) -> Leak:
    """Some victims of a stack, by number, as a stack.  Raises ValueError where none is left."""
    if leaks.victims is None:
        raise bad("leaks", "a single Leak", "a stack")
    victims = len(torch.arange(leaks.victims)[rows])
    require(victims, "rows", rows, f"some of the {leaks.victims} victims")
    kept = {part: {n: t[rows] for n, t in getattr(leaks, part).items()} for part in PARTS}
    return replace(leaks, victims=victims, **kept)


def without(leak: Leak, names: Collection[str]) -> Leak:
    """The leak of a client that keeps the tensors of these names to itself."""
    parts = ((part, getattr(leak, part).items()) for part in PARTS)
    return replace(leak, **{part: {n: t for n, t in of if n not in names} for part, of in parts})


def _piled(argument: str, leaks: list[Leak], wanted: str, pile: Callable[..., Tensor]) -> Leak:
    """Leaks, or stacks of them, of the same kind and network as one."""
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
