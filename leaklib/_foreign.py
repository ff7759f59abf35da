"""Checkpoints and gradients of other people's loops: found sound, and under the network's names."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ._errors import bad, require

Tensors = dict[str, Tensor]
STATISTICS = ("running_mean", "running_var")  # of BatchNorm
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def trained_and_fixed(model: nn.Module) -> tuple[Tensors, Tensors]:
    """(what trains, all else) of a network, by name.  ValueError where nothing trains."""
    require(isinstance(model, nn.Module), "model", type(model).__name__, "an nn.Module")
    parameters = dict(model.named_parameters())
    W: Tensors = {name: p for name, p in parameters.items() if p.requires_grad}
    require(W, "model", "no trainable parameter", "a network with parameters to learn")
    held = {**parameters, **dict(model.named_buffers())}
    lazy = [name for name, tensor in held.items() if is_lazy(tensor)]
    require(not lazy, "model", f"no values yet in {lazy}", "a network that has seen an input")
    return W, {name: t for name, t in held.items() if name not in W}


def strings(argument: str, names: Iterable[str]) -> set[str]:
    """A collection of names, which one string by itself is not."""
    require(not isinstance(names, str), argument, f"the string {names!r}", f"a list: [{names!r}]")
    return set(names)


def state_of(argument: str, state: Any, model: nn.Module | None = None) -> Tensors:
    """A checkpoint {name: tensor}, with a model under the names that `trained_and_fixed` gives."""
    came = type(state).__name__
    require(isinstance(state, Mapping), argument, came, "a dict, as model.state_dict() gives it")
    require(state, argument, "an empty dict", "the tensors of a network, by name")
    for name, tensor in state.items():
        require(isinstance(name, str), argument, f"the key {name!r}", "names of tensors")
        hint = f"such as {argument}['state_dict'] where that is what it is called"
        wanted = f"a tensor; of a file that holds more, the network's part alone, {hint}"
        require(torch.is_tensor(tensor), f"{argument}[{name!r}]", type(tensor).__name__, wanted)
    return dict(state) if model is None else _named(argument, state, model)


def gradients_of(model: nn.Module, gradients: Any) -> dict[str, Tensor | None]:
    """Gradients by the network's names, those of frozen parameters being None or not there."""
    parameters = dict(model.named_parameters())
    W = [name for name, p in parameters.items() if p.requires_grad]
    wanted = f"a list of {len(W)} gradients, a dict by name, or None for the .grad of the model"
    if gradients is None:
        gradients = {name: p.grad for name, p in parameters.items()}
    elif not isinstance(gradients, Mapping):
        listed = isinstance(gradients, Iterable) and not isinstance(gradients, Tensor | str)
        require(listed, "gradients", type(gradients).__name__, wanted)
        gradients = list(gradients)
        names = W if len(gradients) == len(W) else list(parameters)
        require(len(gradients) == len(names), "gradients", f"{len(gradients)} of them", wanted)
        gradients = dict(zip(names, gradients))
    for name, g in gradients.items():
        right = isinstance(name, str) and (g is None or torch.is_tensor(g))
        require(right, f"gradients[{name!r}]", type(g).__name__, "a tensor, or None")
    return _named("gradients", gradients, model)


def told_by_model(before: Tensors, after: Tensors, model: nn.Module) -> tuple[Tensors, Tensors]:
    """What is trained in `before`, and what is fixed, or the model's own where it is not saved."""
    trained, fixed = trained_and_fixed(model)
    for name, p in trained.items():
        require(name in before, "before", f"no {name!r}", "all that the model trains")
        check(f"before[{name!r}]", before[name], p.shape)
        check(f"after[{name!r}]", after[name], p.shape)
    for name in set(fixed) & set(before) & set(dict(model.named_parameters())):
        unmoved, wanted = same(before[name], after[name]), "as before: the model does not train it"
        require(unmoved, f"after[{name!r}]", "other numbers", wanted)
    return {n: before[n] for n in trained}, {n: before.get(n, t) for n, t in fixed.items()}


def told_by_names(
    before: Tensors, after: Tensors, buffers: Iterable[str]
) -> tuple[Tensors, Tensors]:
    """What is trained in `before`, tied tensors once, and what is fixed."""
    named = strings("buffers", buffers)
    unknown = sorted(named - set(before))
    require(not unknown, "buffers", unknown, f"names of the network: {list(before)}")
    trained, fixed, first_layer = {}, {}, {}
    for name, was in before.items():
        is_number = was.is_floating_point() or was.is_complex()
        if name in named or not is_number or name.split(".")[-1] in STATISTICS:
            fixed[name] = was
            continue
        now = after[name]
        for argument, tensor in (("before", was), ("after", now)):
            check(f"{argument}[{name!r}]", tensor, was.shape)
        # vectors move alike in layers that add up, from zeros too: they are tied where matrices are
        layer, _, part = name.rpartition(".")
        others = trained if was.ndim > 1 else {f"{first_layer.get(layer)}.{part}"} & set(trained)
        tied = [n for n in others if _moved_alike((before[n], after[n]), (was, now))]
        if tied:
            first_layer[layer] = tied[0].rpartition(".")[0]
        else:
            trained[name] = was
    return trained, fixed


def _moved_alike(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    """Whether two tensors, (before, after), are the same twice, and have moved in between."""
    alike = one[0].shape == other[0].shape and all(same(*pair) for pair in zip(one, other))
    return alike and not same(*one)


def check(argument: str, tensor: Tensor, shape: torch.Size) -> None:
    """Raise ValueError unless these are finite numbers that a network can be trained with."""
    right = tensor.dtype in FLOATS and tensor.shape == shape and not tensor.is_meta
    wanted = f"{tuple(shape)} of real numbers in 16 to 64 bits"
    require(right, argument, f"{tuple(tensor.shape)} of {tensor.dtype}", wanted)
    require(_dense(tensor).isfinite().all(), argument, "NaN or infinite entries", "finite numbers")


def alike(parts: Sequence[Mapping[str, Tensor]], trained: Sequence[Tensor]) -> tuple[Tensors, ...]:
    """Copies in one dtype and on one device: float64 if all that is trained is, else float32."""
    is_double = all(t.dtype == torch.float64 for t in trained)
    dtype = torch.float64 if is_double else torch.float32

    def copied(t: Tensor) -> Tensor:
        own = dtype if t.is_floating_point() else t.dtype
        return _dense(t.detach()).to(trained[0].device, own, copy=True)

    return tuple({name: copied(t) for name, t in part.items()} for part in parts)


def _dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def same(one: Tensor, other: Tensor) -> bool:
    """Equal, in the coarser of their two dtypes."""
    if one.is_floating_point() and other.is_floating_point():
        dtype = max(one.dtype, other.dtype, key=lambda dtype: torch.finfo(dtype).eps)
        one, other = one.to(dtype), other.to(dtype)
    return torch.equal(one, other.to(one.device))


def _named(argument: str, given: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """What is given by name, once each, by the first name that the network has for it."""
    every = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    first: dict[int, str] = {}
    name_of = {_bare(name): first.setdefault(id(tensor), name) for name, tensor in every}
    ways = (lambda n: n, lambda n: n.removeprefix("module."), lambda n: f"module.{n}")
    ways = [{key: name_of.get(way(_bare(key))) for key in given} for way in ways]
    names = max(ways, key=lambda names: sum(name is not None for name in names.values()))
    found: dict[str, Any] = {}
    for key, value in given.items():
        name, at = names[key], f"{argument}[{key!r}]"
        if name is None:
            raise bad(argument, f"the name {key!r}", f"names of the model: {list(name_of)}")
        other = found.setdefault(name, value)
        both = torch.is_tensor(other) and torch.is_tensor(value)
        is_same = other is value or (both and same(other, value))
        require(is_same, at, "other numbers", f"those of {name!r}, which is the same in the model")
    return found


def _bare(name: str) -> str:
    """The name without what torch.compile puts into it."""
    return ".".join(word for word in name.split(".") if word != "_orig_mod")
