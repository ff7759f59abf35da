"""One problem's function made into a function of many."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from ._errors import first_line, is_out_of_memory


def batched(problem: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """problem(*args) for P of them, each tensor with an axis more: by vmap, or in a loop."""
    loop = False

    def evaluate(*args: Any) -> Tensor:
        nonlocal loop
        P = len(first(args))
        one = lambda i: problem(*each(lambda t: t[i], args))  # noqa: E731
        try:
            if P == 1 or loop:
                return torch.stack([one(i) for i in range(P)])
            return vmap(problem)(*args)
        except Exception as error:
            if is_out_of_memory(error):
                error.add_note("Lower the victims of a stack, the restarts, or the batch size.")
            if P == 1 or loop or is_out_of_memory(error):
                raise
            why = first_line(error)
        values = torch.stack([one(i) for i in range(P)])  # or the error that is the problem's own
        loop, said = True, "this network cannot be batched by vmap, so its problems run one by one"
        warnings.warn(f"{said} ({why})", stacklevel=2)
        return values

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
