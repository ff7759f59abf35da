"""leaklib: how federated learning leaks its training data, and what stops it.

find z that minimises  distance(defend(g(W, z, y)), leak) + prior(z),
from a start, with a solver, with labels y from a label rule.
"""

from . import (
    adaptive,
    analytic,
    attacks,
    challenge,
    checks,
    client,
    data,
    defenses,
    federated,
    keylock,
    labels,
    metrics,
    models,
    objectives,
    plots,
    results,
    scenes,
    solvers,
    widgets,
)
from ._setup import setup

__version__ = "0.1.0"

__all__ = [
    "adaptive",
    "analytic",
    "attacks",
    "challenge",
    "checks",
    "client",
    "data",
    "defenses",
    "federated",
    "keylock",
    "labels",
    "metrics",
    "models",
    "objectives",
    "plots",
    "results",
    "scenes",
    "setup",
    "solvers",
    "widgets",
]
