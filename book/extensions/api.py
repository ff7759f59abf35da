"""The API page: ``.. leaklib-module:: attacks`` shows what the docstrings of a module say.

Sphinx's autodoc reads signatures and docstrings. The docstrings are plain text, with formulas such
as ``sum_l ||g_l - h_l||^2``; here they become what reStructuredText takes for the same.
"""

import ast
import importlib
import inspect
import re
import textwrap
from functools import cache
from typing import get_origin

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.util.typing import stringify_annotation

PACKAGE = "leaklib"
# A paragraph of a docstring is broken before a line that begins so.
OPENERS = ("Source:", "Raises ", "Returns ")


def public_names(module):
    """What a module defines, or takes out of a private one by assignment, in its own order.

    What it imports from elsewhere is shown where it comes from. A package says itself what is its.
    """
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            targets = [t.elts if isinstance(t, ast.Tuple) else [t] for t in node.targets]
            names += [t.id for group in targets for t in group if isinstance(t, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def is_alias(thing):
    """A name for a type, such as Tensors = dict[str, Tensor]."""
    return get_origin(thing) is not None


def members(kind):
    """The public methods and properties of a class that have a docstring of their own."""
    return [
        name
        for name, value in vars(kind).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property))
        and value.__doc__
    ]


def module_lines(name):
    """The directives that show a module: its docstring, then each public name."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    lines = [f".. automodule:: {PACKAGE}.{name}", ""]
    for public in public_names(module):
        thing, full = getattr(module, public), f"{PACKAGE}.{name}.{public}"
        if is_alias(thing):
            lines += [f".. py:data:: {public}", f"   :value: {alias_text(thing)}"]
            lines += ["   :no-contents-entry:", ""]
        elif inspect.isfunction(thing):
            lines += [f".. autofunction:: {full}", ""]
        elif inspect.isclass(thing):
            lines += [f".. autoclass:: {full}", ""]
            if members(thing):
                lines.insert(-1, f"   :members: {', '.join(members(thing))}")
    return lines


def alias_text(thing):
    """dict[str, torch.Tensor] -> dict[str, Tensor]"""
    return re.sub(r"~?\b(?:\w+\.)+(?=\w)", "", stringify_annotation(thing, "smart"))


class Module(Directive):
    required_arguments = 1

    def run(self):
        return self.parsed(module_lines(self.arguments[0]))

    def parsed(self, lines):
        holder = nodes.Element()
        self.state.nested_parse(StringList(lines, source=self.name), self.content_offset, holder)
        return holder.children


class Function(Module):
    """One function of the package itself: ``.. leaklib-function:: setup``."""

    def run(self):
        return self.parsed([f".. autofunction:: {PACKAGE}.{self.arguments[0]}", ""])


# --- docstrings


def as_rest(lines, link=lambda text: None, fields=()):
    """The lines of a docstring as reStructuredText.

    Indented lines stay as they are, in a block. Lines that begin with one of the `fields` of a
    class become a list of definitions. The rest is prose, in which nothing is markup but `code`;
    link(code) is the name that it leads to, if any.
    """
    out, rest = [], list(lines)
    while rest:
        if not rest[0].strip():
            out.append("")
            rest = rest[1:]
            continue
        if is_field(rest[0], fields):
            block, rest = taken(rest, lambda s: is_field(s, fields) or s.startswith(" "))
            out += ["", ".. container:: fields", ""]
            for name, text in entries(block, fields):
                out += indented([f"``{name}``", f"   {inline(text, link)}"], 3)
            out.append("")
        elif rest[0].startswith("- "):
            block, rest = rest[:1], rest[1:]
            more, rest = taken(rest, lambda s: s.startswith("  "))
            inner = as_rest([block[0][2:], *dedented(more, 2)], link)
            out += ["", f"- {inner[0]}", *indented(inner[1:], 2), ""]
        elif rest[0].startswith(" "):
            block, rest = taken(rest, lambda s: s.startswith(" "))
            out += ["", ".. code-block:: text", "", *indented(dedented(block), 3), ""]
        else:
            block, rest = taken(rest, lambda s: s.strip() and not s.startswith((" ", "- ")))
            for line in block:
                if line.startswith(OPENERS):
                    out.append("")
                out.append(inline(line, link))
    return out


def taken(lines, wanted):
    """(the first lines that are wanted, those after them)"""
    count = next((i for i, line in enumerate(lines) if not wanted(line)), len(lines))
    return lines[:count], lines[count:]


def indented(lines, by):
    return [" " * by + line if line.strip() else "" for line in lines]


def dedented(lines, by=None):
    by = min(len(s) - len(s.lstrip()) for s in lines) if by is None and lines else by
    return [line[by:] for line in lines]


def is_field(line, fields):
    """whether a line such as "layer, kind  its name" begins with fields of a class"""
    names = re.match(r"\w+(?:, \w+)*(?= +\S)", line)
    return bool(names) and set(names.group().split(", ")) <= set(fields)


def entries(lines, fields):
    """[(names, text)] of the lines of fields, continuation lines joined"""
    found = []
    for line in lines:
        if is_field(line, fields):
            names = re.match(r"\w+(?:, \w+)*", line).group()
            found.append((names, line[len(names) :].strip()))
        else:
            names, text = found[-1]
            found[-1] = (names, f"{text} {line.strip()}")
    return found


def inline(text, link):
    """A line of prose: between backticks is code, and all else means itself."""
    parts = re.split(r"`([^`]+)`", text)
    out = []
    for number, part in enumerate(parts):
        if number % 2 == 0:
            out.append(escaped(part))
        else:
            target = link(part)
            code = f":py:obj:`{part} <{target}>`" if target else f"``{part}``"
            out.append(rf"\ {code}\ ")
    return "".join(out)


def escaped(text):
    """What reStructuredText, or its typesetting of quotes, would read as markup means itself."""
    return re.sub(r"""([\\*_|`:'"\-.])""", r"\\\1", text)


def linker(name, thing):
    """What `code` in the docstring of leaklib.MODULE.NAME leads to: a full public name, or None."""
    module = ".".join(name.split(".")[:2])
    parameters = inspect.signature(thing).parameters if inspect.isfunction(thing) else ()

    def link(code):
        word = re.match(r"[\w.]*\w", code)
        if not word or word.group() in parameters:
            return None
        for full in (f"{module}.{word.group()}", f"{PACKAGE}.{word.group()}"):
            if full in documented():
                return full
        return None

    return link


@cache
def documented():
    """The full names that the page shows."""
    package = importlib.import_module(PACKAGE)
    # checks and scenes are folders: they belong to the chapters
    modules = [m for m in vars(package).values() if inspect.ismodule(m) and is_listed(m, package)]
    return {f"{m.__name__}.{n}" for m in modules for n in public_names(m) if shown(m, n)}


def is_listed(module, package):
    folder = hasattr(module, "__path__") and not hasattr(module, "__all__")
    return module.__name__.rpartition(".")[2] in package.__all__ and not folder


def shown(module, name):
    thing = getattr(module, name)
    return is_alias(thing) or inspect.isfunction(thing) or inspect.isclass(thing)


def process_docstring(app, what, name, thing, options, lines):
    fields = list(getattr(thing, "__annotations__", ())) if inspect.isclass(thing) else ()
    lines[:] = [*as_rest(lines, linker(name, thing), fields), ""]


# --- signatures


def process_signature(app, what, name, thing, options, signature, returns):
    """A signature as it is written; of a class with fields, their names and defaults."""
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return None
    node = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    if isinstance(node, ast.ClassDef):
        own = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not own:
            fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
            return f"({', '.join(map(field_text, fields))})", None
        node = own[0]
    without_self = [a for a in node.args.args if a.arg != "self"]
    node.args.args = without_self
    returns = without_private(ast.unparse(node.returns)) if node.returns else None
    if inspect.isclass(thing):
        returns = None
    return f"({without_private(ast.unparse(node.args))})", returns


def field_text(node):
    if node.value is None:
        return node.target.id
    default = ast.unparse(node.value)
    made = re.fullmatch(r"field\(default_factory=(\w+)\)", default)
    return f"{node.target.id}={made.group(1) + '()' if made else default}"


def without_private(text):
    """_matching.Reconstruction -> Reconstruction: where it is kept is no reader's concern."""
    return re.sub(r"\b_\w+\.", "", text)


def resolve_type(app, env, node, contnode):
    """Types in a signature: a name for a type leads to it, another library's is plain text."""
    if node.get("refdomain") != "py" or node.get("reftype") not in ("class", "obj", "exc"):
        return None
    word = node["reftarget"].rpartition(".")[2]
    python = env.get_domain("py")
    for full in sorted(documented()):
        if full.endswith(f".{word}") and full in python.objects:
            return python.resolve_xref(
                env, node["refdoc"], app.builder, "data", full, node, contnode
            )
    return None if node["reftarget"].startswith(PACKAGE) else contnode


def shorten(app, doctree):
    """A reader writes attacks.dlg, so that is how it is named."""
    for prefix in doctree.findall(addnodes.desc_addname):
        short = prefix.astext().removeprefix(f"{PACKAGE}.")
        prefix[:] = [nodes.Text(short)]


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
    app.add_directive("leaklib-function", Function)
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", process_signature)
    app.connect("missing-reference", resolve_type)
    app.connect("doctree-read", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
