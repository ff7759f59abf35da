"""The wording of every error: the argument's name, what came, what was wanted."""

import math
from collections.abc import Iterable


def bad(name: str, got: object, wanted: str) -> ValueError:
    """The ValueError `name: got …; wanted …`."""
    return ValueError(f"{name}: got {got}; wanted {wanted}")


def one_of(name: str, value: object, known: Iterable[str]) -> None:
    """Raise ValueError unless the value is one of the names that are known."""
    if value not in (names := list(known)):
        raise bad(name, repr(value), f"one of {', '.join(names)}")


def at_least_0(name: str, value: float, what: str) -> None:
    """Raise ValueError unless 0 <= value < infinity."""
    if not 0 <= value < math.inf:
        raise bad(name, value, f"{what} of at least 0")


def positive(name: str, value: float, what: str) -> None:
    """Raise ValueError unless 0 < value < infinity."""
    if not 0 < value < math.inf:
        raise bad(name, value, f"{what}, a positive number")


def share(name: str, value: float) -> None:
    """Raise ValueError unless 0 <= value <= 1."""
    if not 0 <= value <= 1:
        raise bad(name, value, "a share from 0 to 1")
