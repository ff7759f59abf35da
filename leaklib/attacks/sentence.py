"""An attack, said in words and shown as a formula with its blanks filled in."""

import html
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from .predict import single_step

if TYPE_CHECKING:
    from .attack import Attack


def in_words(a: "Attack") -> str:
    """The attack's sentence, a few short lines."""
    z, c = searched(a)
    guess = f"{'g' if a.predict is single_step else named(a.predict)}({', '.join(['W', *z])})"
    if a.defend is not None:
        guess = f"{named(a.defend)}({guess})"
    sent = "h" if a.sent is None else f"{named(a.sent)}({', '.join(['h', *c])})"
    prior = "" if a.prior is None else f" + {named(a.prior)}(x')"
    start = "given images" if torch.is_tensor(a.start) else a.start or "half or grey"
    times = f", {a.restarts} times" if a.restarts > 1 else ""
    found = [name for name in (*z, *c) if name != "y"]
    lines = [
        a.name,
        f"find {', '.join(found)} that minimise{'' if found[1:] else 's'}",
        f"  {named(a.distance)}({guess}, {sent}){prior}",
        f"from {start}{times}, with {named(a.solver)} in {a.steps:,} evaluations",
    ]
    if a.loss is not F.cross_entropy:
        lines.append(f"of the loss {named(a.loss)}")
    if "y" in z:
        lines.append(f"with labels y from {named(a.labels) if is_rule(a) else 'the caller'}")
    return "\n  ".join(lines)


def as_formula(a: "Attack") -> str:
    """The attack's sentence as MathML, which a notebook, the site and Colab all show."""
    from latex2mathml.converter import convert

    z, c = searched(a)
    found = ", ".join(_letter(name) for name in (*z, *c) if name != "y")
    minimised = _formula(a.distance, "(g, h)")
    if a.prior is not None:
        minimised += " + " + _formula(a.prior, "(x')")
    guess = f"({', '.join(['W', *z])})"
    guess = f"g{guess}" if a.predict is single_step else _formula(a.predict, guess)
    if a.defend is not None:
        guess = rf"{_upright(named(a.defend))}\left( {guess} \right)"
    sent = _upright("what was sent")
    where = [f"g = {guess}", f"h = {sent if a.sent is None else _formula(a.sent, sent)}"]
    if is_rule(a):
        where.append("y = " + _formula(a.labels, "(h)"))
    name, *others = in_words(a).split("\n")
    shown = [rf"\min_{{{found}}} \; {minimised}", r", \qquad ".join(where)]
    parts = [f"<strong>{html.escape(name)}</strong>", *map(convert, shown)]
    parts.append(html.escape("; ".join(line.strip() for line in others[2:])))
    return f'<div class="leak-attack">{"".join(f"<p>{part}</p>" for part in parts)}</div>'


def named(word: object) -> str:
    """What a word of the sentence is called, with the settings that are not its usual ones."""
    shown = repr(word)
    return getattr(word, "__name__", shown) if shown.startswith("<") else shown


def searched(a: "Attack") -> tuple[list[str], list[str]]:
    """What a guess is made of, y standing for labels that are not searched; and the unknowns."""
    label = "y'" if isinstance(a.labels, str) else "y"
    return ["x'", label], list(a.searched)


def is_rule(a: "Attack") -> bool:
    return callable(a.labels) and not torch.is_tensor(a.labels)


def _formula(word: object, of: str) -> str:
    return getattr(word, "formula", "") % vars(word) or _upright(named(word)) + of


def _letter(name: str) -> str:
    is_greek, is_latin = name in ("alpha", "beta", "gamma", "sigma"), len(name.rstrip("'")) == 1
    return rf"\{name}" if is_greek else name if is_latin else _upright(name)


def _upright(name: str) -> str:
    return rf"\text{{{name.translate(str.maketrans('_', ' ', '{}<>'))}}}"
