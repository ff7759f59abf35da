"""Chapter 6: from fully connected to convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, jacrev

from ._verdict import Verdict, call, check, random, tensor


def exercise_6_1(count: Callable[[torch.nn.Conv2d, int], tuple[int, int, int]]) -> Verdict:
    """count(layer, size) -> (unknowns, equations of the outputs, equations of the weights)."""

    def faults() -> Iterator[str]:
        layer = torch.nn.Conv2d(3, 8, 5, stride=2, padding=2)
        unknowns, outputs, weights = call(count, layer, 12)
        if unknowns == 12 * 12:
            yield "the image has three channels: all of them are unknown."
        if outputs == 8 * 12 * 12:
            yield "a stride of 2 halves the outputs along each side."
        if weights == 8 * 3 * 5 * 5 + 8:
            yield "the bias has a gradient too, but it does not contain the input."
        if (unknowns, outputs, weights) != (3 * 12 * 12, 8 * 6 * 6, 8 * 3 * 5 * 5):
            yield "3 x 12 x 12 pixels and 8 filters of 5 x 5 give 432, 288 and 600."
        if tuple(count(torch.nn.Conv2d(2, 4, 3), 9)) != (162, 196, 72):
            yield "right with this padding, wrong without: run the layer to see its output."

    return check("6.1", faults)


def exercise_6_2(undo: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Verdict:
    """undo(a, u) -> (z, dl/dz) of a = tanh(z), from dl/da = u."""

    def faults() -> Iterator[str]:
        z, u = random(9), random(9, seed=1)
        a = z.tanh()
        found, d = call(undo, a, u)
        if not torch.allclose(found, z):
            yield "z is not the inverse of tanh at a."
        if torch.allclose(d, (1 - a.tanh() ** 2) * u):
            yield "tanh' is meant at z, where it is 1 - a^2; you put in a for z."
        if torch.allclose(d, u / (1 - a**2)):
            yield "the chain rule multiplies by the slope on the way down."
        if not torch.allclose(d, (1 - a**2) * u):
            yield "dl/dz is not (1 - a^2) u."

    return check("6.2", faults)


def exercise_6_3(solve: Callable[..., Tensor]) -> Verdict:
    """solve(outputs, W, z, d, G, n) -> the input x (n,) of a convolution without bias."""

    def faults() -> Iterator[str]:
        x, W = random(192), random(3, 3, 5, 5, seed=1)

        def outputs(x: Tensor, W: Tensor) -> Tensor:
            return F.conv2d(x.reshape(1, 3, 8, 8), W, stride=2, padding=2).flatten()

        z, d = outputs(x, W), random(48, seed=2)
        G = grad(lambda W: outputs(x, W) @ d)(W)
        found = tensor(solve, outputs, W, z, d, G, 192)
        if found.shape != x.shape:
            yield f"return the {len(x)} numbers of the input, not shape {tuple(found.shape)}."
        A = jacrev(outputs)(torch.zeros_like(x), W)
        K = jacrev(lambda x: grad(lambda W: outputs(x, W) @ d)(W).flatten())(torch.zeros_like(x))
        if torch.allclose(found, torch.linalg.pinv(A) @ z):
            yield "48 outputs cannot fix 192 numbers: stack the weights' equations on them."
        if torch.allclose(found, torch.linalg.pinv(K) @ G.flatten()):
            yield "225 equations of the weights, but only 180 differ: stack the outputs' on them."
        if not torch.allclose(found, x, atol=1e-8):
            yield "this is not the input."

    return check("6.3", faults)
