"""The wording of every error: the argument's name, what came, what was wanted."""

from collections.abc import Iterable
from math import inf
from numbers import Integral
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
    require(0 < value < inf, name, value, f"{what}, a positive number".removeprefix(", "))


def count(name: str, value: Any) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    require(whole and int(value) > 0, name, repr(value), "a positive whole number")


def at_least_0(name: str, value: float, what: str) -> None:
    require(0 <= value < inf, name, value, f"{what} of at least 0")


def share(name: str, value: float) -> None:
    require(0 <= value <= 1, name, value, "a share from 0 to 1")


def is_out_of_memory(error: BaseException) -> bool:
    said, known = str(error).lower(), ("out of memory", "can't allocate", "not enough memory")
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or any(
        words in said for words in known
    )


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
