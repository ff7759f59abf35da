"""Pictures that react: whole without a kernel in the book, alive in a notebook."""

import json
import re
from html.parser import HTMLParser

import ipywidgets
import pytest

from leaklib.book import plots, widgets


def bar(height=1.0, name="x", caption="Caption {name} {height}.", alt="Alt {name} {height}."):
    words = dict(name=name, height=height)
    return plots.bars(
        {name: height}, ylabel="y", caption=caption.format(**words), alt=alt.format(**words)
    )


@pytest.fixture
def book(monkeypatch):
    monkeypatch.setenv("LEAKBOOK_BUILD", "1")


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text inside each script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.text, self.inside = [], [], "", None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, text):
        if self.inside == "script":
            self.scripts[-1] += text
        else:
            self.text += text

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def html_of(fn, **grid):
    return widgets.explore(fn, **grid)._repr_mimebundle_()["text/html"]


# --- in the book --------------------------------------------------------------------------------


def test_page_holds_every_frame_in_the_order_of_the_sliders(book):
    """The last slider changes fastest, as the script counts."""
    page = Page(html_of(bar, height=[1.0, 2.0, 3.0], name=["a", "b"]))
    held = json.loads(page.scripts[0])
    alts = [f"Alt {n} {h}." for h in (1.0, 2.0, 3.0) for n in ("a", "b")]
    assert [f["alt"] for f in held["frames"]] == alts
    assert [f["caption"] for f in held["frames"]] == [a.replace("Alt", "Caption") for a in alts]
    assert held["sizes"] == [3, 2] and held["labels"] == [["1", "2", "3"], ["a", "b"]]
    sources = [f["src"] for f in held["frames"]]
    assert len(set(sources)) == 6 and sources[3] == bar(2.0, "b").source()


def test_page_shows_one_still_picture_first(book):
    page = Page(html_of(bar, height=[1.5, 2.0]))
    (image,) = page.all("img")
    assert image["src"] == bar(1.5).source() and image["alt"] == "Alt x 1.5."
    assert "Caption x 1.5." in page.text
    (slider,) = page.all("input")
    assert slider["type"] == "range" and (slider["min"], slider["max"]) == ("0", "1")
    assert slider["aria-valuetext"] == "1.5" and "height" in page.text
    controls = next(a for a in page.all("div") if a["class"] == "leak-controls")
    assert "hidden" in controls, "no sliders where no script runs"


def test_sliders_are_a_named_group_and_say_their_value_once(book):
    """What stands beside a slider is for the eye: the slider itself says the same to the ear."""
    page = Page(html_of(bar, height=[1.5, 2.0]))
    (group,) = (a for a in page.all("div") if a.get("role") == "group")
    assert group["aria-label"] and group["class"] == "leak-controls"
    (output,) = page.all("output")
    assert output["aria-hidden"] == "true"


def test_page_needs_nothing_from_elsewhere(book):
    text = html_of(bar, height=[1.0, 2.0])
    page = Page(text)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data"):
            assert attributes.get(name, "data:").startswith("data:")
    assert not re.search(r"https?://|import\(|fetch\(|XMLHttp|@import", text)


def test_page_is_also_an_image_and_words(book):
    bundle = widgets.explore(bar, height=[1.0, 2.0])._repr_mimebundle_()
    assert bundle["image/png"] == bar(1.0).png() and bundle["text/plain"] == "Alt x 1.0."


def test_words_are_escaped(book):
    nasty = '<b onclick="x">&'
    page = Page(html_of(lambda name: bar(1.0, "x", nasty, nasty), name=[nasty, "b"]))
    assert not page.all("b") and nasty in page.text
    assert page.all("input")[0]["aria-valuetext"] == nasty
    assert page.all("img")[0]["alt"] == nasty


@pytest.mark.parametrize(
    "nasty", ["</script><script>alert(1)</script>", "</SCRIPT >", "<!-- <script>", "]]>"]
)
def test_caption_cannot_end_or_swallow_the_script(nasty, book):
    """A browser leaves a script at its end tag, and passes over it after "<!-- <script"."""
    text = html_of(lambda name: bar(1.0, "x", nasty, nasty), name=[nasty, "b"])
    page = Page(text)
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0])["frames"][0]["caption"] == nasty
    assert "</script" not in page.scripts[0].lower() and "<!--" not in page.scripts[0]
    assert "alert" not in page.scripts[1]


def test_a_picture_begins_at_the_defaults_of_its_function(book):
    def fn(height=2.0, name="b"):
        return bar(height, name)

    page = Page(html_of(fn, name=["a", "b"], height=[1.0, 2.0]))
    assert page.all("img")[0]["src"] == bar(2.0, "b").source()
    assert [slider["value"] for slider in page.all("input")] == ["1", "1"]
    _, sliders, _ = parts(widgets._box(fn, dict(name=["a", "b"], height=[3.0, 4.0])))
    assert [slider.value for slider in sliders] == ["b", 3.0]


def test_same_picture_twice_on_a_page_reacts_twice(book):
    """Each script finds its own figure, although both have the same name."""
    assert "getElementById" not in html_of(bar, height=[1.0, 2.0])


def test_page_begins_at_the_defaults_of_the_function(book):
    """Where the grid has them; else at the first value."""
    page = Page(html_of(bar, height=[3.0, 2.0, 1.0], name=["a", "b"]))
    (image,) = page.all("img")
    assert image["src"] == bar(1.0, "a").source() and image["alt"] == "Alt a 1.0."
    assert [slider["value"] for slider in page.all("input")] == ["2", "0"]
    assert page.all("input")[0]["aria-valuetext"] == "1" and "Caption a 1.0." in page.text
    frames = json.loads(page.scripts[0])["frames"]
    assert frames[2 * 2 + 0]["src"] == image["src"]


# --- in a notebook ------------------------------------------------------------------------------


def parts(box):
    assert isinstance(box, ipywidgets.VBox)
    image, *sliders, caption = box.children
    assert isinstance(image, ipywidgets.Image) and isinstance(caption, ipywidgets.HTML)
    return image, sliders, caption


def test_sliders_change_picture_words_and_caption():
    image, (height, name), caption = parts(widgets.explore(bar, height=[1.0, 2.0], name=["a", "b"]))
    assert bytes(image.value) == bar(1.0, "a").png()
    assert "Caption a 1.0." in caption.value and height.value == 1.0
    height.value = 2.0
    assert bytes(image.value) == bar(2.0, "a").png() and "Caption a 2.0." in caption.value
    name.value = "b"
    assert bytes(image.value) == bar(2.0, "b").png() and "Caption b 2.0." in caption.value
    assert image.alt == "Alt b 2.0."
    height.value = 1.0
    assert bytes(image.value) == bar(1.0, "b").png()


def test_notebook_begins_at_the_defaults_of_the_function():
    image, (height, name), _ = parts(widgets.explore(bar, height=[3.0, 1.0], name=["a", "b"]))
    assert (height.value, name.value) == (1.0, "a")
    assert bytes(image.value) == bar(1.0, "a").png()


def test_notebook_draws_only_what_is_looked_at():
    asked = []

    def fn(height):
        asked.append(height)
        return bar(height)

    parts(widgets.explore(fn, height=[3.0, 1.0, 2.0]))
    assert asked == [3.0], "the first value of the grid"


def test_caption_in_a_notebook_is_escaped():
    _, _, caption = parts(widgets.explore(lambda a: bar(caption="<script>x</script>"), a=[1, 2]))
    assert "<script" not in caption.value and "&lt;script" in caption.value


def test_names_of_sliders_are_readable():
    _, (slider,), _ = parts(widgets.explore(lambda noise_level: bar(), noise_level=[1e-4, 0.5]))
    assert slider.description == "noise level"
    assert [label for label, _ in slider.options] == ["0.0001", "0.5"]


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", ["0", "1"])
def test_wrong_grids_and_functions_are_refused(build, monkeypatch):
    monkeypatch.setenv("LEAKBOOK_BUILD", build)
    for grid in ({}, dict(height=[]), dict(height=[1.0], name=[])):
        with pytest.raises(ValueError, match="^grid: .*values for each slider"):
            widgets.explore(bar, **grid)
    with pytest.raises(ValueError, match="^grid: got 225 combinations; wanted at most 200"):
        widgets.explore(bar, height=range(15), name=range(15))
    with pytest.raises(ValueError, match="^fn: got a result of type str; .*Picture"):
        widgets.explore(lambda height: "a string", height=[1, 2])
