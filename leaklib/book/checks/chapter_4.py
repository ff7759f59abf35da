"""Chapter 4: DLG."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...leak import Tensors
from ...random import generator
from ._verdict import Verdict, check, random, tensor


def exercise_4_1(distance: Callable[[Tensors, Tensors], Tensor]) -> Verdict:
    """distance(g, G) -> sum over parameters of the squared norms of the differences."""

    def faults() -> Iterator[str]:
        g = {"V": random(3, 4), "b": random(3, seed=1)}
        G = {"V": random(3, 4, seed=2), "b": random(3, seed=3)}
        found = tensor(distance, g, G)
        parts = [(g[n] - G[n]).square() for n in g]
        right = sum(p.sum() for p in parts)
        if found.numel() != 1:
            yield "the distance is one number."
        if torch.allclose(found, sum(p.mean() for p in parts)):
            yield "this takes means; DLG sums, so that every entry counts the same."
        if any(torch.allclose(found, p.sum()) for p in parts):
            yield "this is only one of the layers; sum over all of them."
        if torch.allclose(found, sum(p.sum().sqrt() for p in parts)):
            yield "these are norms; the distance is made of squared norms."
        if not torch.allclose(found, right):
            yield f"the distance of the test case is {right:.4f}, not {float(found):.4f}."

    return check("4.1", faults)


def exercise_4_2(has_exploded: Callable[[Tensor], Tensor]) -> Verdict:
    """has_exploded(images) -> which guesses were thrown away."""

    def faults() -> Iterator[str]:
        images = torch.rand(4, 1, 1, 5, 5, generator=generator(0, "data"))
        images[1] *= 1e6
        images[2, 0, 0, 0, 0] = float("nan")
        images[3] = 1.5 * images[3] - 0.2  # a good guess may leave [0, 1] a little
        found = tensor(has_exploded, images)
        if found.shape != (4,):
            yield f"one answer an attack, shape (4,); yours has shape {tuple(found.shape)}."
        if found[3]:
            yield "a guess that leaves [0, 1] by a little has not exploded."
        if not found[2]:
            yield "NaN slipped through: every comparison with NaN is false."
        if found.tolist() != [False, True, True, False]:
            yield f"of the test cases the second and third exploded; you say {found.tolist()}."

    return check("4.2", faults)


def exercise_4_3(soft_cross_entropy: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """soft_cross_entropy(z, u) -> finite for any logits."""

    def faults() -> Iterator[str]:
        z, u = random(5), random(5, seed=1)
        right = F.cross_entropy(z[None], u.softmax(0)[None])
        found = tensor(soft_cross_entropy, z, u)
        if torch.allclose(found, -right):
            yield "the sign is wrong: a loss is positive."
        if torch.allclose(found, F.cross_entropy(z[None], u[None])):
            yield "u are free numbers; put them through a softmax first."
        if found.numel() != 1 or not torch.allclose(found, right):
            yield f"the loss of the test case is {right:.4f}."
        far = torch.tensor([0.0, 200.0, 0.0, 0.0, 0.0])
        if not soft_cross_entropy(far, u.float()).isfinite():
            yield "infinite for far logits: use log_softmax, not the log of a softmax."

    return check("4.3", faults)
