"""A loss, by what it does: what it takes for a target, and whether it is softmax cross-entropy."""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.functional import one_hot

from . import random
from ._errors import bad, require

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> a number, such as `F.cross_entropy` or `nn.BCEWithLogitsLoss()`."""


def value(loss: Loss, output: Tensor, target: Tensor, name: str = "y") -> Tensor:
    """loss(output, target), a finite number; else ValueError for `name` or for the loss."""
    require(callable(loss), "loss", repr(loss), "a function (outputs, targets) -> a number")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # such as of shapes that broadcast by accident
        try:
            number = loss(output, target)
        except Exception as error:
            got = f"shape {tuple(target.shape)} of {target.dtype}"
            wanted = f"targets that the loss takes for outputs {tuple(output.shape)} ({error})"
            raise bad(name, got, wanted) from error
    is_number = torch.is_tensor(number) and number.shape == ()
    came = f"shape {tuple(number.shape)}" if torch.is_tensor(number) else type(number).__name__
    require(is_number, "loss", f"a value of {came}", 'one number, such as by reduction="mean"')
    require(number.isfinite(), name, f"a loss of {float(number)}", "targets of a finite loss")
    return number


def is_cross_entropy(loss: Loss) -> bool:
    """Whether it is the mean softmax cross-entropy, for every row of probabilities."""
    if loss is F.cross_entropy:
        return True
    z, q = torch.randn(2, 2, 3, generator=random.generator(0, "probes")).unbind()
    return _agree(z, (loss, q.softmax(-1)), (F.cross_entropy, q.softmax(-1)))


def takes_classes(loss: Loss, output: Tensor) -> bool:
    """Whether class numbers and their one-hot rows are the same target to it."""
    if loss is F.cross_entropy:
        return True
    if output.ndim != 2:
        return False
    B, C = output.shape
    y = torch.arange(B, device=output.device) % C
    z = torch.randn(B, C, generator=random.generator(0, "probes")).to(output)
    return _agree(z, (loss, y), (loss, one_hot(y, C).to(output)))


def _agree(z: Tensor, *pairs: tuple[Loss, Tensor]) -> bool:
    """Whether two losses with a target each are the same for outputs z."""
    try:
        one, other = (value(loss, z, target) for loss, target in pairs)
    except ValueError:
        return False
    return torch.allclose(one, other, rtol=1e-4)
