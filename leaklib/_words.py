"""The words of the sentence that have settings: small frozen values that act when called."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any


class Word:
    """The base of a frozen dataclass: a distance, prior, solver or label rule with settings.

    They compare, pickle, and print without the settings that are at their default.  Called with
    settings alone, a word gives the word that has them; called with what it acts on, it acts.
    """

    called = ""  # the name under which the value of the usual settings is known, where there is one
    formula = ""  # LaTeX with the settings as %(name)s, where it says more than the name

    act: Callable[..., Any]  # what the word does when it is called

    def __call__(self, *args: Any, **given: Any) -> Any:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        settings = {name: given.pop(name) for name in names if name in given}
        word: Any = replace(self, **settings) if settings else self  # type: ignore[type-var]
        return word.act(*args, **given) if args or given else word

    def __repr__(self) -> str:
        held = [(field, getattr(self, field.name)) for field in fields(self)]  # type: ignore[arg-type]
        changed = ", ".join(f"{f.name}={value!r}" for f, value in held if value != f.default)
        if self.called and not changed:
            return self.called
        return f"{self.called or type(self).__name__}({changed})"
