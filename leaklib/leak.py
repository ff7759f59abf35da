"""What crosses the wire: a `Leak`, alone or stacked, out of memory or out of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from . import _files
from ._errors import bad

Tensors = dict[str, Tensor]
PARTS = ("weights", "update", "buffers")  # what of a leak is tensors


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
        return _files.write(path, packed(self))

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
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["leak"])
            names = file.keys()
            return unpacked(header, {name: file.get_tensor(name) for name in names})
    except (safetensors.SafetensorError, LookupError, ValueError) as error:
        raise bad("path", f"{path} ({error})", "a file that Leak.save wrote") from error


def packed(leak: Leak, **more: object) -> bytes:
    """The leak as the bytes of a safetensors file, whose header says what is not a tensor.

    more: further entries of the header, over which `unpacked` passes.
    """
    tensors = {
        f"{what}/{name}": tensor.contiguous()
        for what in PARTS
        for name, tensor in getattr(leak, what).items()
    }
    header = dict(kind=leak.kind, batch_size=leak.batch_size, victims=leak.victims, **more)
    # the file format sorts its tensors, and which layer is the last one is told by their order
    header["names"] = list(tensors)
    # one entry alone: the file format writes several in another order each time
    return safetensors.torch.save(tensors, metadata={"leak": json.dumps(header)})


def unpacked(header: dict[str, Any], tensors: Tensors) -> Leak:
    """The leak of a file's header and tensors, as `packed` has put them there.

    Raises ValueError for those that are of no leak.
    """
    parts: dict[str, Tensors] = {what: {} for what in PARTS}
    try:
        for what, name in (key.split("/", 1) for key in header["names"]):
            parts[what][name] = tensors[f"{what}/{name}"]
        kind, size, victims = (header[name] for name in ("kind", "batch_size", "victims"))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise bad("header", f"{error!r:.80}", "names, kind, batch_size and victims") from error
    counted = all(type(n) is int and n > 0 for n in (size, 1 if victims is None else victims))
    if kind not in ("gradient", "weights") or not counted:
        came = f"{dict(kind=kind, batch_size=size, victims=victims)!r:.80}"
        raise bad("header", came, "a gradient or weights, and counts above 0")
    return Leak(**parts, kind=kind, batch_size=size, victims=victims)


def stack(leaks: Sequence[Leak]) -> Leak:
    """V leaks of the same network as one `Leak`, so that an attack runs on all of them at once.

    Every tensor (…) becomes (V, …).  Raises ValueError when the leaks do not fit together.
    """
    leaks = list(leaks)
    if not leaks:
        raise bad("leaks", "an empty list", "at least one Leak")
    for i, leak in enumerate(leaks):
        if leak.victims is not None:
            raise bad(f"leaks[{i}]", "a stack", "single leaks")
    return _piled(leaks, torch.stack, len(leaks))


def join(stacks: Sequence[Leak]) -> Leak:
    """Several stacks of the same network as one, victims after victims.

    Raises ValueError for a single leak among them, and when they do not fit together.
    """
    stacks = list(stacks)
    if not stacks:
        raise bad("stacks", "an empty list", "at least one stack")
    for i, leaks in enumerate(stacks):
        if leaks.victims is None:
            raise bad(f"stacks[{i}]", "a single Leak", "a stack")
    return _piled(stacks, torch.cat, sum(leaks.victims for leaks in stacks))


def some(leaks: Leak, rows: slice | Sequence[int]) -> Leak:
    """Some of the victims of a stack, as a stack.

    Raises ValueError for a single leak, or where no victim is left.
    """
    if leaks.victims is None:
        raise bad("leaks", "a single Leak", "a stack")
    victims = len(torch.arange(leaks.victims)[rows])
    if victims == 0:
        raise bad("rows", rows, f"some of the {leaks.victims} victims")
    kept = _of_each(leaks, lambda tensors: {name: t[rows] for name, t in tensors.items()})
    return replace(kept, victims=victims)


def without(leak: Leak, names: Collection[str]) -> Leak:
    """The leak of a client that keeps the tensors of these names to itself."""
    return _of_each(
        leak, lambda tensors: {name: t for name, t in tensors.items() if name not in names}
    )


def _of_each(leak: Leak, fn: Callable[[Tensors], Tensors]) -> Leak:
    """The leak with fn of its weights, of its update and of its buffers."""
    return replace(leak, **{what: fn(getattr(leak, what)) for what in PARTS})


def _piled(leaks: Sequence[Leak], how: Callable, victims: int) -> Leak:
    """Leaks of the same kind and network as one, its tensors put together by `how`."""
    first = leaks[0]
    lead = 0 if first.victims is None else 1
    shapes = lambda tensors: {name: t.shape[lead:] for name, t in tensors.items()}  # noqa: E731
    for i, leak in enumerate(leaks):
        for what in ("kind", "batch_size"):
            if getattr(leak, what) != getattr(first, what):
                raise bad(f"leaks[{i}].{what}", getattr(leak, what), f"{getattr(first, what)}")
        for what in PARTS:
            if shapes(getattr(leak, what)) != shapes(getattr(first, what)):
                raise bad(f"leaks[{i}].{what}", "other names or shapes", "those of leaks[0]")
    pile = {
        what: {name: how([getattr(k, what)[name] for k in leaks]) for name in getattr(first, what)}
        for what in PARTS
    }
    return replace(first, **pile, victims=victims)
