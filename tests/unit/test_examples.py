"""The examples in docstrings: each of them runs, and every public name of the science has one."""

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import get_origin

import pytest
import torch

import leaklib

FOLDER = Path(leaklib.__file__).parent
# What a reader composes an attack, or a client, of: each of them has an example.
WITH_EXAMPLES = ("attacks", "defenses", "distances", "keylock", "labels", "priors", "solvers")
# But for what is no attack, defence, rule, distance, prior or solver itself.
NO_EXAMPLE = {
    "attacks": ["single_step", "surrogate", "simulated", "scaled"],
    "defenses": ["noise_factors", "spacing_of"],
    "keylock": [name for name in leaklib.keylock.__all__ if name != "attack"],
    "labels": ["last_layer", "listed"],
}


def names():
    """Every module of the science, private ones too."""
    for path in sorted(FOLDER.rglob("*.py")):
        parts = path.relative_to(FOLDER.parent).with_suffix("").parts
        if parts[1] not in ("book", "course"):
            yield ".".join(parts).removesuffix(".__init__")


MODULES = [importlib.import_module(name) for name in names()]
PUBLIC = [getattr(leaklib, name) for name in leaklib.__all__]

every_public_module = pytest.mark.parametrize("module", PUBLIC, ids=lambda m: m.__name__)


def exported(module):
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}


def is_result(thing):
    """A NamedTuple: the example of what returns it shows it."""
    return inspect.isclass(thing) and issubclass(thing, tuple) and hasattr(thing, "_fields")


def wants_example(thing):
    """Whether a reader calls it: a function, a class, an attack, a solver; no name of a type."""
    return callable(thing) and get_origin(thing) is None and not is_result(thing)


def examples_of(module):
    """The examples of a module, and those of the values in it that have a docstring of their own.

    doctest itself looks at functions and classes alone.
    """
    yield from doctest.DocTestFinder().find(module)
    for name, value in exported(module).items():
        own = vars(value).get("__doc__") if hasattr(value, "__dict__") else None
        if own and not isinstance(value, type | ModuleType):
            place = f"{module.__name__}.{name}"
            parser = doctest.DocTestParser()
            yield parser.get_doctest(own, dict(vars(module)), place, module.__file__, None)


def failures(module):
    """What doctest prints of the examples that do not say what happens."""
    said = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for test in examples_of(module):
            doctest.DocTestRunner().run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_examples_say_what_happens(module):
    assert failures(module) == ""


@every_public_module
def test_a_public_module_says_what_is_public(module):
    assert module.__all__ and len(set(module.__all__)) == len(module.__all__)
    assert not [name for name in module.__all__ if name.startswith("_")]
    assert exported(module)  # or a name is not there


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_every_word_of_an_attack_has_an_example(module):
    without = [
        name
        for name, thing in exported(getattr(leaklib, module)).items()
        if wants_example(thing) and ">>> " not in (thing.__doc__ or "")
    ]
    assert without == [name for name in without if name in NO_EXAMPLE.get(module, ())]


def test_what_needs_no_example_is_public():
    for module, names in NO_EXAMPLE.items():
        assert set(names) <= set(getattr(leaklib, module).__all__)
