"""Sets for experiments on defences: of each one that is attacked, and one that clients train on."""

from functools import cache

from torch import Tensor

from _experiment import Set
from leaklib import data, federated

SHAPES = {"mnist": (1, 28), "cifar10": (3, 32), "digits": (1, 28)}  # channels, pixels a side
TRAINED_ON = {
    "mnist": ("mnist", 2000),
    "cifar10": ("cifar10_train", 3800),
    "digits": ("digits", 1500),
}


def victims(name: str, count: int) -> Set:
    """The images that are attacked."""
    return Set(*data.load(name, count, seed=0), classes=10)


def pupils(name: str, count: int) -> Set:
    """The images that clients train on."""
    name, number = TRAINED_ON[name.removesuffix(" trained")]
    return Set(*(part[:number] for part in shuffled(name)), classes=10)


def tested(name: str, taught: Set) -> federated.Client:
    """The images that tell the accuracy, on none of which a client has trained."""
    # CIFAR-10 has its test images apart
    seen = 0 if name == "cifar10" else len(taught.images)
    return federated.Client(*(part[seen:] for part in shuffled(name)))


def shuffled(name: str) -> tuple[Tensor, Tensor]:
    """All of a set, in an order in which the first ones may be trained on and the last tested."""
    return data.load(name, len(data.load(name)[1]), seed=0)


SETS = {
    **dict.fromkeys(SHAPES, victims),
    **{f"{name} trained": pupils for name in SHAPES},
}
BY_DEFAULT = [case for case in SETS if not case.startswith("digits")]


def counts(images: int, seeds: int) -> dict[str, int]:
    """How many entries each set has: images that are attacked, or seeds of training."""
    return {case: seeds if case.endswith("trained") else images for case in SETS}


@cache
def private_of(case: str, count: int) -> Set:
    return SETS[case](case, count)
