"""An attack, said in words and shown as a formula with its blanks filled in."""

import html
from typing import TYPE_CHECKING

import torch

from .predict import single_step

if TYPE_CHECKING:
    from .attack import Attack

GREEK = ("alpha", "beta", "gamma", "lambda", "sigma")


def in_words(a: "Attack") -> str:
    """The attack's sentence, a few short lines."""
    guess = f"{'g' if a.predict is single_step else named(a.predict)}(W, x', {_label(a)})"
    if a.defend is not None:
        guess = f"{named(a.defend)}({guess})"
    z = _searched(a)
    sent = "h" if a.sent is None else f"{named(a.sent)}({', '.join(['h', *_unknowns(a)])})"
    prior = "" if a.prior is None else f" + {named(a.prior)}(x')"
    start = "given images" if torch.is_tensor(a.start) else a.start
    times = f", {a.restarts} times" if a.restarts > 1 else ""
    lines = [
        a.name,
        f"find {', '.join(z)} that minimise{'' if z[1:] else 's'}",
        f"  {named(a.distance)}({guess}, {sent}){prior}",
        f"from {start}{times}, with {named(a.solver)} in {a.steps:,} evaluations",
    ]
    if "y'" not in z:
        lines.append(f"with labels y from {named(a.labels) if _is_rule(a) else 'the caller'}")
    return "\n  ".join(lines)


def as_formula(a: "Attack") -> str:
    """The attack's sentence as MathML, which a notebook, the site and Colab all show."""
    from latex2mathml.converter import convert

    minimised = _formula(a.distance, "(g, h)")
    if a.prior is not None:
        minimised += " + " + _formula(a.prior, "(x')")
    guess = "" if a.predict is single_step else _formula(a.predict, f"(W, x', {_label(a)})")
    guess = guess or f"g(W, x', {_label(a)})"
    if a.defend is not None:
        guess = rf"{_upright(named(a.defend))}\left( {guess} \right)"
    sent = _upright("what was sent")
    where = [f"g = {guess}", f"h = {sent if a.sent is None else _formula(a.sent, sent)}"]
    if _is_rule(a):
        where.append("y = " + _formula(a.labels, "(h)"))
    found = ", ".join(rf"\{z}" if z in GREEK else _letter(z) for z in _searched(a))
    lines = [rf"\min_{{{found}}} \; {minimised}", r", \qquad ".join(where)]
    name, *others = in_words(a).split("\n")
    said = html.escape("; ".join(line.strip() for line in others[2:]))
    shown = "".join(f"<p>{convert(line)}</p>" for line in lines)
    head = f"<p><strong>{html.escape(name)}</strong></p>"
    return f'<div class="leak-attack">{head}{shown}<p>{said}</p></div>'


def named(word: object) -> str:
    """What a word of the sentence is called, with the settings that are not its usual ones."""
    shown = repr(word)
    return getattr(word, "__name__", shown) if shown.startswith("<") else shown


def _searched(a: "Attack") -> list[str]:
    return ["x'", *(["y'"] if _label(a) == "y'" else []), *_unknowns(a)]


def _unknowns(a: "Attack") -> list[str]:
    return list({**getattr(a.predict, "unknowns", {}), **a.unknowns})


def _label(a: "Attack") -> str:
    return "y'" if isinstance(a.labels, str) else "y"


def _is_rule(a: "Attack") -> bool:
    return callable(a.labels) and not torch.is_tensor(a.labels)


def _formula(word: object, of: str) -> str:
    """The word's own formula, or its name as an operator."""
    return getattr(word, "formula", "") % vars(word) or _upright(named(word)) + of


def _letter(name: str) -> str:
    return name if len(name.rstrip("'")) == 1 else _upright(name)


def _upright(name: str) -> str:
    return rf"\text{{{name.translate(str.maketrans('_', ' ', '{}<>'))}}}"
