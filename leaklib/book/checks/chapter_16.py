"""Chapter 16: the adaptive attacker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...leak import Leak, Tensors
from ._verdict import Verdict, call, check, close, random, tensor

VERDICTS = ("recovered", "not tried", "search on", "hidden")


def _largest(d: Tensor, by: Tensor | None = None) -> Tensor:
    """The larger half of a tensor's entries, by magnitude, and zeros."""
    smallest = (d if by is None else by).abs().flatten().argsort()[: d.numel() // 2]
    return d.flatten().index_fill(0, smallest, 0).reshape(d.shape)


def exercise_16_1(defend: Callable[[Tensors, Leak], Tensors]) -> Verdict:
    """defend(gradient, leak) for a client that drops half of each tensor, then adds noise."""

    def faults() -> Iterator[str]:
        g = {"V": random(4, 6, seed=0), "b": 30 * random(6, seed=1)}
        truth = {"V": random(4, 6, seed=2), "b": 30 * random(6, seed=3)}
        noise = {"V": random(4, 6, seed=4), "b": random(6, seed=5)}
        h = {n: _largest(d) + 0.1 * noise[n] for n, d in truth.items()}
        before = {n: d.clone() for n, d in g.items()}
        found = call(defend, g, Leak({n: torch.zeros_like(d) for n, d in h.items()}, h))
        if not isinstance(found, dict) or set(found) != set(before):
            yield "return a dictionary {name: tensor} with the names of the gradient."
        if any(not torch.equal(d, before[n]) for n, d in g.items()):
            yield "the gradient itself was changed; return new tensors."
        every = torch.cat([d.flatten() for d in before.values()])
        level = every.abs().median()
        same = partial(close, found)
        if same(before):
            yield "nothing was left out: the noise has filled the zeros of the message."
        if same({n: d - _largest(d) for n, d in before.items()}):
            yield "these are the small entries, which the client drops."
        if same({n: d * (d.abs() > level) for n, d in before.items()}):
            yield "the client drops half of each tensor, not of all entries together."
        if same({n: _largest(d, by=h[n]) for n, d in before.items()}):
            yield "the likelihood compares h with what your own gradient would become: prune that."
        if not same({n: _largest(d) for n, d in before.items()}):
            yield "this is not the larger half of each tensor, with zeros for the rest."

    return check("16.1", faults)


def exercise_16_2(
    minus_log_likelihood: Callable[[Tensor, Tensor, float, float], Tensor],
) -> Verdict:
    """(g, h, sigma, delta) -> -log p(h | g) of a client that adds noise, then rounds."""

    def faults() -> Iterator[str]:
        sigma, delta = 0.5, 0.8
        g = random(6, seed=0)
        h = delta * ((g + sigma * random(6, seed=1)) / delta).round()
        found = tensor(minus_log_likelihood, g, h, sigma, delta)

        def cells(beyond: float) -> Tensor:
            upper, lower = ((h - g + side * beyond) / sigma for side in (1, -1))
            return torch.special.ndtr(upper) - torch.special.ndtr(lower)

        right = -cells(delta / 2).log().sum()
        square = (g - h).square().sum() / (2 * sigma**2)
        normal = torch.distributions.Normal(g, sigma).log_prob(h).sum()
        same = partial(close, found)
        if found.numel() != 1:
            yield "add up over all entries: the result is one number."
        if same(-right):
            yield "the sign: the attack minimises, so it needs minus the logarithm."
        if same((-right).exp()) or same(cells(delta / 2).sum()):
            yield "these are probabilities; take their logarithm."
        if same(right / len(g)):
            yield "the entries are independent: add their logarithms, without a mean."
        if same(-cells(delta).log().sum()):
            yield "a cell reaches half of delta to each side of h."
        if same(square) or same(-normal) or same(-normal - len(g) * torch.tensor(delta).log()):
            yield "this is noise without rounding: add up the density over the whole cell."
        if not same(right):
            yield f"the test case gives {right:.4f}, not {float(found):.4f}."

    return check("16.2", faults)


def exercise_16_3(verdict: Callable[[bool, float, float, float], str]) -> Verdict:
    """(knows, mse, found, private) -> what follows, one of `VERDICTS`."""

    def faults() -> Iterator[str]:
        says = partial(call, verdict)
        cases = [(True, 1e-4, 2.0, 1.0), (False, 0.2, 1.0, 9.0), (True, 0.2, 1.0, 9.0)]
        if any(says(*case) not in VERDICTS for case in cases):
            yield f"answer with one of {', '.join(map(repr, VERDICTS))}."
        if says(False, 1e-4, 1.0, 0.0) != "recovered" or says(*cases[0]) != "recovered":
            yield "an image that is there is there: whoever found it, the defence is broken."
        if says(True, 0.2, 1e-6, 0.0) == "recovered":
            yield "a small objective is no image: success is the MSE against the private one."
        if says(*cases[1]) != "not tried" or says(False, 0.2, 9.0, 1.0) != "not tried":
            yield "failing without knowing the defence proves nothing about it."
        if says(True, 0.2, 9.0, 1.0) != "search on" or says(True, 0.2, 1e-6, 0.0) != "search on":
            yield "the private image has the better objective: the search has missed it."
        if says(*cases[2]) != "hidden":
            yield "this attacker prefers a wrong image to the private one: no search will help."

    return check("16.3", faults)
