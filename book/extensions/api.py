"""The API page: ``.. leaklib-module:: attacks`` shows the names that a module exports.

Signatures are shown as they are written, and docstrings as the plain text that they are:

- an indented line is a formula and stays as it is; ``>>>`` begins an example
- lines ``name  what it is``, with two spaces between, are a list of definitions
- a line ``name: what it is`` of an argument begins a paragraph, as Source:, Raises and Returns do
- between backticks is code, which leads to what it names; all else means itself
"""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from itertools import pairwise, takewhile
from typing import NamedTuple

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx import addnodes

PACKAGE = "leaklib"
LONGEST_VALUE = 60  # of a constant or a field that is shown


class Entry(NamedTuple):
    """What the page says of one name."""

    directive: str
    name: str
    text: str
    signature: str = ""
    options: tuple[str, ...] = ()


class Module(Directive):
    required_arguments = 1

    def run(self):
        full = f"{PACKAGE}.{self.arguments[0]}"
        module = importlib.import_module(full)
        shown = self.parsed(f".. py:module:: {full}") + prose(module.__doc__, full)
        for name in module.__all__:
            for entry in entries(module, name):
                shown += self.shown(entry, full)
        return shown

    def shown(self, entry, module):
        """The signature, and below it what the docstring says."""
        head = f".. py:{entry.directive}:: {entry.name}{entry.signature}"
        made = self.parsed("\n   ".join([head, f":module: {module}", *entry.options]))
        content = next(node for node in made if isinstance(node, addnodes.desc))[-1]
        content += prose(entry.text, module, arguments(entry.signature))
        return made

    def parsed(self, text):
        holder = nodes.Element()
        lines = StringList(text.splitlines(), source=self.name)
        self.state.nested_parse(lines, self.content_offset, holder)
        return holder.children


# --- what a module exports


def entries(module, name):
    """What the page says of a name: one entry, and one for each member of a class."""
    thing = getattr(module, name)
    if inspect.isfunction(thing):
        return [Entry("function", name, thing.__doc__, signature(thing))]
    if inspect.isclass(thing):
        return [Entry("class", name, thing.__doc__, signature(thing)), *members(thing, name)]
    if inspect.ismodule(thing):
        return []
    if dataclasses.is_dataclass(thing) and "__doc__" in vars(thing):
        return [Entry("data", name, thing.__doc__)]
    if dataclasses.is_dataclass(thing):  # called with settings, it gives itself with these
        return [Entry("function", name, thing.__doc__, fields(type(thing)))]
    node, text = assigned(module, name)
    return [Entry("data", name, text, options=value(node))]


def members(kind, name):
    """The fields that are described, the properties and methods that have a docstring."""
    whole = tree(kind)
    for part, (node, text) in {**commented(kind, whole), **described(whole)}.items():
        options = (f":type: {ast.unparse(node.annotation)}", *value(node), ":no-contents-entry:")
        yield Entry("attribute", f"{name}.{part}", text, options=options)
    for node in whole.body:
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and node.name[0] != "_":
            full, text = f"{name}.{node.name}", ast.get_docstring(node)
            if isinstance(vars(kind)[node.name], property):
                yield Entry("property", full, text)
            else:
                yield Entry("method", full, text, written(node))


def tree(thing):
    """The syntax tree of a module, a class or a function."""
    parsed = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    return parsed if inspect.ismodule(thing) else parsed.body[0]


def targets(node):
    """The names that a statement assigns."""
    to = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in to if isinstance(target, ast.Name)]


def described(parent):
    """{name: (statement, docstring)} of the assignments that are followed by a string."""
    return {
        name: (node, after.value.value)
        for node, after in pairwise(parent.body)
        for name in targets(node)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def commented(kind, whole):
    """{name: (statement, comment)} of the fields of a class whose line ends with a comment."""
    lines = inspect.getsource(kind).splitlines()
    return {
        name: (node, lines[node.end_lineno - 1].partition("  # ")[2])
        for node in whole.body
        for name in targets(node)
        if isinstance(node, ast.AnnAssign) and "  # " in lines[node.end_lineno - 1]
    }


def assigned(module, name):
    """(statement, docstring) of a constant or a name for a type, where a module has it from."""
    whole = tree(module)
    for node in whole.body:
        if name in targets(node):
            return described(whole).get(name, (node, ""))
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            source = "." * node.level + (node.module or "")
            return assigned(importlib.import_module(source, module.__spec__.parent), name)
    raise LookupError(f"{module.__name__}.{name}: neither assigned nor imported")


def value(node):
    """What a statement assigns, as it is written, where that is short."""
    given = node.value
    if isinstance(given, ast.Call) and ast.unparse(given.func) == "field":
        given = {part.arg: part.value for part in given.keywords}.get("default")
    text = ast.unparse(given) if given else ""
    return (f":value: {text}",) if 0 < len(text) <= LONGEST_VALUE else ()


def signature(thing):
    """A signature as it is written; of a class with fields, their names and defaults."""
    node = tree(thing)
    if not isinstance(node, ast.ClassDef):
        return written(node)
    made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    if made:
        return written(made[0]).removesuffix(" -> None")
    return "" if described(node) else fields(thing)


def written(node):
    """(arguments) -> result, of a function's tree."""
    node.args.args = [part for part in node.args.args if part.arg not in ("self", "cls")]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returns}"


def fields(kind):
    """(name, name=default): the fields of a dataclass or a NamedTuple."""
    if not (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
        return ""
    shown = []
    for part in inspect.signature(kind).parameters.values():
        default = re.sub("^<.*", "...", repr(part.default))
        shown.append(part.name if part.default is part.empty else f"{part.name}={default}")
    return f"({', '.join(shown)})"


def arguments(signature):
    """The names of the arguments in a signature."""
    whole = ast.parse(f"def f{signature or '()'}: pass")
    return {node.arg for node in ast.walk(whole) if isinstance(node, ast.arg)}


# --- what a docstring says

NAMED = r"(\w+(?:, \w+)*)( +)(?=\S)"


def prose(text, module, names=()):
    """The nodes of a docstring; names: the arguments, which lead nowhere."""
    rest, out = inspect.cleandoc(text or "").splitlines(), []
    begins = rf"Source:|Raises |Returns |(?:{'|'.join(names) or '$'}): "

    def taken(pattern):
        nonlocal rest
        block = [rest[0], *takewhile(re.compile(pattern).match, rest[1:])]
        rest = rest[len(block) :]
        return "\n".join(block)

    while rest:
        line = rest[0]
        if not line:
            rest = rest[1:]
        elif line.startswith(">>> "):
            out.append(literal(taken("."), "pycon"))
        elif line.startswith(" "):
            out.append(literal(taken(" "), "text"))
        elif line.startswith("- "):
            points = taken("- |  ").removeprefix("- ").split("\n- ")
            items = [nodes.list_item("", *prose(point, module, names)) for point in points]
            out.append(nodes.bullet_list("", *items))
        elif (named := re.match(NAMED, line)) and len(named[2]) > 1:
            block = taken(rf" |(?!{begins}){NAMED}")
            out.append(definitions(re.split(r"\n(?! )", block), module, names))
        else:
            out.append(paragraph(taken(rf"(?! |- |{begins})."), module, names))
    return out


def literal(text, language):
    text = textwrap.dedent(text)
    return nodes.literal_block(text, text, language=language)


def definitions(lines, module, names):
    """The lines `name  what it is` as a list."""
    shown = nodes.definition_list()
    for line in lines:
        name, text = re.match(NAMED, line)[1], re.sub(NAMED, "", line, count=1)
        term = nodes.term("", "", nodes.literal(name, name))
        body = nodes.definition("", paragraph(text, module, names))
        shown += nodes.definition_list_item("", term, body)
    return nodes.container("", shown, classes=["fields"])


def paragraph(text, module, names):
    """Prose, in which nothing is markup but `code`."""
    shown = nodes.paragraph(support_smartquotes=False)
    for number, part in enumerate(re.split(r"`([^`]+)`", re.sub(r"\s+", " ", text))):
        shown += code(part, module, names) if number % 2 else nodes.Text(part)
    return shown


def code(text, module, names):
    """A piece of code, and what it leads to if the page has it."""
    shown = nodes.literal(text, text)
    word = re.match(r"[\w.]*\w", text)
    if not word or word[0] in names:
        return shown
    where = {"refdomain": "py", "reftype": "obj", "reftarget": word[0], "py:module": module}
    return addnodes.pending_xref("", shown, **where, leaklib=True)


# --- links


def resolve(app, env, node, contnode):
    """What Sphinx does not find by itself: `labels.idlg` said in another module, types, others'."""
    if node.get("refdomain") != "py":
        return None
    python, target, is_ours = env.get_domain("py"), node["reftarget"], node.get("leaklib")
    places = [f"{PACKAGE}.{floor}{target}" for floor in ("", "book.", "course.")]
    word = target.rpartition(".")[2]
    if not is_ours or (target == word and word[0].isupper()):  # a type, wherever it is
        places = sorted(full for full in python.objects if full.rpartition(".")[2] == word)
    for full in places:
        if full in python.objects:
            return python.resolve_xref(
                env, node["refdoc"], app.builder, "obj", full, node, contnode
            )
    return contnode if is_ours or not target.startswith(PACKAGE) else None


def shorten(app, doctree):
    """A reader writes attacks.dlg, so that is how it is named."""
    for prefix in doctree.findall(addnodes.desc_addname):
        prefix[:] = [nodes.Text(prefix.astext().removeprefix(f"{PACKAGE}."))]


# Sphinx writes long signatures as a <dl> of <dd> alone, which is not valid HTML and which a screen
# reader cannot tell; here each parameter is a line.
LINES = {
    "<dl>": '<span class="sig-params">',
    "</dl>": "</span>",
    "<dd>": '<span class="sig-line">',
    "</dd>": "</span>",
}


def visit_parameters(self, node):
    node["begun"] = len(self.body)
    type(self).visit_desc_parameterlist(self, node)


def depart_parameters(self, node):
    type(self).depart_desc_parameterlist(self, node)
    written = "".join(self.body[node["begun"] :])
    for tag, line in LINES.items():
        written = written.replace(tag, line)
    self.body[node["begun"] :] = [written]


def setup(app):
    parameters = (visit_parameters, depart_parameters)
    app.add_node(addnodes.desc_parameterlist, override=True, html=parameters)
    app.add_directive("leaklib-module", Module)
    app.connect("missing-reference", resolve)
    app.connect("doctree-read", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
