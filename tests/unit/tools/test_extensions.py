"""What the book's own Sphinx extensions make of addresses, pages and docstrings."""

import importlib.util
import re
import sys
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import roles
from docutils.utils import new_document
from sphinx import addnodes
from sphinx.errors import ConfigError

import leaklib
import notebooks


def extension(name):
    path = notebooks.ROOT / "book" / "extensions" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"book_extension_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


address, description, api = map(extension, ("address", "description", "api"))


# --- address


@pytest.mark.parametrize(
    ("repository", "site"),
    [
        ("https://github.com/Somebody/Project", "https://somebody.github.io/Project/"),
        ("https://github.com/somebody/Somebody.github.io", "https://somebody.github.io/"),
        ("https://elsewhere.example/somebody/project", None),
        ("https://github.com/somebody", None),
    ],
)
def test_pages_are_where_github_publishes_them(repository, site):
    assert address.pages_address(repository) == site


def configured(repository, baseurl=""):
    theme = {"repository_url": repository}
    config = SimpleNamespace(html_theme_options=theme, html_baseurl=baseurl, linkcheck_ignore=[])
    address.set_addresses(None, config)
    return config


def test_one_setting_gives_every_address():
    config = configured("https://github.com/me/book")
    assert config.html_baseurl == config.ogp_site_url == "https://me.github.io/book/"
    assert config.notfound_urls_prefix == "/book/"


def test_a_site_may_be_published_elsewhere():
    config = configured("https://github.com/me/book", baseurl="https://book.example")
    assert config.html_baseurl == config.ogp_site_url == "https://book.example/"
    assert config.notfound_urls_prefix == "/"


def test_a_repository_elsewhere_needs_to_say_where_its_site_is():
    with pytest.raises(ConfigError, match="html.baseurl"):
        configured("https://elsewhere.example/me/book")


# --- description


def page(text):
    """A page with a title, as reStructuredText."""
    roles.register_local_role("py:obj", lambda *a, **k: ([], []))
    settings = {"report_level": 5, "doctitle_xform": False}
    return publish_doctree(f"Title\n=====\n\n{text}\n", settings_overrides=settings)


def test_description_is_the_first_prose_of_a_page():
    first = "The first sentence, which is long enough to stand alone."
    text = f"*A caption, in italics alone.*\n\n   A box.\n\n::\n\n  code\n\n{first}\n\nThe second."
    assert description.description(page(text)) == first


def test_description_ends_with_a_sentence():
    sentence = "This sentence has exactly fifty characters, count it."
    said = description.description(page(" ".join([sentence] * 10)))
    assert said == " ".join([sentence] * 5)


def test_description_of_one_endless_sentence_ends_with_a_word():
    said = description.description(page("word " * 100))
    assert len(said) <= description.LONGEST and said.endswith("word…")


def test_description_goes_on_where_a_paragraph_is_short():
    rest = "Then comes another paragraph, and it says what it is about."
    assert description.description(page(f"Short.\n\n{rest}")) == f"Short. {rest}"


def test_description_passes_over_formulas_but_not_over_letters():
    rest = "A number :math:`k` stands for the learning rate of the client, which nobody sent."
    formula = r"It is :math:`\frac12 x`, and much more text follows here."
    said = description.description(page(f"{formula}\n\n{rest}"))
    assert said == "A number k stands for the learning rate of the client, which nobody sent."


def test_a_page_may_describe_itself():
    text = ".. meta::\n   :description: What it says itself.\n\nThe first sentence of the page."
    document = page(text)
    assert any(document.findall(nodes.meta))
    assert description.description(document) == "What it says itself."


# --- the package: docstrings


def shown(docstring, names=()):
    """A document of what a reader sees of a docstring."""
    document = new_document("made up")
    document += api.prose(docstring, "leaklib.attacks", names)
    return document


def texts(document, kind):
    return [" ".join(node.astext().split()) for node in document.findall(kind)]


@pytest.mark.parametrize(
    "line",
    [
        "|| g - h ||^2 and |x|, x_ and W_{t+1}, a* and *b*, **c",
        'x\' is "half" of it -- not more ...',
        "1. is no list, and so is a) or #.",
        "m^ / (sqrt(v^) + eps) <- x_i:",
        ":field: is none, .. comment is none, >>> is none",
        r"a \alpha, a\b",
        "_`target` is code",
    ],
)
def test_prose_means_itself(line):
    document = shown(line)
    assert texts(document, nodes.paragraph) == [line.replace("`", "")]
    (paragraph,) = document.findall(nodes.paragraph)
    assert paragraph["support_smartquotes"] is False
    assert not list(document.findall(lambda n: isinstance(n, nodes.emphasis | nodes.strong)))


def test_indented_lines_are_shown_as_they_are():
    document = shown("So that\n\n    n_j = B (mean p_j),\n      * 2\n\nand rounded.")
    block = next(document.findall(nodes.literal_block))
    assert block.astext() == "n_j = B (mean p_j),\n  * 2"
    assert texts(document, nodes.paragraph) == ["So that", "and rounded."]


def test_an_indented_line_needs_no_blank_one_before_it():
    document = shown("by least squares over the rows\n    x = 1\nReturns (M,).")
    assert texts(document, nodes.literal_block) == ["x = 1"]
    assert texts(document, nodes.paragraph) == ["by least squares over the rows", "Returns (M,)."]


def test_an_example_is_shown_as_it_is_typed():
    document = shown("Adds.\n\n>>> add(1, 2)\n3\n>>> add(\n...     1)\n\nSource: none.")
    (block,) = document.findall(nodes.literal_block)
    assert (
        block.astext() == ">>> add(1, 2)\n3\n>>> add(\n...     1)" and block["language"] == "pycon"
    )
    assert texts(document, nodes.paragraph) == ["Adds.", "Source: none."]


def test_source_errors_and_arguments_begin_a_paragraph_of_their_own():
    document = shown(
        "A sentence: it\ngoes on.\nlr: the rate,\nand more: much.\nRaises ValueError.\n"
        "Source: somebody\net al. 1999.",
        names=("lr", "betas"),
    )
    assert texts(document, nodes.paragraph) == [
        "A sentence: it goes on.", "lr: the rate, and more: much.", "Raises ValueError.",
        "Source: somebody et al. 1999.",
    ]  # fmt: skip


def test_points_of_a_list_may_hold_formulas():
    document = shown(
        "changed are\n- the ReLU, and\n  more:\n      x = 1\n  Good.\n- the width.\nEnd."
    )
    assert texts(document, nodes.list_item) == ["the ReLU, and more: x = 1 Good.", "the width."]
    assert texts(document, nodes.literal_block) == ["x = 1"]
    assert texts(document, nodes.paragraph)[-1] == "End."


def test_names_with_two_spaces_become_definitions():
    document = shown(
        "Text.\n\nlayer, kind  its name,\n             its class\nvalues (P,) what `x` is\n"
        "Raises ValueError."
    )
    assert texts(document, nodes.term) == ["layer, kind", "values"]
    assert texts(document, nodes.definition) == ["its name, its class", "(P,) what x is"]
    assert texts(document, nodes.paragraph)[-1] == "Raises ValueError."


def test_code_leads_to_what_it_names_unless_that_is_an_argument():
    document = shown("As `dlg`, `labels.counts(leak)`, `labels` and `2 x`.", names=("labels",))
    (module,) = {link["py:module"] for link in document.findall(addnodes.pending_xref)}
    links = [link["reftarget"] for link in document.findall(addnodes.pending_xref)]
    assert module == "leaklib.attacks" and links == ["dlg", "labels.counts", "2"]


def resolved(target, **more):
    """Where a link leads, on a page that shows these names."""
    names = ("labels.idlg", "book.plots.row", "leak.Leak", "keylock.KeyLock")
    page = {f"leaklib.{name}": None for name in names}
    python = SimpleNamespace(objects=page, resolve_xref=lambda *link: link[4])
    env = SimpleNamespace(get_domain=lambda name: python)
    node = {"refdomain": "py", "reftarget": target, "refdoc": "book/api", **more}
    return api.resolve(SimpleNamespace(builder=None), env, node, "plain text")


def test_links_are_resolved_as_a_reader_writes_names():
    assert resolved("labels.idlg", leaklib=True) == "leaklib.labels.idlg"
    assert resolved("plots.row", leaklib=True) == "leaklib.book.plots.row"
    assert resolved("Leak", leaklib=True) == resolved("leak.Leak") == "leaklib.leak.Leak"
    assert resolved("KeyLock", leaklib=True) == "leaklib.keylock.KeyLock"
    assert resolved("torch.optim", leaklib=True) == resolved("nn.Module") == "plain text"
    assert resolved("leaklib.nobody") is None, "Sphinx would not warn"


# --- the package: names

MADE_UP = """\
from __future__ import annotations
from dataclasses import dataclass, field
from typing import NamedTuple
from . import other
from .other import LIMIT

__all__ = ["double", "Sum", "plus", "Result", "Named", "one", "LIMIT", "Numbers", "other"]
Numbers = list[int]
'''Several.'''

def double(x: Numbers, *, by: int = 2) -> Numbers:
    return x

@dataclass(frozen=True)
class Sum:
    "Adds."
    start: int = 0
    how: object = double
    def __call__(self, x):
        return x
    @property
    def first(self) -> int:
        "The start."
        return self.start
    def but(self, x: int) -> Sum:
        "Another one."
    def act(self):
        return 1

plus = Sum(start=1)

class Result(NamedTuple):
    "What comes."
    value: int
    more: Numbers = []

@dataclass
class Named:
    name: str
    "What it is called."
    add: object = double
    "How."
    base: object = field(default=None, compare=False)
    "Whose."

one = Named("one")
object.__setattr__(one, "__doc__", "The first. one: it says its sentence.")
"""


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A module with one of each kind; what it says of a name: [(directive, signature, …)]."""
    folder = tmp_path / "made_up"
    folder.mkdir()
    (folder / "__init__.py").write_text(MADE_UP)
    (folder / "other.py").write_text('LIMIT = 3.0\n"""No more."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("made_up")
    yield lambda name: [
        (e.directive, e.name + e.signature, e.text, *e.options) for e in api.entries(module, name)
    ]
    for name in ("made_up", "made_up.other"):
        del sys.modules[name]


def test_a_function_is_shown_as_it_is_written(made_up):
    assert made_up("double") == [("function", "double(x: Numbers, *, by: int=2) -> Numbers", None)]


def test_a_class_is_shown_by_its_fields_and_what_is_described(made_up):
    assert made_up("Sum") == [
        ("class", "Sum(start=0, how=...)", "Adds."),
        ("property", "Sum.first", "The start."),
        ("method", "Sum.but(x: int) -> Sum", "Another one."),
    ]
    assert made_up("Result") == [("class", "Result(value, more=[])", "What comes.")]


def test_fields_with_a_description_are_entries_of_their_own(made_up):
    _, *fields = made_up("Named")
    no_entry = ":no-contents-entry:"
    assert fields == [
        ("attribute", "Named.name", "What it is called.", ":type: str", no_entry),
        ("attribute", "Named.add", "How.", ":type: object", ":value: double", no_entry),
        ("attribute", "Named.base", "Whose.", ":type: object", ":value: None", no_entry),
    ]


def test_a_value_says_what_it_is(made_up):
    assert made_up("one") == [("data", "one", "The first. one: it says its sentence.")]
    assert made_up("plus") == [("function", "plus(start=0, how=...)", "Adds.")]
    assert made_up("LIMIT") == [("data", "LIMIT", "No more.", ":value: 3.0")]
    assert made_up("Numbers") == [("data", "Numbers", "Several.", ":value: list[int]")]
    assert made_up("other") == []


def test_a_name_that_is_nowhere_is_an_error(made_up):
    module = sys.modules["made_up"]
    module.nowhere = 1
    with pytest.raises(LookupError, match="made_up.nowhere"):
        api.entries(module, "nowhere")


def test_the_page_lists_every_public_module():
    page = (notebooks.ROOT / "book" / "api.md").read_text("utf-8")
    listed = re.findall(r"(?m)^\.\. leaklib-module:: (\S+)$", page)
    of_pages = {"book", *(f"book.{name}" for name in ("plots", "results", "widgets"))}
    assert set(listed) == {*leaklib.__all__, *of_pages, "course.challenge", "course.grading"}
    assert len(listed) == len(set(listed))


LISTED = re.findall(
    r"leaklib-module:: (\S+)", (notebooks.ROOT / "book" / "api.md").read_text("utf-8")
)


@pytest.mark.parametrize("name", LISTED)
def test_every_public_name_of_a_listed_module_can_be_shown(name):
    module = importlib.import_module(f"leaklib.{name}")
    assert module.__all__ and len([api.entries(module, public) for public in module.__all__]) > 0
