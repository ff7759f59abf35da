"""What the book's own Sphinx extensions make of addresses, pages and docstrings."""

import importlib.util
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import roles
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


# --- docstrings


def shown(docstring, **settings):
    """What a reader sees of a docstring, part by part, and whether docutils found it clean."""
    lines = api.as_rest(docstring.splitlines(), **settings)
    document = page("\n".join(lines))
    assert not list(document.findall(nodes.system_message)), "\n".join(lines)
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


def test_source_and_errors_begin_a_paragraph_of_their_own():
    document = shown("A sentence.\nRaises ValueError.\nSource: somebody\net al. 1999.")
    wanted = ["A sentence.", "Raises ValueError.", "Source: somebody et al. 1999."]
    assert texts(document, nodes.paragraph) == wanted


def test_points_of_a_list_may_hold_formulas():
    document = shown(
        "changed are\n- the ReLU, and\n  more:\n      x = 1\n  Good.\n- the width.\nEnd."
    )
    assert texts(document, nodes.list_item) == ["the ReLU, and more: x = 1 Good.", "the width."]
    assert texts(document, nodes.literal_block) == ["x = 1"]


def test_fields_of_a_class_become_definitions():
    docstring = "Text.\n\nlayer, kind  its name,\n             its class\nvalue (P,) what `x` is"
    document = shown(docstring, fields=("layer", "kind", "value"))
    assert texts(document, nodes.term) == ["layer, kind", "value"]
    assert texts(document, nodes.definition) == ["its name, its class", "(P,) what x is"]


def test_code_leads_to_what_it_names():
    link = api.linker("leaklib.attacks.idlg", leaklib.attacks.idlg)
    assert link("dlg") == "leaklib.attacks.dlg"
    assert link("labels.counts") == "leaklib.labels.counts"
    assert link("quantize(bits)") is None and link("attacks.dlg()") == "leaklib.attacks.dlg"


def test_code_that_names_an_argument_leads_nowhere():
    link = api.linker("leaklib.adaptive.likeliest", leaklib.adaptive.likeliest)
    assert link("defend") is None and link("labels") is None


def test_what_is_taken_out_of_a_private_module_is_public_where_it_is_named():
    assert {"Leak", "stack", "share_gradient"} <= set(api.public_names(leaklib.client))
    assert "bad" not in api.public_names(leaklib.client)
    assert "Leak" not in api.public_names(leaklib.attacks)
    assert not [n for n in api.documented() if any(p.startswith("_") for p in n.split("."))]


def signature(thing):
    return api.process_signature(None, None, None, thing, None, None, None)


def test_signatures_are_shown_as_they_are_written():
    text, returns = signature(leaklib.attacks.idlg)
    assert "distance: Callable[[Tensors, Tensors], Tensor]=distances.l2" in text
    assert returns == "Reconstruction"
    assert signature(leaklib.keylock.attack)[1] == "Reconstruction"
    assert signature(leaklib.keylock.KeyLock)[0].startswith("(conv: nn.Conv2d, key: Tensor")


def test_a_class_of_fields_is_shown_by_their_names():
    text, returns = signature(leaklib.client.Leak)
    assert text.startswith("(weights, update, kind='gradient', buffers=dict(), ")
    assert returns is None
