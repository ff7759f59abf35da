"""The sentence as a value."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import distances, solvers
from .._errors import bad
from ..distances import Distance
from ..labels import Labels
from ..leak import Leak, Tensors
from . import sentence
from .predict import single_step
from .search import STARTS, Reconstruction, match

__all__ = ["Attack"]

Begin = Callable[[Leak], Tensor]
EXAMPLES = {
    "distance": "distances.l2",
    "prior": "priors.total_variation(0.1)",
    "defend": "adaptive.entries_sent",
    "predict": "attacks.single_step",
    "sent": "attacks.scaled",
    "measure": "distances.cosine",
    "solver": "solvers.lbfgs",
}


@dataclass(frozen=True, eq=False, repr=False)
class Attack:
    """Find z that minimises distance(defend(g(W, z, y)), leak) + prior(z), from a start.

    Called `attack(model, leak, shape, seed=0, progress=False, **changes)`, it runs on all problems
    of a leak at once, V victims times R restarts, and returns a `Reconstruction`.  It sees the
    architecture and the leak; the restart that it keeps is the one whose objective is smallest.

    model   the architecture; its own weights do not count, and it is not changed
    leak    one `Leak`, or a stack of V
    shape   (B, C, H, W) of one victim's batch
    seed    of the start, and of labels that are searched
    progress  whether to show a bar
    changes replace fields for this call: `attacks.idlg(model, leak, shape, start="uniform")`

    Raises ValueError for a field of the wrong kind, when it is made; and when leak, shape, labels
    or start do not fit the model, or two images of a batch begin alike with the same label.
    """

    name: str
    """What the attack is called."""

    labels: Labels = "joint"
    """"joint" searches the labels with the image; class numbers (B,) or (V, B), -1 for one that is
    not known; or a rule `(leak, model=None, loss=None) -> labels` such as `labels.idlg`.  A victim
    with the label -1 is attacked with class 0, and never marked converged."""

    distance: Distance = distances.l2
    """How far two directions {name: tensor} of one problem are apart, as those of `distances`."""

    prior: Callable[[Tensor], Tensor] | None = None
    """What is believed of images (B, C, H, W): a number that is added, as those of `priors`."""

    defend: Callable[[Tensors, Leak], Tensors] | None = None
    """What the attacker who knows a defence does to its own direction, as those of `adaptive`."""

    predict: Callable[..., Tensors] = single_step
    """What the client's steps are taken to be: the direction that a guess would send."""

    unknowns: Mapping[str, float | Tensor | Begin] = field(default_factory=dict)
    """What else is searched, by where it begins: a number, (V, n), or a function of the leaks.
    It stands in place of what `predict` brings under the same name."""

    sent: Callable[[Tensors, Tensors], Tensors] | None = None
    """What the guess is compared with, `sent(h, c)` of the leak's direction h and the unknowns c;
    None is h itself."""

    measure: Distance | None = None
    """The distance that says whether the two agree, where that is not `distance`, which then does
    not say when a problem is solved."""

    scale_free: bool = False
    """Whether the size of a gradient is not matched.  Then labels that are searched are read as
    argmax (y' - p), with p what the network says of x'."""

    start: str | Tensor = "half"
    """Where images begin: "half" (0.5), "zeros", "uniform" on [0, 1], "normal", or images that
    broadcast to (V, R, B, C, H, W)."""

    solver: Callable[..., solvers.Solution] = solvers.lbfgs
    """What minimises, as those of `solvers`, over z = x' (V R, B, C, H, W), or a tuple of x', the
    labels' logits and the unknowns."""

    steps: int = 2000
    """How many evaluations a problem may take."""

    restarts: int = 1
    """How many starts each victim gets; the best by objective is kept."""

    reads: tuple[Literal["gradient", "weights"], ...] = ("gradient", "weights")
    """Which kinds of leak the attack is made for."""

    about: str = field(default="", compare=False)
    """What is particular to it, and its source; a changed attack says from which it was changed."""

    base: "Attack | None" = field(default=None, compare=False)
    """The attack that this one was changed from; set by `dataclasses.replace`."""

    def __post_init__(self) -> None:
        _check(self)
        base = self.base
        if base is None or (self.about and self.about != base.about):
            # made from nothing, or by an author who says what it is: an attack in its own right
            about, base = self.about, self
        elif self.changed or self.name != base.name:
            about = f"Changed from {base.name}: {', '.join(self.changed) or 'name'}."
        else:
            about = base.about
        own = about if base is self or about == base.about else ""
        for part, value in dict(base=base, about=own, __doc__=f"{about}\n\n{self!r}").items():
            object.__setattr__(self, part, value)

    @property
    def changed(self) -> list[str]:
        """The fields in which it differs from the attack that it was changed from."""
        names = [part.name for part in fields(self) if part.compare and part.name != "name"]
        return [n for n in names if _differ(getattr(self, n), getattr(self.base or self, n))]

    def __call__(
        self,
        model: nn.Module,
        leak: Leak,
        shape: Sequence[int],
        *,
        seed: int = 0,
        progress: bool = False,
        **changes: Any,
    ) -> Reconstruction:
        attack = self.but(**changes) if changes else self
        with torch.enable_grad():
            return match(attack, model, leak, shape, seed, progress)

    def but(self, **changes: Any) -> "Attack":
        """The attack with other fields; raises ValueError for a name that is no field."""
        names = [part.name for part in fields(self)]
        for name in changes:
            if name not in names:
                raise bad(name, repr(changes[name]), f"a field of an attack: {', '.join(names)}")
        return replace(self, **changes)

    def __repr__(self) -> str:
        return sentence.in_words(self)

    def _repr_html_(self) -> str:
        return sentence.as_formula(self)


def _differ(one: object, other: object) -> bool:
    """Whether two fields hold different things; tensors are compared by identity."""
    if torch.is_tensor(one) or torch.is_tensor(other):
        return one is not other
    return one is not other and one != other


def _check(a: Attack) -> None:
    """Raise ValueError for a field of the wrong kind."""

    def demand(part: str, right: bool, wanted: str) -> None:
        if not right:
            raise bad(part, repr(getattr(a, part)), wanted)

    demand("name", isinstance(a.name, str) and a.name != "", "what the attack is called, a string")
    is_word = isinstance(a.labels, str)
    numbers = isinstance(a.labels, int) or hasattr(a.labels, "__len__")
    demand(
        "labels",
        a.labels == "joint" if is_word else numbers or callable(a.labels),
        '"joint", class numbers, or a rule such as labels.idlg',
    )
    for part, example in EXAMPLES.items():
        optional = part in ("prior", "defend", "sent", "measure")
        right = callable(getattr(a, part)) or (optional and getattr(a, part) is None)
        demand(part, right, f"a function such as {example}{', or None' if optional else ''}")
    named = isinstance(a.start, str) and a.start in STARTS
    demand("start", torch.is_tensor(a.start) or named, f"images, or one of {', '.join(STARTS)}")
    demand("unknowns", isinstance(a.unknowns, Mapping), "a dict of where each begins")
    for name, begin in a.unknowns.items():
        number = isinstance(begin, int | float) and math.isfinite(begin)
        if not (number or torch.is_tensor(begin) or callable(begin)):
            raise bad(f"unknowns[{name!r}]", repr(begin), "a finite number to start from")
    for part in ("steps", "restarts"):
        value = getattr(a, part)
        demand(part, type(value) is int and value >= 1, "a positive whole number")
