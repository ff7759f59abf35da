"""Every page of the built site works in a browser, alone, narrow, and without JavaScript."""

import re
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"

# What a page shows, read in one go. Code and the sources of formulas are not text. MathJax
# writes a command that it does not know in red.
FACTS = """() => {
    const all = (css) => [...document.querySelectorAll(css)];
    const article = document.querySelector("article").cloneNode(true);
    article.querySelectorAll("pre, code, script, style, mjx-container").forEach(e => e.remove());
    return {
        text: article.textContent,
        images: all("img").map(e => ({src: e.src.slice(0, 80), alt: e.alt, width: e.naturalWidth})),
        formulas: all(".math").length,
        unrendered: all(".math").filter(e => !e.querySelector("mjx-container")).length,
        wrong: all("mjx-merror, mjx-container [style*='color: red']").map(e => e.textContent),
        links: all("a[href]").map(e => e.href),
    };
}"""


# By how many pixels the page, or its text alone, is wider than the screen.
TOO_WIDE = """() => [document.documentElement, document.querySelector("article")]
    .map(e => e.scrollWidth - e.clientWidth)"""


def pages():
    """The pages in the order of _toc.yml."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


CHAPTERS = [name for name in pages() if name.startswith("notebooks/")]


def open_page(context, address):
    """Open a page and wait until its formulas are set."""
    page = context.new_page()
    page.goto(address, wait_until="load")
    page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    return page


@pytest.fixture(scope="module", params=pages())
def visit(request, browser, site):
    """What happened on a page, and what it shows. Requests off the site are stopped."""
    seen = {"name": request.param, "errors": [], "failed": [], "elsewhere": []}
    context = browser.new_context()

    def only_here(route):
        if route.request.url.startswith((site, "data:", "blob:")):
            return route.continue_()
        seen["elsewhere"].append(route.request.url)
        return route.abort()

    def answered(response):
        if response.status >= 400:
            seen["failed"].append(f"{response.status} {response.url}")

    context.route("**/*", only_here)
    context.on("response", answered)
    context.on("requestfailed", lambda r: seen["failed"].append(r.url))
    context.on("console", lambda m: m.type == "error" and seen["errors"].append(m.text))
    context.on("weberror", lambda error: seen["errors"].append(str(error.error)))
    page = open_page(context, f"{site}{request.param}.html")
    page.wait_for_load_state("networkidle")
    seen |= page.evaluate(FACTS)
    page.set_viewport_size({"width": 360, "height": 740})
    seen["too_wide"] = page.evaluate(TOO_WIDE)
    context.close()
    return seen


def test_page_loads_without_errors(visit):
    assert visit["errors"] == []
    assert visit["failed"] == []


def test_page_asks_no_other_site(visit):
    assert visit["elsewhere"] == []


def test_images_are_shown_and_described(visit):
    for image in visit["images"]:
        assert image["width"] > 0, f"not decoded: {image['src']}"
        assert image["alt"].strip(), f"no alternative text: {image['src']}"
        assert not re.search(r"\.(png|jpe?g|svg|gif|webp)$", image["alt"]), "a path is no text"


def test_formulas_are_set(visit):
    assert visit["wrong"] == []
    assert visit["unrendered"] == 0
    assert not re.findall(r"\$[^$\n]+\$|\$\$", visit["text"]), "raw dollar signs on the page"


def test_links_inside_the_book_are_alive(visit, site):
    dead = [link for link in visit["links"] if link.startswith(site) and not alive(link, site)]
    assert dead == []


def alive(link, site):
    """The file that a link names exists, and so does the place in it."""
    address, place = urldefrag(link.removeprefix(site))
    target = HTML / unquote(address.split("?")[0] or "index.html")
    if not target.is_file():
        return False
    return not place or f'id="{unquote(place)}"' in target.read_text("utf-8")


def test_page_fits_a_narrow_screen(visit):
    assert visit["too_wide"] == [0, 0], "the page scrolls sideways at 360 px"


@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_react_to_the_keyboard(name, browser, site):
    context = browser.new_context()
    page = open_page(context, f"{site}{name}.html")
    figures = page.query_selector_all("figure.leak-explore")
    assert figures, "every chapter has a picture that reacts"
    for figure in figures:
        assert len([i for i in figure.query_selector_all("img") if i.is_visible()]) == 1
        assert figure.query_selector("figcaption").inner_text().strip()
        slider = figure.query_selector(".leak-controls input[type=range]")
        assert len(shown_at_both_ends(page, figure, slider)) == 2, "the slider changes nothing"
    page.emulate_media(media="print")
    assert all(figure.query_selector("img").is_visible() for figure in figures)
    assert not any(c.is_visible() for c in page.query_selector_all(".leak-controls"))
    context.close()


def shown_at_both_ends(page, figure, slider):
    """The different pictures that a figure shows with its slider at one end and at the other."""
    pictures = set()
    for key in ("Home", "End"):
        slider.press(key)
        page.wait_for_timeout(100)
        pictures.add(figure.query_selector("img").get_attribute("src"))
    return pictures


@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_stand_still_without_script(name, browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}{name}.html", wait_until="load")
    for figure in page.query_selector_all("figure.leak-explore"):
        assert figure.query_selector("img").is_visible()
        assert not figure.query_selector(".leak-controls").is_visible()
    context.close()


def test_front_page_leads_to_the_book(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.goto(site)
    page.wait_for_url(f"{site}{pages()[0]}.html")
    context.close()
