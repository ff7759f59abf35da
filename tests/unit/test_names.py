"""Every name of leaklib that a notebook or a page uses exists.  Nothing is executed."""

import ast
import importlib
import re

import pytest

import leaklib
import notebooks
from leaklib import book

ROOT = notebooks.ROOT
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
PAGES = [*sorted((ROOT / "book").glob("*.md")), ROOT / "README.md"]
FENCE = re.compile(r"(?ms)^```([^\n]*)\n(.*?)^```$")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# The first words of a name in prose, and what they lead to: `attacks.idlg`, `leaklib.course`.
MODULES = {
    "leaklib": "leaklib",
    **{name: f"leaklib.{name}" for name in leaklib.__all__},
    **{name: f"leaklib.book.{name}" for name in book.__all__ if name != "setup"},
    **{name: f"leaklib.course.{name}" for name in ("challenge", "grading")},
    "objectives": "leaklib.objectives",  # it is gone, and a page that names it is to be found
}
# Words that prose uses for a value, beside the module that is called so too.
VALUES = {"leak": "leaklib.leak.Leak", "client": "leaklib.federated.Client"}
IN_PROSE = re.compile(rf"(?<![\w./])(?:{'|'.join(MODULES)})(?:\.[A-Za-z_]\w*)+")
A_FILE = re.compile(r"\.(?:csv|ipynb|json|md|py|toml|txt|zip)$")


# --- what exists


def exists(name):
    """Whether leaklib has what a dotted name says: a module, what is in it, a field of that."""
    first, *rest = name.split(".")
    thing = importlib.import_module(first)
    for place, word in enumerate(rest):
        if not hasattr(thing, word):
            if word in getattr(thing, "__annotations__", {}):
                return True  # a field without a default, of which no more is known
            try:
                importlib.import_module(".".join([first, *rest[: place + 1]]))
            except ImportError:
                return False
        thing = getattr(thing, word)
        if isinstance(thing, property):
            return True
    return True


@pytest.mark.parametrize(
    "name",
    ["leaklib", "leaklib.leak.Leak.direction", "leaklib.leak.Leak.weights", "leaklib.book.plots"],
)
def test_what_exists_is_found(name):
    assert exists(name)


@pytest.mark.parametrize("name", ["leaklib.no", "leaklib.leak.Leak.no", "leaklib.book.plots.no.no"])
def test_what_does_not_exist_is_not(name):
    assert not exists(name)


# --- what code uses


class Names(ast.NodeVisitor):
    """The names of leaklib that code uses: imported, and by attributes of what was imported."""

    def __init__(self, known=()):
        self.known, self.used, self.hidden = dict(known), [], []

    def visit_Import(self, node):
        for alias in node.names:
            if alias.name.split(".")[0] == "leaklib":
                self.used.append(alias.name)
                self.known[alias.asname or "leaklib"] = alias.name if alias.asname else "leaklib"

    def visit_ImportFrom(self, node):
        if node.module.split(".")[0] == "leaklib":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                self.used.append(name)
                self.known[alias.asname or alias.name] = name

    def visit_Name(self, node):
        if is_set(node) and not self.hidden:
            self.known.pop(node.id, None)

    def visit_Attribute(self, node):
        words = []
        while isinstance(node, ast.Attribute):
            words.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            hidden = any(node.id in names for names in self.hidden)
            if node.id in self.known and not hidden:
                self.used.append(".".join([self.known[node.id], *reversed(words)]))
        else:
            self.visit(node)

    def visit_scope(self, node):
        """A function: its arguments, and what it sets, are other things of the same name."""
        inside = list(ast.walk(node))
        names = {part.arg for part in inside if isinstance(part, ast.arg)}
        names |= {part.id for part in inside if is_set(part)}
        self.hidden.append(names)
        self.generic_visit(node)
        self.hidden.pop()

    visit_FunctionDef = visit_Lambda = visit_scope


def is_set(node):
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def used_in(code, known=()):
    """(the names that code uses, what its imports make known)"""
    names = Names(known)
    names.visit(ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", code)))
    return names.used, names.known


def test_names_in_code_are_found():
    code = """
%pip install leaklib
import leaklib
from leaklib import attacks, labels as rules
from leaklib.leak import stack
stack([attacks.idlg(net, leak, shape).images])
leaklib.book.setup()
def f(rules):
    return rules.counts, attacks.dlg
attacks = {}
attacks.items()
"""
    used, known = used_in(code)
    assert used == [
        "leaklib", "leaklib.attacks", "leaklib.labels", "leaklib.leak.stack",
        "leaklib.attacks.idlg", "leaklib.book.setup", "leaklib.attacks.dlg",
    ]  # fmt: skip
    assert used_in("rules.counts(leak)", known)[0] == ["leaklib.labels.counts"]


# --- what prose uses


def split(text):
    """(the prose of Markdown, [(language, code)]): what a directive holds is prose."""
    code = [block for block in FENCE.findall(text) if not block[0].startswith("{")]
    prose = FENCE.sub(lambda block: block[2] if block[1].startswith("{") else "", text)
    return prose, code


def missing_in_prose(text):
    """The names of leaklib in code spans and in commands that do not exist, and paths of files."""
    prose, blocks = split(text)
    spans, commands = SPAN.findall(prose), [code for kind, code in blocks if kind != "python"]
    found = [name for span in spans for name in IN_PROSE.findall(span)]
    found += [name for code in commands for name in IN_PROSE.findall(code) if "leaklib." in name]
    paths = [path for span in spans for path in re.findall(r"(?<![\w/])leaklib/[\w./]+", span)]
    return [name for name in found if not A_FILE.search(name) and not is_meant(name)] + [
        path for path in paths if not (ROOT / path).exists()
    ]


def is_meant(name):
    """Whether there is what a name in prose says: of a module, or of a value that it calls so."""
    root, _, rest = name.partition(".")
    places = [where[root] for where in (MODULES, VALUES) if root in where]
    return any(exists(f"{place}.{rest}") for place in places)


def test_names_in_prose_are_found():
    text = """`attacks.nothing(…, x=labels.idlg)`, `leak.update`, `leaklib/none.py`, `data.json`,
`client.images`, `objectives.l2`
```
python -m leaklib.nowhere made/labels.toml
```
```{glossary}
DLG: `leaklib.book.no`.
```
"""
    assert missing_in_prose(text) == [
        "attacks.nothing", "objectives.l2", "leaklib.book.no", "leaklib.nowhere", "leaklib/none.py",
    ]  # fmt: skip


# --- the book


def missing(text, known):
    """(the names in Markdown that do not exist, what its code makes known)"""
    wrong = missing_in_prose(text)
    for language, code in split(text)[1]:
        if language == "python":
            used, known = used_in(code, known)
            wrong += [name for name in used if not exists(name)]
    return wrong, known


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_name_in_a_notebook_exists(path):
    wrong, known = [], {}
    for cell in notebooks.read(path)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            used, known = used_in(text, known)
            wrong += [name for name in used if not exists(name)]
        elif cell["cell_type"] == "markdown":
            found, known = missing(text, known)
            wrong += found
    assert wrong == [], " ".join(wrong)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_name_on_a_page_exists(path):
    modules = {name: full for name, full in MODULES.items() if name not in VALUES}
    wrong, _ = missing(path.read_text("utf-8"), modules)
    assert wrong == [], " ".join(wrong)
