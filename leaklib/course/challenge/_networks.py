"""The few networks that a challenge may have, with checked arguments: no file says what to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from ... import keylock, models
from ..._errors import bad

Network = dict[str, Any]  # {"name": "lenet", "channels": 3, …}


class _Numbers(NamedTuple):
    low: int
    high: int


# every argument must be there: a changed default then changes no challenge
_LENET = {
    "channels": (1, 3),
    "size": _Numbers(11, 64),
    "classes": _Numbers(2, 100),
    "activation": tuple(models.ACTIVATIONS),
    "width": _Numbers(1, 32),
}
ARGUMENTS = {
    "lenet": _LENET,
    "lenet_opened": {**_LENET, "norm": (True, False)},
}


def _opened(norm: bool, **settings: Any) -> nn.Module:
    return keylock.opened(models.lenet_keylock(**settings, norm=norm, key=keylock.new_key(1)))


BUILD: dict[str, Callable[..., nn.Module]] = {"lenet": models.lenet, "lenet_opened": _opened}


def model_of(facts: Any) -> nn.Module:
    """The network that the `Facts` of a challenge describe: the architecture alone.

    Its weights are in the leak.  "lenet" is `models.lenet`; "lenet_opened" is the public part of a
    `models.lenet_keylock`, `keylock.opened`.
    Raises ValueError for any other network, and for arguments that are missing or out of range.
    """
    return build(facts.network)


def build(network: Network) -> nn.Module:
    """The network.  Raises ValueError as `check_network` does."""
    check_network(network)
    settings = {name: value for name, value in network.items() if name != "name"}
    return BUILD[network["name"]](**settings)


def check_network(network: object) -> None:
    """Raise ValueError unless a network is one of `ARGUMENTS`, with all of its arguments."""
    if not isinstance(network, dict) or not isinstance(network.get("name"), str):
        raise bad("network", type(network).__name__, "a dict with a name")
    name = network["name"]
    if name not in ARGUMENTS:
        raise bad("network", repr(name)[:40], f"one of {', '.join(ARGUMENTS)}")
    wanted = ARGUMENTS[name]
    if set(network) != {"name", *wanted}:
        raise bad("network", f"other arguments than those of {name!r}", ", ".join(wanted))
    for argument, allowed in wanted.items():
        value = network[argument]
        if isinstance(allowed, _Numbers):
            right = type(value) is int and allowed.low <= value <= allowed.high
            told = f"a whole number from {allowed.low} to {allowed.high}"
        else:
            # 1 == True, and a list cannot be looked up
            right = any(type(value) is type(one) and value == one for one in allowed)
            told = f"one of {', '.join(map(str, allowed))}"
        if not right:
            raise bad(f"network[{argument!r}]", repr(value)[:40], told)
