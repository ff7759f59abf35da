"""Chapter 12: noise, clipping and differential privacy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...leak import Tensors
from ._verdict import Verdict, call, check, close, random, tensor


def exercise_12_1(surprise: Callable[..., Tensor]) -> Verdict:
    """surprise(g, h, x, sigma, scale) -> minus the logarithm of the posterior."""

    def faults() -> Iterator[str]:
        g, h = ({"V": random(3, 4, seed=s), "b": random(3, seed=s + 1)} for s in (0, 2))
        x, sigma, scale = random(1, 5, 5, seed=4), 0.7, 0.3
        found = tensor(surprise, g, h, x, sigma, scale)
        apart = sum((g[name] - h[name]).square().sum() for name in g)
        down, right = (x.diff(dim=d).abs().sum() for d in (-2, -1))
        fit, rough = apart / (2 * sigma**2), (down + right) / scale
        same = partial(close, found)
        if found.numel() != 1:
            yield "the surprise is one number."
        if same(-fit - rough):
            yield "this is the logarithm; the attacker minimises, so it wants minus that."
        if same(fit):
            yield "this is the likelihood alone: the prior is missing."
        if same(2 * fit + rough):
            yield "the exponent of the normal law is divided by 2 sigma^2."
        if same(apart / (2 * sigma) + rough):
            yield "sigma stands squared in the normal law."
        if same(fit + down + right):
            yield "the differences count in units of scale."
        if same(fit + down / scale) or same(fit + right / scale):
            yield "pixels have neighbours below and to the right: add both."
        if same(fit + (x.diff(dim=-2).abs().mean() + x.diff(dim=-1).abs().mean()) / scale):
            yield "a product of probabilities has the sum of their logarithms, not the mean."
        if not same(fit + rough):
            yield f"the surprise of the test case is {float(fit + rough):.4f}."

    return check("12.1", faults)


def exercise_12_2(clip_each: Callable[[Tensors, float], Tensors]) -> Verdict:
    """clip_each(each, C) -> the sum over the images of their clipped gradients."""

    def faults() -> Iterator[str]:
        C = 2.0
        size = torch.tensor([0.1, 0.3, 1.0, 3.0], dtype=torch.float64)  # short and long ones
        each = {
            "V": size[:, None, None] * random(4, 2, 3, seed=0),
            "b": size[:, None] * random(4, 2, seed=1),
        }
        found = call(clip_each, each, C)
        if not isinstance(found, dict) or found.keys() != each.keys():
            yield "the sum is a dictionary {name: tensor} with the names of each."
        squares = {name: d.flatten(1).square().sum(1) for name, d in each.items()}
        norms = sum(squares.values()).sqrt()  # (B,)
        summed = lambda scale: {n: torch.tensordot(scale, d, 1) for n, d in each.items()}  # noqa: E731
        right = summed((C / norms).clamp(max=1))
        if any(found[name].shape != t.shape for name, t in right.items()):
            yield "sum over the images: the first axis is gone."
        same = partial(close, found)
        whole = summed(torch.ones_like(norms))
        length = sum(t.square().sum() for t in whole.values()).sqrt()
        if same(whole):
            yield "nothing is clipped."
        if same({name: t * (C / length).clamp(max=1) for name, t in whole.items()}):
            yield "this clips the sum: clip each image first, or one can push the others out."
        if same(
            {n: torch.tensordot((C / squares[n].sqrt()).clamp(max=1), each[n], 1) for n in each}
        ):
            yield "an image has one norm, over all its tensors together."
        if same(summed(C / norms)):
            yield "short gradients stay as they are: the factor is at most 1."
        if same(summed((C / norms.square()).clamp(max=1))):
            yield "divide by the norm, not by its square."
        if same({name: t / len(norms) for name, t in right.items()}):
            yield "this is the mean; the noise is added to the sum."
        if not same(right):
            yield "this is not the sum of the test case."

    return check("12.2", faults)


def exercise_12_3(noise_against: Callable[[float, float, int], float]) -> Verdict:
    """noise_against(prior, share, steps) -> the least noise that holds every attack below share."""

    def faults() -> Iterator[str]:
        from scipy.stats import norm

        prior, share, steps = 0.01, 0.05, 9
        found = tensor(noise_against, prior, share, steps)
        gap = float(norm.ppf(share) - norm.ppf(prior))
        right = math.sqrt(steps) / gap
        same = partial(close, found)
        if found.numel() != 1:
            yield "the noise is one number."
        if same(-right):
            yield "noise is positive: the two quantiles are swapped."
        if same(steps / gap):
            yield "steps add up as their square root."
        if same(1 / gap):
            yield "this is the noise for one step."
        if same(gap / math.sqrt(steps)):
            yield "this is 1 / noise."
        if same(math.sqrt(steps) / (share - prior)):
            yield "compare quantiles of the normal law, not the shares themselves."
        if same(math.sqrt(steps) / float(norm.ppf(share))) or same(
            -math.sqrt(steps) / float(norm.ppf(share))
        ):
            yield "what the attacker knows before the message counts too: the prior."
        if not same(right):
            yield f"the noise of the test case is {right:.4f}, not {float(found):.4f}."

    return check("12.3", faults)
