"""Nobody is shut out: each page is heard in order, walked by keyboard, and read in either theme."""

from itertools import pairwise

import pytest
from axe_playwright_python import base as axe

import look

# axe-core's rules are about what can be seen in the page's code. "Serious" and "critical" shut
# somebody out; the lesser ones are held to as well, as long as there is none.


def test_page_has_no_barriers(visit):
    assert visit["barriers"] == []


def test_page_has_no_barriers_at_360_px(visit):
    assert visit["barriers when narrow"] == []


def test_letters_stand_out_in_light(visit):
    assert visit["faint in light"] == []


def test_letters_stand_out_in_dark(visit):
    assert visit["faint in dark"] == []


def test_headings_tell_the_order_of_the_page(visit):
    levels = [level for level, _ in visit["headings"]]
    assert levels[:1] == [1] and levels.count(1) == 1, "the title is the only heading of level 1"
    jumps = [
        (above[1], below[1])
        for above, below in pairwise(visit["headings"])
        if below[0] > above[0] + 1
    ]
    assert jumps == [], "a level is left out"


def test_page_has_one_main_part_and_named_navigation(visit):
    assert visit["mains"] == 1
    assert visit["navs"] and all(visit["navs"])
    assert len(set(visit["navs"])) == len(visit["navs"]), "two have the same name"


def test_first_stop_of_the_keyboard_skips_the_navigation(visit):
    words, place = visit["skip"]
    assert "Skip to main content" in words and place == "#main-content"
    assert visit["skipped"], "after it, Tab goes to the page's own text"


def test_keyboard_reaches_everything_and_gets_out_again(visit):
    assert visit["left"], "focus does not leave the page at its end"
    assert visit["missed"] == [], "no stop of Tab"


def test_focus_can_be_seen(visit):
    assert visit["unseen"] == []


OPENERS = {
    "the menu of chapters": ".primary-toggle",
    "the contents of the page": ".secondary-toggle",
    "the search": ".article-header-buttons .search-button",
}


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_what_covers_a_narrow_page_is_open_to_all_and_gives_the_focus_back(opener, browser, site):
    page = browser.new_page(viewport=look.NARROW, reduced_motion="reduce")
    page.goto(f"{site}notebooks/03_labels_leak.html")
    page.evaluate(axe.AXE_SCRIPT)
    page.focus(opener)
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.evaluate("() => !!document.activeElement.closest('dialog')")
    assert page.evaluate(look.BARRIERS) == []
    assert page.evaluate(look.CONTRAST) == []
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    assert page.evaluate("css => document.activeElement.matches(css)", opener)
    page.close()
