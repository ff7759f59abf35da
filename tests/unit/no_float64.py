"""A device without numbers of 64 bits, as Apple's are: it refuses them, and counts in those it has.

Its tensors are CPU tensors behind another device's name, "meta", with which every torch can
differentiate and batch.  Use the fixture `device`: `device(tensor)` and `device(module)` move
there, `.cpu()` brings back, tensors of two places do not mix, and generators stay on the CPU.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = torch.device("meta")


class There(Tensor):
    """A tensor on the device; `held` is the one on the CPU that has its numbers."""

    @staticmethod
    def __new__(cls, held):
        form = dict(strides=held.stride(), storage_offset=held.storage_offset())
        kind = dict(dtype=held.dtype, layout=held.layout, device=NAME)
        return Tensor._make_wrapper_subclass(cls, held.size(), **form, **kind)

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"There({self.held})"

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return computed(op, args, kwargs or {})


class Device(TorchDispatchMode):
    """What makes tensors, such as torch.zeros(3, device=…), makes them on the device too."""

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        return computed(op, args, kwargs or {})


def computed(op, args, kwargs):
    tensors = [t for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)]
    here = any(isinstance(t, There) for t in tensors)
    may_mix = op._schema.name in ("aten::copy_", "aten::index", "aten::_index_put_impl_")
    if here and not may_mix and any(not isinstance(t, There) and t.ndim for t in tensors):
        raise RuntimeError(f"{op}: expected all tensors to be on the same device")
    if kwargs.get("device") is not None:
        here = torch.device(kwargs["device"]) == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = op(*tree_map(held, args), **tree_map(held, kwargs))
    if op._schema.name.endswith("_"):  # in place
        return args[0]
    return tree_map(there, out) if here else out


def held(t):
    return t.held if isinstance(t, There) else t


def there(t):
    if not torch.is_tensor(t):
        return t
    if t.dtype in (torch.float64, torch.complex128):
        raise TypeError("this device has no numbers of 64 bits: use float32 instead")
    return There(t)


def move(what):
    """A tensor, or all of a module, on the device."""
    if torch.is_tensor(what):
        return what.detach().to(NAME)
    for module in what.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(move(p), p.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = move(buffer)
    return what


class OnCPU(torch.Generator):
    """There are no generators on the device."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu" if torch.device(device) == NAME else device)


@contextmanager
def without_float64(monkeypatch):
    monkeypatch.setattr(torch, "Generator", OnCPU)
    with Device():
        yield move
