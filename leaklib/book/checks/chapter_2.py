"""Chapter 2: the linear layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ._verdict import Verdict, check, random, tensor


def exercise_2_1(input_from: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """input_from(dV, db) -> x, when some rows are zero."""

    def faults() -> Iterator[str]:
        x, delta = random(7), random(5, seed=1)
        delta[[0, 3]] = 0
        found = tensor(input_from, delta[:, None] * x, delta)
        if found.shape != x.shape:
            yield f"the input has shape {tuple(x.shape)}, yours {tuple(found.shape)}."
        if found.isnan().any():
            yield "NaN: a silent unit has db = 0, and 0/0 spoils the mean. Leave it out."
        if torch.allclose(found, x * 3 / 5):
            yield "you divide by the number of all units; the silent ones added nothing."
        if not torch.allclose(found, x):
            yield "this is not the input."
        noisy = delta[:, None] * x + 1e-3 * random(5, 7, seed=2)
        loud = delta.clone()
        loud[1] = 1e-9  # a whisper drowned in rounding
        if (input_from(noisy, loud) - x).abs().max() > 1:
            yield "exact without noise, but a tiny db ruins it: weight rows by db squared."

    return check("2.1", faults)


def exercise_2_2(unmix: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """unmix(dV, delta) -> all inputs of a batch."""

    def faults() -> Iterator[str]:
        X, delta = random(3, 7), random(3, 9, seed=1)
        found = tensor(unmix, delta.T @ X / 3, delta)
        if found.shape != X.shape:
            yield f"three inputs of 7 numbers have shape (3, 7), yours {tuple(found.shape)}."
        if torch.allclose(found, X / 3):
            yield "every image is a third too dark: the loss is a mean over the batch."
        if not torch.allclose(found, X):
            yield "these are not the inputs; solve dV = delta' X / B for X."

    return check("2.2", faults)


def exercise_2_3(shape_of: Callable[[Tensor], Tensor]) -> Verdict:
    """shape_of(dV) -> x / max(x), without the bias."""

    def faults() -> Iterator[str]:
        x, delta = random(7).abs(), torch.tensor([0.0, -2.0, 0.5], dtype=torch.float64)
        found = tensor(shape_of, delta[:, None] * x)
        if found.isnan().any():
            yield "NaN: the first row is silent. Take a row that is not."
        if torch.allclose(found, x):
            yield "the scale cannot be known; return it with its largest entry at 1."
        if found.shape == x.shape and (found * x).sum() < 0:
            yield "the picture is a negative: pixels are not negative, so flip the sign."
        if found.shape != x.shape or not torch.allclose(found, x / x.max()):
            yield "this is not x / max(x)."

    return check("2.3", faults)
