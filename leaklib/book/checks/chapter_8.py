"""Chapter 8: batches and feedback blending."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ... import metrics
from ...random import generator
from ._verdict import Verdict, call, check, random, tensor


def exercise_8_1(order_of: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """order_of(images, truth) -> for each private image the number of its reconstruction."""

    def faults() -> Iterator[str]:
        truth = torch.rand(3, 1, 4, 4, generator=generator(4, "data"))
        # the mean of the first two is the nearest to both of them
        images = torch.stack([truth[2], truth[:2].mean(0), torch.full((1, 4, 4), 0.5)])
        wanted = metrics.assignment(images, truth)
        found = tensor(order_of, images, truth)
        if found.shape != (3,):
            yield f"return one number for each of the 3 private images, not {tuple(found.shape)}."
        if sorted(found.tolist()) != [0, 1, 2]:
            yield "a reconstruction was used twice: each may stand for one private image only."
        if found.tolist() == wanted.argsort().tolist() != wanted.tolist():
            yield "this is the inverse: say which reconstruction shows private image i."
        if found.tolist() != wanted.tolist():
            yield "another order has a smaller total error."

    return check("8.1", faults)


def exercise_8_2(blended: Callable[[Tensor | None, Tensor, bool, float], Tensor]) -> Verdict:
    """blended(m, x, success, alpha) -> the next blend."""

    def faults() -> Iterator[str]:
        m, x = random(1, 4, 4), random(1, 4, 4, seed=1)
        first = tensor(blended, None, x, True, 0.75)
        if not torch.allclose(first, x):
            yield "after the first success the blend is that image itself."
        after = tensor(blended, m, x, False, 0.75)
        if not torch.allclose(after, m):
            yield "a failure must leave the blend as it was."
        if blended(None, x, False, 0.75) is not None:
            yield "where there is no success yet there is no blend: return None."
        found = tensor(blended, m, x, True, 0.75)
        if torch.allclose(found, 0.25 * m + 0.75 * x):
            yield "alpha is what is kept of the old blend."
        if not torch.allclose(found, 0.75 * m + 0.25 * x):
            yield "the next blend is alpha m + (1 - alpha) x."

    return check("8.2", faults)


def exercise_8_3(share_of_gain: Callable[[float, float, float], float]) -> Verdict:
    """share_of_gain(noise, control, blend) -> the part of the saving that the control has too."""

    def faults() -> Iterator[str]:
        found = float(call(share_of_gain, 400.0, 200.0, 150.0))
        if abs(found - 200 / 150) < 1e-6 or abs(found - 150 / 200) < 1e-6:
            yield "compare what is saved against noise, not what is spent."
        if abs(found - 0.2) < 1e-6:
            yield "this is what the blend adds; the control's part is the rest."
        if abs(found - 0.8) > 1e-6:
            yield f"from 400 the control saves 200 and the blend 250: 0.8, not {found:.3g}."
        if abs(float(share_of_gain(300.0, 100.0, 150.0)) - 200 / 150) > 1e-6:
            yield "a control that saves more than the blend has a share above 1: do not cap it."

    return check("8.3", faults)
