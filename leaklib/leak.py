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
from ._errors import bad

__all__ = ["Tensors", "Leak", "from_state_dicts", "load", "stack", "join", "some", "without"]

Tensors = dict[str, Tensor]
PARTS = ("weights", "update", "buffers")  # the fields that hold tensors
HEADER = ("kind", "batch_size", "victims")  # and the others, which a file has in its header


@dataclass(frozen=True)
class Leak:
    """What crosses the wire in one round, and what the server sent before it.

    weights    {name: tensor} W_t, the weights that the client started from
    update     {name: tensor} what the client sent: the gradient, or its new weights W_{t+1}
    kind       "gradient" or "weights": which of the two `update` is
    buffers    {name: tensor} what else the network holds: running statistics, frozen parameters
    batch_size number of images B behind the update
    victims    None for one client; V for a stack, whose tensors all gain a leading axis of V

    >>> W, after = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.0, 1.5])}
    >>> Leak(W, after, "weights").direction
    {'w': tensor([0.0000, 0.5000])}
    """

    weights: Tensors
    update: Tensors
    kind: Literal["gradient", "weights"] = "gradient"
    buffers: Tensors = field(default_factory=dict)
    batch_size: int = 1
    victims: int | None = None

    def save(self, path: str | Path) -> Path:
        """Write the leak as a safetensors file, which `load` reads, and return its path.

        The file is written whole or not at all.  Raises OSError where it cannot be written.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     load(Leak({"w": torch.zeros(1)}, {"w": torch.ones(1)}).save(f"{folder}/a")).update
        {'w': tensor([1.])}
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
        """How far each entry of `direction` may be off, because new weights are kept rounded.

        0 for a gradient; for weights one unit in the last place of the larger of the two, within
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
    """The leak of two checkpoints of your own: a network before local training, and after it.

    before, after  {name: tensor} as `model.state_dict()` gives them
    batch_size     how many images were trained on
    buffers        names of tensors that were not trained, besides whole numbers and the running
                   statistics of BatchNorm; they are taken from `before`
    Raises ValueError when names or shapes of the two differ, and when nothing has changed.

    >>> leak = from_state_dicts({"w": torch.zeros(2)}, {"w": torch.ones(2)}, batch_size=8)
    >>> leak.kind, leak.batch_size
    ('weights', 8)
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
    """The leak that `Leak.save` wrote, as its example shows.  Nothing in the file is run.

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
    header: dict[str, Any] = {name: getattr(leak, name) for name in HEADER} | more
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
        kind, size, victims = (header[name] for name in HEADER)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise bad("header", f"{error!r:.80}", "names, kind, batch_size and victims") from error
    counted = all(type(n) is int and n > 0 for n in (size, 1 if victims is None else victims))
    if kind not in ("gradient", "weights") or not counted:
        came = f"{dict(kind=kind, batch_size=size, victims=victims)!r:.80}"
        raise bad("header", came, "a gradient or weights, and counts above 0")
    return Leak(**parts, kind=kind, batch_size=size, victims=victims)


def stack(leaks: Iterable[Leak]) -> Leak:
    """V leaks of the same network as one `Leak`, so that an attack runs on all of them at once.

    Every tensor (…) becomes (V, …).  Raises ValueError when the leaks do not fit together.

    >>> leak = Leak({"w": torch.zeros(3)}, {"w": torch.ones(3)})
    >>> stack([leak, leak]).update["w"].shape
    torch.Size([2, 3])
    """
    return _piled("leaks", list(leaks), stacked=False)


def join(stacks: Iterable[Leak]) -> Leak:
    """Several stacks of the same network as one, victims after victims.

    Raises ValueError for a single leak among them, and when they do not fit together.

    >>> pair = stack([Leak({"w": torch.zeros(3)}, {"w": torch.ones(3)})] * 2)
    >>> join([pair, pair, pair]).victims
    6
    """
    return _piled("stacks", list(stacks), stacked=True)


def some(leaks: Leak, rows: slice | Sequence[int]) -> Leak:
    """Some of the victims of a stack, by their numbers, as a stack.

    Raises ValueError for a single leak, or where no victim is left.

    >>> leaks = [Leak({"w": torch.zeros(1)}, {"w": torch.tensor([i])}) for i in (0.0, 1.0, 2.0)]
    >>> some(stack(leaks), [2, 0]).update["w"].flatten()
    tensor([2., 0.])
    """
    if leaks.victims is None:
        raise bad("leaks", "a single Leak", "a stack")
    victims = len(torch.arange(leaks.victims)[rows])
    if victims == 0:
        raise bad("rows", rows, f"some of the {leaks.victims} victims")
    kept = _of_each(leaks, lambda tensors: {name: t[rows] for name, t in tensors.items()})
    return replace(kept, victims=victims)


def without(leak: Leak, names: Collection[str]) -> Leak:
    """The leak of a client that keeps the tensors of these names to itself.

    >>> leak = Leak({"w": torch.zeros(1)}, {"w": torch.ones(1), "b": torch.ones(1)})
    >>> list(without(leak, ["b"]).update)
    ['w']
    """
    kept = lambda tensors: {name: t for name, t in tensors.items() if name not in names}  # noqa: E731
    return _of_each(leak, kept)


def _of_each(leak: Leak, fn: Callable[[Tensors], Tensors]) -> Leak:
    """The leak with fn of its weights, of its update and of its buffers."""
    return replace(leak, **{part: fn(getattr(leak, part)) for part in PARTS})


def _piled(argument: str, leaks: list[Leak], stacked: bool) -> Leak:
    """Leaks, or stacks of them, of the same kind and network as one."""
    if not leaks:
        raise bad(argument, "an empty list", "at least one")
    first, lead = leaks[0], int(stacked)
    single, pile = "a single Leak", "a stack"
    other, wanted = (single, pile) if stacked else (pile, single)
    shapes = lambda tensors: {name: t.shape[lead:] for name, t in tensors.items()}  # noqa: E731
    for i, leak in enumerate(leaks):
        if (leak.victims is not None) != stacked:
            raise bad(f"{argument}[{i}]", other, wanted)
        for name in ("kind", "batch_size"):
            if getattr(leak, name) != getattr(first, name):
                raise bad(f"{argument}[{i}].{name}", getattr(leak, name), str(getattr(first, name)))
        for part in PARTS:
            if shapes(getattr(leak, part)) != shapes(getattr(first, part)):
                raise bad(f"{argument}[{i}].{part}", "other names or shapes", "those of the first")
    put = torch.cat if stacked else torch.stack
    tensors = {
        part: {name: put([getattr(leak, part)[name] for leak in leaks])
               for name in getattr(first, part)}
        for part in PARTS
    }  # fmt: skip
    return replace(first, **tensors, victims=sum(leak.victims or 1 for leak in leaks))
