"""Chapter 13: a client that sends less, or less exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ...leak import Leak, Tensors
from ._verdict import Verdict, call, check, close, random


def _pruned() -> tuple[Tensors, Leak]:
    """The attacker's own gradient, and a message of which about half is missing."""
    h = {"V": 3 * random(4, 5, seed=4), "b": random(6, seed=5)}
    sent = {"V": h["V"] * (h["V"].abs() > 1.5), "b": h["b"] * (h["b"].abs() > 0.5)}
    g = {"V": 3 * random(4, 5, seed=6), "b": random(6, seed=7)}
    return g, Leak(h, sent)


def _fits(found: object, wanted: Tensors) -> bool:
    return (
        isinstance(found, dict)
        and list(found) == list(wanted)
        and all(torch.as_tensor(found[n]).shape == t.shape for n, t in wanted.items())
    )


def exercise_13_1(defend: Callable[[Tensors, Leak], Tensors]) -> Verdict:
    """defend(gradient, leak) -> the gradient with zeros where nothing was sent."""

    def faults() -> Iterator[str]:
        g, leak = _pruned()
        h = leak.direction
        found = call(defend, g, leak)
        same = partial(close, found)
        if not _fits(found, g):
            yield "return a dictionary with the gradient's names and shapes: zeros, no holes."
        if same(g):
            yield "nothing is left out: this is the attacker who does not know of the defence."
        if same(h):
            yield "this returns the message; then every guess fits. Keep the guess's own numbers."
        if same({n: torch.where(h[n] > 0, g[n], 0.0) for n in g}):
            yield "negative entries were sent too: the test is h != 0."
        if same({n: g[n] * h[n] for n in g}):
            yield "multiply by the mask h != 0, not by h itself."
        if same({n: torch.where(h[n] == 0, g[n], 0.0) for n in g}):
            yield "these are the entries that were not sent."
        if not same({n: torch.where(h[n] != 0, g[n], 0.0) for n in g}):
            yield "an entry is the guess's where h != 0, and zero elsewhere."

    return check("13.1", faults)


def exercise_13_2(cell: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> Verdict:
    """cell(h, bits) -> (low, high): between which numbers each entry was before rounding."""

    def faults() -> Iterator[str]:
        bits, h = 4, torch.tensor([[0.7, -0.1], [0.0, 0.3]], dtype=torch.float64)
        low, high = (torch.as_tensor(end).double() for end in call(cell, h, bits))
        same = partial(close, high - low)
        if low.shape != h.shape or high.shape != h.shape:
            yield "low and high have the shape of h: one cell for each entry."
        if (low > high).any():
            yield "low is above high."
        if same(0.2):
            yield "rounding is to the nearest level: a cell reaches half a level to each side."
        if same(0.7 / 2 ** (bits - 1)) or same(0.7 / 2**bits) or same(1.4 / 2**bits):
            yield "count the levels: 2^(bits - 1) - 1 of them lie between zero and max |h|."
        if same(0.7 / (2**bits - 1)):
            yield "the levels reach from -max |h| to max |h|, not from 0."
        if torch.allclose(low + high, torch.zeros_like(h)):
            yield "the cell lies around h, not around zero."
        if not same(0.1) or not torch.allclose(low + high, 2 * h):
            yours = f"{low[0, 0]:.3f} to {high[0, 0]:.3f}"
            yield f"the first cell of the test case is 0.65 to 0.75, not {yours}."

    return check("13.2", faults)


def exercise_13_3(defend: Callable[[Tensors, Leak], Tensors]) -> Verdict:
    """defend(gradient, leak) -> sent entries as they are, of each other what exceeds the bound."""

    def faults() -> Iterator[str]:
        g, leak = _pruned()
        h = leak.direction
        found = call(defend, g, leak)
        same = partial(close, found)
        if not _fits(found, g):
            yield "return a dictionary with the gradient's names and shapes: zeros, no holes."

        def beyond(bound: Callable[[str], Tensor]) -> Tensors:
            over = {n: t - t.clamp(-bound(n), bound(n)) for n, t in g.items()}
            return {n: torch.where(h[n] != 0, g[n], over[n]) for n in g}

        least = {n: t[t != 0].abs().min() for n, t in h.items()}
        flat = torch.cat([t.flatten() for t in h.values()]).abs()
        right = beyond(least.get)
        if same({n: torch.where(h[n] != 0, g[n], 0.0) for n in g}):
            yield "this leaves the dropped entries out; the bound on them is not used."
        if same(beyond(lambda n: flat[flat > 0].min())):
            yield "each tensor was pruned for itself, and has a bound of its own."
        if same(beyond(lambda n: h[n].abs().max())):
            yield "the bound is the smallest entry that was sent, not the largest."
        if same(beyond(lambda n: h[n].abs().min())):
            yield "nothing is taken away; is t zero? The smallest is among the entries that yours."
        if same({n: right[n].abs() * (h[n] == 0) + g[n] * (h[n] != 0) for n in g}):
            yield "the sign is lost: an entry below -t is g + t, a negative number."
        if not same(right):
            yield "sent entries stay; a dropped one is g - t above t, g + t below -t, else zero."

    return check("13.3", faults)
