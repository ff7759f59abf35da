"""leaklib: how federated learning leaks its training data, and what stops it.

This is the science.  What the book's pages need is in `leaklib.book`, and the coursework in
`leaklib.course`; neither is imported here.
"""

from . import (
    adaptive,
    analytic,
    attacks,
    chain,
    client,
    data,
    defenses,
    distances,
    federated,
    keylock,
    labels,
    leak,
    metrics,
    models,
    priors,
    privacy,
    random,
    solvers,
)  # fmt: skip

__version__ = "0.2.0"

__all__ = [
    "adaptive", "analytic", "attacks", "chain", "client", "data", "defenses", "distances",
    "federated", "keylock", "labels", "leak", "metrics", "models", "priors", "privacy", "random",
    "solvers",
]  # fmt: skip
