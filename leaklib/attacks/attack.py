"""The sentence as a value."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import distances, solvers
from .._errors import bad, require
from .._loss import Loss
from ..distances import Distance
from ..labels import Labels
from ..leak import Leak, Tensors
from . import sentence
from .begin import STARTS
from .predict import single_step
from .search import Reconstruction, match

__all__ = ["Attack"]


@dataclass(frozen=True, eq=False, repr=False)
class Attack:
    """Find z that minimises distance(defend(g(W, z, y)), leak) + prior(z), from a start.

    Called `attack(model, leak, shape, seed=0, progress=False, **changes)`, it runs V victims of a
    stack times R restarts at once, of which it keeps the best by objective.  model: the
    architecture, which is not changed.  shape: (B, C, H, W) of one victim's batch.  seed: of the
    start and of joint labels.  changes: fields for this call, such as `start="uniform"`.
    Raises ValueError for a field of the wrong kind, when leak, shape, labels or start do not fit
    the model, and where two images of a batch begin alike with the same label.

    >>> Attack("Mine", distance=distances.cosine)
    Mine
      find x', y' that minimise
        cosine(g(W, x', y'), h)
      from half or grey, with lbfgs in 2,000 evaluations
    """

    name: str  # what the attack is called
    labels: Labels = "joint"
    """"joint" searches them; class numbers (B,), (V, B); or a rule `(leak, model=None, loss=None)`.
    A victim with the label -1, not known, is attacked with class 0 and never marked converged; an
    error where no victim's is known.  For another kind of loss, its targets (B, ...)."""
    distance: Distance = distances.l2
    """How far two directions {name: tensor} of one problem are apart, as those of `distances`."""
    prior: Callable[[Tensor], Tensor] | None = None
    """What is believed of images (B, C, H, W): a number that is added, as those of `priors`."""
    defend: Callable[[Tensors, Leak], Tensors] | None = None
    """What the attacker who knows a defence does to its own direction, as those of `adaptive`."""
    predict: Callable[..., Tensors] = single_step
    """What the client's steps are taken to be: the direction that a guess would send."""
    unknowns: Mapping[str, float | Tensor | Callable[[Leak], Tensor]] = field(default_factory=dict)
    """What else is searched, by where it begins: a number, (V, n), or a function of the leaks."""
    sent: Callable[[Tensors, Tensors], Tensors] | None = None
    """What the guess is compared with, of h and the unknowns; None is h, the leak's direction."""
    measure: Distance | None = None
    """The distance that says `converged`, where it is not `distance`: then nothing stops early."""
    scale_free: bool = False
    """Whether a gradient's size is not matched; joint labels are then argmax (y' - p)."""
    loss: Loss = F.cross_entropy
    """What the client's gradient is of: (outputs, targets) -> a number, as in `client.gradient`."""
    start: str | Tensor | None = None
    """"half" (0.5), "grey" (0.5 + 0.02 N), "zeros", "uniform" on [0, 1], "normal", or images like
    (V, R, B, C, H, W); None is "half", and "grey" where images of a batch would begin alike."""
    solver: Callable[..., solvers.Solution] = solvers.lbfgs
    """What minimises over z = (x', the labels' logits, the unknowns), as those of `solvers`."""
    steps: int = 2000  # how many evaluations a problem may take
    restarts: int = 1  # how many starts each victim gets
    reads: tuple[Literal["gradient", "weights"], ...] = ("gradient", "weights")
    """Which kinds of leak the attack is made for."""
    about: str = field(default="", compare=False)
    """What is particular to it, and its source; a changed attack says from which it was changed."""
    base: "Attack | None" = field(default=None, compare=False)
    """The attack that this one was changed from; set by `dataclasses.replace`."""

    def __post_init__(self) -> None:
        _check(self)
        base, about = self.base, self.about
        if base is None or (about and about != base.about):
            base = self  # made from nothing, or by an author who says what it is
        elif self.changed or self.name != base.name:
            about = ""
        changed = f"Changed from {base.name}: {', '.join(self.changed) or 'name'}."
        said = inspect.cleandoc(about or ("" if base is self else changed))
        for name, value in dict(base=base, about=about, __doc__=f"{said}\n\n{self!r}").items():
            object.__setattr__(self, name, value)

    @property
    def searched(self) -> dict[str, Any]:
        """The unknowns, with those of `predict`, by where each begins."""
        return {**getattr(self.predict, "unknowns", {}), **self.unknowns}

    @property
    def changed(self) -> list[str]:
        """The fields in which it differs from the attack that it was changed from."""
        names = [part.name for part in fields(self) if part.compare and part.name != "name"]
        return [n for n in names if _differ(getattr(self, n), getattr(self.base or self, n))]

    def __call__(
        self, model: nn.Module, leak: Leak, shape: Sequence[int],
        *, seed: int = 0, progress: bool = False, **changes: Any,
    ) -> Reconstruction:  # fmt: skip
        names = [part.name for part in fields(self)]
        for name in set(changes) - set(names):
            raise bad(name, repr(changes[name]), f"a field of an attack: {', '.join(names)}")
        attack = replace(self, **changes) if changes else self
        with torch.inference_mode(False), torch.enable_grad():
            return match(attack, model, leak, shape, seed, progress)

    def __repr__(self) -> str:
        return sentence.in_words(self)

    def _repr_html_(self) -> str:
        return sentence.as_formula(self)


def _differ(one: object, other: object) -> bool:
    # tensors, whose equality has no truth, by identity
    return one is not other and (torch.is_tensor(one) or torch.is_tensor(other) or one != other)


def _check(a: Attack) -> None:
    """Raise ValueError for a field of the wrong kind."""

    def demand(name: str, right: bool, wanted: str) -> None:
        require(right, name, repr(getattr(a, name)), wanted)

    demand("name", isinstance(a.name, str) and a.name != "", "what the attack is called, a string")
    is_numbers = isinstance(a.labels, int) or hasattr(a.labels, "__len__") or callable(a.labels)
    right = a.labels == "joint" if isinstance(a.labels, str) else is_numbers
    demand("labels", right, '"joint", class numbers, or a rule such as labels.idlg')
    for name in ("distance", "predict", "solver", "loss"):
        default = sentence.named(getattr(Attack, name))
        demand(name, callable(getattr(a, name)), f"a function such as {default}")
    for name in ("prior", "defend", "sent", "measure"):
        value = getattr(a, name)
        demand(name, value is None or callable(value), "a function, or None")
    is_known = a.start is None or (isinstance(a.start, str) and a.start in STARTS)
    demand("start", torch.is_tensor(a.start) or is_known, f"images, or one of {', '.join(STARTS)}")
    demand("unknowns", isinstance(a.unknowns, Mapping), "a dict of where each begins")
    for name, begin in a.unknowns.items():
        is_number = isinstance(begin, int | float) and math.isfinite(begin)
        right = is_number or torch.is_tensor(begin) or callable(begin)
        require(right, f"unknowns[{name!r}]", repr(begin), "a finite number to start from")
    for name in ("steps", "restarts"):
        value = getattr(a, name)
        demand(name, type(value) is int and value > 0, "a positive whole number")
