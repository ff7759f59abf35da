"""The wording of every error: the argument's name, what came, what was wanted."""

from collections.abc import Callable, Iterable
from math import inf
from numbers import Integral, Real
from typing import Any


def bad(name: str, got: object, wanted: str) -> ValueError:
    return ValueError(f"{name}: got {got}; wanted {wanted}")


def require(holds: object, name: str, got: object, wanted: str) -> None:
    if not holds:
        raise bad(name, got, wanted)


def one_of(name: str, value: object, known: Iterable[str]) -> None:
    names = list(known)
    require(value in names, name, repr(value), f"one of {', '.join(names)}")


def positive(name: str, value: float, what: str = "") -> None:
    number(name, value, lambda: 0 < value < inf, f"{what}, a positive number".removeprefix(", "))


def count(name: str, value: Any) -> None:
    whole(name, value, "a positive whole number")


def at_least_0(name: str, value: float, what: str) -> None:
    number(name, value, lambda: 0 <= value < inf, f"{what} of at least 0")


def share(name: str, value: float) -> None:
    holds = lambda: isinstance(value, Real) and 0 <= value <= 1  # noqa: E731
    number(name, value, holds, "a share from 0 to 1")


def whole(name: str, value: int, wanted: str, least: float = 1, most: float = inf) -> None:
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    number(name, value, lambda: is_whole and least <= value <= most, wanted)


def number(name: str, value: object, holds: Callable[[], bool], wanted: str) -> None:
    """Raise ValueError unless it holds: what is no number compares with none."""
    try:
        fit = bool(holds())
    except (TypeError, ValueError, RuntimeError):
        fit = False
    is_short = isinstance(value, Real | str) or value is None
    require(fit, name, value if is_short else type(value).__name__, wanted)


def is_out_of_memory(error: BaseException) -> bool:
    said, known = str(error).lower(), ("out of memory", "can't allocate", "not enough memory")
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or any(
        words in said for words in known
    )


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
