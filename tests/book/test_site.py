"""Every page of the built site works in a browser, alone, light and narrow."""

import re
from pathlib import Path
from urllib.parse import unquote, urldefrag

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
HEAVIEST = 3e6  # bytes of a page with all that it loads when it is opened, as they lie on the disk


def test_page_loads_without_errors(visit):
    assert visit["errors"] == []
    assert visit["failed"] == []


def test_page_asks_no_other_site(visit):
    assert visit["elsewhere"] == []


def test_page_is_light(visit):
    assert 0 < visit["bytes when opened"] < HEAVIEST


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
    assert visit["too wide"] == [0, 0], "the page scrolls sideways at 360 px"


def test_front_page_leads_to_the_book(browser, site):
    page = browser.new_page()
    page.goto(site)
    page.wait_for_url(re.compile(r"/book/welcome\.html$"))
    page.close()


def test_search_finds_what_a_chapter_is_about(browser, site):
    page = browser.new_page()
    page.goto(f"{site}book/welcome.html")
    page.click(".search-button-field")
    page.fill("#pst-search-dialog input", "iDLG")
    page.press("#pst-search-dialog input", "Enter")
    page.wait_for_selector("#search-results li a[href*='05_idlg']")
    page.close()
