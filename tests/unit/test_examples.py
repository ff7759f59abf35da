"""The examples in docstrings: all of them run, and each word of the sentence has one."""

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
# Whose public names have examples: attacks, defences, label rules, distances, priors, solvers.
WORDS = [f"leaklib.{kind}" for kind in
         ("attacks", "defenses", "labels", "distances", "priors", "solvers")]  # fmt: skip
# What stands beside them.
NO_EXAMPLE = {
    "leaklib.attacks.Attack": "what attacks are, and their examples show",
    "leaklib.attacks.single_step": "what an attack takes the client's steps to be",
    "leaklib.attacks.surrogate": "likewise",
    "leaklib.attacks.simulated": "likewise",
    "leaklib.attacks.scaled": "likewise",
    "leaklib.defenses.noise_factors": "what an attacker knows of a defence",
    "leaklib.defenses.spacing_of": "likewise",
    "leaklib.labels.last_layer": "where the rules read",
    "leaklib.labels.listed": "what counts stand for",
    "leaklib.solvers.Solver": "the base of the solvers",
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
    """Whether a reader calls it: a function, an attack, a solver; no name of a type."""
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


def without_example(module):
    return [
        name
        for name, thing in exported(module).items()
        if wants_example(thing)
        and ">>> " not in (thing.__doc__ or "")
        and f"{module.__name__}.{name}" not in NO_EXAMPLE
    ]


@pytest.mark.parametrize("name", WORDS)
def test_every_word_of_the_sentence_has_an_example(name):
    assert without_example(importlib.import_module(name)) == []


def test_attack_on_the_lock_has_an_example():
    assert "attack" not in without_example(leaklib.keylock)


def test_what_needs_no_example_is_public():
    for name in NO_EXAMPLE:
        module, _, thing = name.rpartition(".")
        assert thing in importlib.import_module(module).__all__


WRONG = """
class Value:
    pass

def one():
    ">>> 1 + 1\\n3"

value = Value()
value.__doc__ = one.__doc__
__all__, __file__ = ["one", "value"], "wrong.py"
"""


def test_an_example_that_is_wrong_is_found():
    """Of a function, and of a value: the tests above could not fail otherwise."""
    module = ModuleType("wrong")
    exec(WRONG, vars(module))
    assert failures(module).count("Got:\n    2") == 2
