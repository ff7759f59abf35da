"""The words of the sentence that have settings: small frozen values that act when called."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any


class Word:
    """The base of a frozen dataclass: a distance, prior, solver or label rule with settings.

    Two with the same settings are equal, they pickle, and print as `name(setting=…)`, without the
    settings that have their default.  Called with settings alone, a word gives the word that has
    them; called with what it acts on, it acts, with the settings of this call.
    `formula` is what it computes, in LaTeX.
    """

    formula: str = ""

    def act(self, *args: Any, **given: Any) -> Any:
        """What the word does when it is called."""
        raise NotImplementedError

    def __call__(self, *args: Any, **given: Any) -> Any:
        names = {field.name for field in fields(self)}  # type: ignore[arg-type]
        settings = {name: given.pop(name) for name in list(given) if name in names}
        word = replace(self, **settings) if settings else self  # type: ignore[type-var]
        return word.act(*args, **given) if args or given else word

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)  # type: ignore[arg-type]
            if getattr(self, field.name) != field.default
        ]
        return f"{self.__name__}({', '.join(changed)})" if changed else self.__name__

    @property
    def __name__(self) -> str:
        return type(self).__name__.lower()
