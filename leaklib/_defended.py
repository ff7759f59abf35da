"""A defence at the client's door: what is one, and what it may send."""

from collections.abc import Mapping

import torch

from ._errors import bad, require
from .leak import Tensors

BACK = "finite floating-point tensors, with the names and shapes of what it was given"


def checked_defense(defense: object, *others: type) -> None:
    """Raise ValueError unless it is None, a function of the direction, or one of the `others`."""
    known = defense is None or callable(defense) or isinstance(defense, others)
    came = repr(defense) if isinstance(defense, str | float | int) else type(defense).__name__
    wanted = "one of `defenses`, such as prune(0.9); several as defenses.compose(…)"
    require(known, "defense", came, wanted)


def defended(defend: object, direction: Tensors, generator: torch.Generator) -> Tensors:
    """What a function of the direction makes of it, as `checked_update` allows it."""
    try:
        sent = defend(direction, generator)  # type: ignore[operator]
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        name = getattr(defend, "__name__", type(defend).__name__)
        came = f"{name}, which raised {type(error).__name__} ({error})"
        wanted = "a function (direction, generator) -> direction, such as defenses.prune(0.9)"
        raise bad("defense", came, wanted) from error
    return checked_update(sent, direction)


def checked_update(sent: object, like: Tensors) -> Tensors:
    """What a defence returned, in the order, types and places of `like`, and without a graph.

    Raises ValueError for another form, and for numbers that are finite no more.
    """
    if not isinstance(sent, Mapping) or sent.keys() != like.keys():
        names = sorted(map(str, sent)) if isinstance(sent, Mapping) else type(sent).__name__
        raise bad("defense", f"{names} back", f"{BACK}: {list(like)}")
    update = {}
    for name, was in like.items():
        now = sent[name]
        is_tensor = torch.is_tensor(now) and now.layout == torch.strided
        came = f"shape {tuple(now.shape)} of {now.dtype}" if is_tensor else type(now).__name__
        fit = is_tensor and now.shape == was.shape and _is_of_kind(now, was)
        wanted = f"shape {tuple(was.shape)} of {was.dtype}"
        require(fit, "defense", f"{came} back for {name!r}", wanted)
        update[name] = now.detach().to(was)
        broken = was.isfinite().all() and not update[name].isfinite().all()
        require(not broken, "defense", f"NaN or infinite entries back for {name!r}", BACK)
    return update


def _is_of_kind(now: torch.Tensor, was: torch.Tensor) -> bool:
    """Whether both are real, or complex, numbers of some precision."""
    alike = now.is_floating_point() == was.is_floating_point()
    return alike and torch.can_cast(now.dtype, was.dtype)
