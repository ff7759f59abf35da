"""What the built pages tell search engines, shared links and lost readers."""

import functools
import http.server
import importlib
import inspect
import re
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

import leaklib
import setup_cell

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
CONFIG = (ROOT / "_config.yml").read_text("utf-8")
URL, BRANCH = setup_cell.repository(CONFIG)
OWNER, NAME = URL.removeprefix("https://github.com/").split("/")
PAGES = f"https://{OWNER.lower()}.github.io/{NAME}"
SITE = (yaml.safe_load(CONFIG)["html"].get("baseurl") or PAGES).removesuffix("/") + "/"
BELOW = urlsplit(SITE).path

# What a page shows that is no prose: it must not be what a search engine shows of it.
NO_PROSE = ("Show code cell", "Hide code cell", "import torch", "leaklib 0.", "$", "\\")


def pages():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


@functools.cache
def soup(name):
    path = HTML / f"{name}.html"
    if not path.exists():
        pytest.fail("there is no site in _build/html: run `make book` first")
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def contents(page, **attributes):
    return [tag["content"] for tag in soup(page).find_all("meta", attrs=attributes)]


@pytest.mark.parametrize("name", pages())
def test_page_describes_itself_once_in_prose(name):
    (text,) = contents(name, name="description")
    assert 50 <= len(text) <= 300, text
    assert text[-1] in ".?!…" and "\n" not in text
    assert not [sign for sign in NO_PROSE if sign in text], text
    assert contents(name, property="og:description") == [text]


def test_no_two_pages_are_described_alike():
    said = [contents(name, name="description")[0] for name in pages()]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("name", pages())
def test_page_has_what_a_shared_link_shows(name):
    heading = soup(name).find("h1")
    for mark in heading.find_all("a", class_="headerlink"):
        mark.extract()
    assert contents(name, property="og:title") == [heading.get_text().strip()]
    assert contents(name, property="og:url") == [f"{SITE}{name}.html"]
    assert contents(name, property="og:site_name") == ["What Gradients Remember"]
    (image,) = contents(name, property="og:image")
    assert image.startswith(SITE) and (HTML / image.removeprefix(SITE)).is_file()
    (alt,) = contents(name, property="og:image:alt")
    assert len(alt) > 20


@pytest.mark.parametrize("name", pages())
def test_page_names_its_address_language_and_icon(name):
    (canonical,) = soup(name).find_all("link", rel="canonical")
    assert canonical["href"] == f"{SITE}{name}.html"
    assert soup(name).html["lang"] == "en"
    icon = soup(name).find("link", rel="icon")["href"]
    assert (HTML / f"{name}.html").parent.joinpath(icon).resolve().is_file()


@pytest.mark.parametrize("name", pages())
def test_links_to_the_repository_are_those_of_the_one_setting(name):
    """Colab's button too, which opens the notebook of this very page."""
    links = [tag["href"] for tag in soup(name).find_all("a", href=True)]
    colab = [link for link in links if "colab.research.google.com" in link]
    if name.startswith("notebooks/"):
        there = (
            f"https://colab.research.google.com/github/{OWNER}/{NAME}/blob/{BRANCH}/{name}.ipynb"
        )
        assert set(colab) == {there}
    else:
        assert colab == []
    if name != "book/references":  # which lists the papers' own code
        on_github = [link for link in links if "//github.com/" in link]
        assert not [link for link in on_github if link != URL and not link.startswith(f"{URL}/")]


def test_sitemap_lists_exactly_the_pages():
    tags = ET.parse(HTML / "sitemap.xml").iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")
    listed = [tag.text for tag in tags]
    assert sorted(listed) == sorted(f"{SITE}{name}.html" for name in pages())


# --- the page for lost readers


class Host(http.server.SimpleHTTPRequestHandler):
    """Serves the site below a path, as GitHub Pages does, and 404.html for all else."""

    def translate_path(self, path):
        if not path.startswith(BELOW):
            return str(HTML / "nothing is here")
        return super().translate_path(f"/{path.removeprefix(BELOW)}")

    def send_error(self, code, message=None, explain=None):
        body = (HTML / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def host():
    handler = functools.partial(Host, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def lost(browser, host):
    """What a reader gets who follows a wrong link that looks deep inside the book."""
    seen = {"failed": [], "elsewhere": [], "errors": []}
    context = browser.new_context()
    context.on("request", lambda r: r.url.startswith(host) or seen["elsewhere"].append(r.url))
    context.on("requestfailed", lambda r: seen["failed"].append(r.url))
    context.on("weberror", lambda error: seen["errors"].append(str(error.error)))
    page = context.new_page()
    wrong = f"{host}{BELOW}notebooks/of/old/99_gone.html"

    def answered(response):
        if response.status >= 400 and response.url != wrong:
            seen["failed"].append(response.url)

    page.on("response", answered)
    seen["status"] = page.goto(wrong, wait_until="networkidle").status
    seen |= page.evaluate("""() => ({
        sheets: [...document.styleSheets].filter(s => s.href).map(s => s.cssRules.length),
        article: document.querySelector("article").textContent,
        links: [...document.querySelectorAll("article a[href]")].map(a => a.href),
        everywhere: [...document.querySelectorAll("a[href]")].map(a => a.href),
        forms: [...document.querySelectorAll("form[action]")].map(f => f.action),
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    })""")
    context.close()
    return seen


def test_a_wrong_address_deep_in_the_book_is_answered_by_a_page_in_its_style(lost):
    assert lost["status"] == 404
    assert "This page is not here" in lost["article"]
    assert len(lost["sheets"]) >= 3 and all(lost["sheets"]), "a style sheet was not loaded"
    assert lost["failed"] == [] and lost["errors"] == []
    assert lost["elsewhere"] == []


def test_lost_readers_find_the_front_page_and_every_chapter(lost, host):
    wanted = {f"{host}{BELOW}{name}.html" for name in pages()}
    assert wanted <= set(lost["links"])


def test_every_link_and_search_field_of_the_page_for_lost_readers_leads_somewhere(lost, host):
    assert lost["forms"]
    for link in {*lost["everywhere"], *lost["forms"]}:
        path = link.partition("#")[0].removeprefix(f"{host}{BELOW}")
        here = path.endswith("99_gone.html")  # a link to a place on the page itself
        assert here or (HTML / (path or "index.html")).is_file(), link


# --- pages that are made


def anchors(name):
    return {tag["id"] for tag in soup(name).find_all(id=True)}


OTHER_FLOORS = (
    "book",
    "book.plots",
    "book.results",
    "book.widgets",
    "course.challenge",
    "course.grading",
)


@pytest.mark.parametrize("name", [*leaklib.__all__, *OTHER_FLOORS])
def test_the_page_on_the_package_has_a_place_for_every_public_name(name):
    module = importlib.import_module(f"leaklib.{name}")
    names = [part for part in module.__all__ if not inspect.ismodule(getattr(module, part))]
    assert names
    assert {f"leaklib.{name}.{part}" for part in names} <= anchors("book/api")
    assert f"module-leaklib.{name}" in anchors("book/api")


def test_the_page_on_the_package_shows_what_is_told_elsewhere_once():
    places = anchors("book/api")
    assert {"leaklib.book.setup", "leaklib.leak.Leak", "leaklib.leak.stack"} <= places
    assert {"leaklib.attacks.Reconstruction", "leaklib.attacks.simulated"} <= places
    assert {"leaklib.attacks.idlg", "leaklib.attacks.Attack.distance"} <= places
    assert not [p for p in places if p.endswith(".Leak") and p != "leaklib.leak.Leak"]
    private = [p for p in places if p.startswith("leaklib.") and re.search(r"\._|\.bad$", p)]
    assert private == []


def test_the_page_on_the_package_shows_no_markup():
    text = soup("book/api").find("article").get_text()
    assert not re.findall(r":py:\w+:|``|\\ |\.\. \w+::", text)
    assert "<function" not in text and " object at 0x" not in text


def test_the_search_finds_a_function_of_the_package():
    index = (HTML / "searchindex.js").read_text("utf-8")
    assert '"leaklib.attacks"' in index and '"invert_gradients"' in index


def test_the_page_on_the_build_names_every_notebook_and_its_seconds():
    times, versions = soup("book/build").find("article").find_all("table")
    links = [urljoin("book/build.html", a["href"]) for a in times.find_all("a")]
    assert sorted(links) == sorted(f"{n}.html" for n in pages() if n.startswith("notebooks/"))
    cells = [row.find_all("td")[-1].get_text() for row in times.select("tbody tr")]
    *seconds, total = [float(cell.replace(",", "")) for cell in cells]
    assert len(seconds) == len(links) and all(s > 0 for s in seconds)
    assert total == pytest.approx(sum(seconds), abs=0.1)
    assert {"Python", "torch", "sphinx", "leaklib"} <= set(versions.stripped_strings)
