"""What leaklib asks of an environment that has its own torch already; needs no new one."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import notebooks

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
OPTIONAL = [Requirement(line) for line in PROJECT["optional-dependencies"]["privacy"]]
COURSEWORK = [Requirement(line) for line in PROJECT["optional-dependencies"]["coursework"]]
GRADING = ROOT / "leaklib" / "course" / "grading"


def imported(code):
    """The top-level names of what a piece of Python imports, the standard library left out."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"leaklib"}


def at_the_top(code):
    """What is imported as soon as the module is, rather than inside a function."""
    body = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imported("\n".join(ast.unparse(node) for node in body))


def not_covered(modules, requirements):
    """The modules that none of the requirements' distributions holds."""
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    holders = packages_distributions()
    return {
        module
        for module in modules
        if names.isdisjoint(canonicalize_name(name) for name in holders.get(module, []))
    }


def modules_of(paths, read):
    return set().union(*(read(path.read_text("utf-8")) for path in paths))


@pytest.mark.parametrize("requirement", [*NEEDED, *OPTIONAL], ids=lambda r: r.name)
def test_a_dependency_has_a_lower_bound_at_most(requirement):
    """An upper bound would make pip take the environment's own torch away."""
    assert {bound.operator for bound in requirement.specifier} <= {">="}
    assert requirement.url is None


def test_every_import_of_leaklib_is_a_dependency():
    paths = [p for p in (ROOT / "leaklib").rglob("*.py") if GRADING not in p.parents]
    assert not_covered(modules_of(paths, at_the_top), NEEDED) == set()
    assert not_covered(modules_of(paths, imported), NEEDED + OPTIONAL) == set()


def test_every_import_of_the_grader_is_a_dependency():
    assert not_covered(modules_of(GRADING.glob("*.py"), imported), NEEDED + COURSEWORK) == set()


@pytest.mark.parametrize("path", notebooks.paths(), ids=lambda path: path.stem)
def test_every_import_of_a_chapter_is_a_dependency(path):
    cells = notebooks.read(path)["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    code = re.sub(r"(?m)^\s*[%!].*$", "", code)
    assert not_covered(imported(code), NEEDED + OPTIONAL) == set()


def test_an_import_that_no_dependency_holds_is_found():
    """The two tests above could not fail otherwise."""
    code = "import torch.nn, os\nfrom pandas import DataFrame\ndef f():\n    import yaml"
    assert not_covered(imported(code), NEEDED) == {"pandas", "yaml"}
    assert not_covered(at_the_top(code), NEEDED) == {"pandas"}
