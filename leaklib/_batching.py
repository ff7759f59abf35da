"""One problem's function made into a function of many."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap


def batched(problem: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """problem(*args) for P of them, each tensor with an axis more: by vmap, or in a loop."""
    loop = False

    def evaluate(*args: Any) -> Tensor:
        nonlocal loop
        P = len(first(args))
        if P > 1 and not loop:
            try:
                return vmap(problem)(*args)
            except RuntimeError as error:
                if isinstance(error, torch.cuda.OutOfMemoryError) or "allocate" in str(error):
                    raise
                loop, why = True, str(error).splitlines()[0]
                said = "this network cannot be batched by vmap, so its problems run one by one"
                warnings.warn(f"{said} ({why})", stacklevel=2)
        return torch.stack([problem(*each(lambda t: t[i], args)) for i in range(P)])  # noqa: B023

    return evaluate


def each(fn: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """fn of every tensor in dicts, tuples and named tuples."""
    if isinstance(tree, dict):
        return {name: each(fn, part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [each(fn, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return fn(tree)


def first(tree: Any) -> Tensor:
    """The first tensor in dicts and tuples."""
    while not torch.is_tensor(tree):
        tree = next(iter(tree.values() if isinstance(tree, dict) else tree))
    return tree
