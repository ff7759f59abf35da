"""Every picture with a slider reacts by keyboard, mouse and touch, and stands still without script.

What counts is what is seen: the pixels of the picture, the text beside the slider, the words for
those who do not see the picture.
"""

import pytest

ROOM = {"width": 1280, "height": 1800}  # a picture and its sliders at once
FIGURES = "figure:has(.leak-controls input[type=range])"

# What a reader is told: at the sliders, below the picture, and instead of it.
WORDS = """figure => ({
    labels: [...figure.querySelectorAll("label")].map(e => e.firstChild.textContent.trim()),
    values: [...figure.querySelectorAll("output")].map(e => e.textContent),
    spoken: [...figure.querySelectorAll("input")].map(e => e.ariaValueText),
    caption: figure.querySelector("figcaption").textContent,
    alt: [...figure.querySelectorAll("img, canvas")].map(e => e.alt ?? e.ariaLabel).join(),
})"""
DECODED = "figure => Promise.all([...figure.querySelectorAll('img')].map(e => e.decode()))"
RESET = """figure => figure.querySelectorAll("input").forEach(e => {
    e.value = e.defaultValue;
    e.dispatchEvent(new Event("input", {bubbles: true}));
})"""


@pytest.fixture(scope="module")
def still(browser):
    """A context without the formulas, which take the most time and move nothing here."""
    context = browser.new_context(viewport=ROOM, reduced_motion="reduce", has_touch=True)
    context.route("**/mathjax/**", lambda route: route.abort())
    yield context
    context.close()


def seen(page, figure):
    """The pixels of a figure's pictures."""
    figure.evaluate(DECODED)
    boxes = [e.bounding_box() for e in figure.query_selector_all("img, canvas") if e.is_visible()]
    x, y = (min(box[side] for box in boxes) for side in "xy")
    width = max(box["x"] + box["width"] for box in boxes) - x
    height = max(box["y"] + box["height"] for box in boxes) - y
    return page.screenshot(clip={"x": x, "y": y, "width": width, "height": height})


def by_key(page, figure, slider):
    """The pixels and words at both ends of a slider."""
    for key in ("Home", "End"):
        slider.press(key)
        yield seen(page, figure), figure.evaluate(WORDS)


def by_hand(page, figure, slider):
    """How a hand brings a slider to its ends: a click on the track, a drag, a finger."""
    box = slider.bounding_box()
    left, right = ((box["x"] + x, box["y"] + box["height"] / 2) for x in (2, box["width"] - 2))
    page.mouse.click(*left)
    yield "a click on the beginning", 0, seen(page, figure)
    page.mouse.click(*right)
    yield "a click on the end", 1, seen(page, figure)
    page.mouse.down()
    page.mouse.move(*left, steps=4)
    page.mouse.up()
    yield "a drag to the beginning", 0, seen(page, figure)
    page.touchscreen.tap(*right)
    yield "a tap on the end", 1, seen(page, figure)
    assert slider.bounding_box() == box, "the slider jumps under the hand"


RECIPES = ("notebooks/your_own_network",)  # cells to copy, and nothing to move


def test_pictures_react_to_keyboard_mouse_and_touch(page_name, still, site):
    page = still.new_page()
    page.goto(f"{site}{page_name}.html")
    figures = page.query_selector_all(FIGURES)
    is_chapter = page_name.startswith("notebooks/") and page_name not in RECIPES
    assert figures or not is_chapter, "every chapter has a picture that reacts"
    for figure in figures:
        figure.evaluate("e => e.scrollIntoView({block: 'center'})")
        for number, slider in enumerate(figure.query_selector_all("input[type=range]")):
            ends = list(by_key(page, figure, slider))
            follow(*[words for _, words in ends], number)
            pixels = [picture for picture, _ in ends]
            assert pixels[0] != pixels[1], f"slider {number} changes nothing"
            for how, end, picture in by_hand(page, figure, slider):
                assert picture == pixels[end], f"{how} does not do what the key does"
            figure.evaluate(RESET)
    page.emulate_media(media="print")
    for figure in figures:
        assert any(e.is_visible() for e in figure.query_selector_all("img, canvas"))
        assert not figure.query_selector(".leak-controls").is_visible()
    page.close()


def follow(first, last, number):
    """The words of a figure follow the slider of this number."""
    assert all(first["labels"]) and first["labels"] == last["labels"]
    assert first["values"] == first["spoken"] and last["values"] == last["spoken"]
    assert first["values"][number] != last["values"][number]
    assert first["caption"].strip() and first["alt"].strip()
    assert (first["caption"], first["alt"]) != (last["caption"], last["alt"])


def test_pictures_stand_still_without_script(page_name, browser, site):
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{site}{page_name}.html")
    figures = page.query_selector_all("figure")
    assert figures or not page_name.startswith("notebooks/")
    for figure in figures:
        image = figure.query_selector("img")
        assert image.is_visible() and image.bounding_box()["height"] > 20
        assert image.get_attribute("alt").strip()
    assert not any(e.is_visible() for e in page.query_selector_all(".leak-controls"))
    page.close()
