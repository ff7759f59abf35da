"""An attack, said in words and shown as a formula with its blanks filled in."""

import html
from typing import TYPE_CHECKING

import torch

from .predict import single_step

if TYPE_CHECKING:
    from .attack import Attack


def in_words(attack: "Attack") -> str:
    """The attack's sentence, a few short lines."""
    a, y = attack, _label(attack)
    guess = f"{'g' if a.predict is single_step else named(a.predict)}(W, x', {y})"
    if a.defend is not None:
        guess = f"{named(a.defend)}({guess})"
    sent = "h" if a.sent is None else f"{named(a.sent)}({', '.join(['h', *_unknowns(a)])})"
    minimised = f"{named(a.distance)}({guess}, {sent})"
    if a.prior is not None:
        minimised += f" + {named(a.prior)}(x')"
    z = _searched(a)
    lines = [
        a.name,
        f"find {', '.join(z)} that minimise{'' if z[1:] else 's'}",
        f"  {minimised}",
        f"from {'given images' if torch.is_tensor(a.start) else a.start}"
        f"{f', {a.restarts} times' if a.restarts > 1 else ''}"
        f", with {named(a.solver)} in {a.steps:,} evaluations",
    ]
    if y == "y":
        lines.append(f"with labels y from {named(a.labels) if _is_rule(a) else 'the caller'}")
    return "\n  ".join(lines)


def as_formula(attack: "Attack") -> str:
    """The attack's sentence as MathML, which a notebook, the site and Colab all show."""
    from latex2mathml.converter import convert

    a, y = attack, _label(attack)
    minimised = _formula(a.distance, "(g, h)")
    if a.prior is not None:
        minimised += " + " + _formula(a.prior, "(x')")
    guess = getattr(a.predict, "formula", "") or f"g(W, x', {y})"
    if a.defend is not None:
        guess = rf"{_operator(named(a.defend))}\left( {guess} \right)"
    sent = r"\text{what was sent}"
    where = [f"g = {guess}", f"h = {sent if a.sent is None else _formula(a.sent, sent)}"]
    if _is_rule(a):
        where.append("y = " + _formula(a.labels, "(h)"))
    searched = ", ".join(_symbol(name) for name in _searched(a))
    lines = [rf"\min_{{{searched}}} \; {minimised}", r", \qquad ".join(where)]
    name, *others = in_words(a).split("\n")
    return (
        f'<div class="leak-attack"><p><strong>{html.escape(name)}</strong></p>'
        + "".join(f"<p>{convert(line)}</p>" for line in lines)
        + f"<p>{html.escape('; '.join(line.strip() for line in others[2:]))}</p></div>"
    )


def named(word: object) -> str:
    """What a word of the sentence is called, with the settings that are not its usual ones."""
    shown = repr(word)
    return getattr(word, "__name__", shown) if shown.startswith("<") else shown


def _searched(attack: "Attack") -> list[str]:
    return ["x'", *(["y'"] if _label(attack) == "y'" else []), *_unknowns(attack)]


def _unknowns(attack: "Attack") -> list[str]:
    return list({**getattr(attack.predict, "unknowns", {}), **attack.unknowns})


def _label(attack: "Attack") -> str:
    return "y'" if isinstance(attack.labels, str) else "y"


def _is_rule(attack: "Attack") -> bool:
    return callable(attack.labels) and not torch.is_tensor(attack.labels)


def _formula(word: object, of: str) -> str:
    """The word's own formula, or its name as an operator."""
    return getattr(word, "formula", "") or _operator(named(word)) + of


def _operator(name: str) -> str:
    return rf"\text{{{name.translate(str.maketrans('_', ' ', '{}<>'))}}}"


def _symbol(name: str) -> str:
    """A name as one would write it: a letter of either alphabet, or upright."""
    if name in ("alpha", "beta", "gamma", "lambda", "sigma"):
        return rf"\{name}"
    return name if len(name.rstrip("'")) == 1 else _operator(name)
