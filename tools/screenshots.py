"""Take pictures of the built site into ``_build/screenshots``: light, dark, narrow.

    python tools/screenshots.py [--whole] [PAGE ...]

A chapter is forty screens long: without --whole its beginning is taken.
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

import browser

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "_build" / "screenshots"
PAGES = (
    "book/welcome",
    "notebooks/03_labels_leak",
    "notebooks/09_dlm",
    "notebooks/paper_vs_here",
    "book/glossary",
)
LONGEST = 4000  # pixels from the top
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
LOOKS = {"light": ("light", WIDE), "dark": ("dark", WIDE), "narrow": ("light", NARROW)}


def take(chromium, name, longest=LONGEST):
    """The page in every look; return the files."""
    page = chromium.new_page(reduced_motion="reduce")
    page.goto((ROOT / "_build" / "html" / f"{name}.html").as_uri())
    page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    paths = []
    for look, (scheme, size) in LOOKS.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        paths.append(FOLDER / f"{Path(name).name}-{look}.png")
        height = page.evaluate("() => document.documentElement.scrollHeight")
        shown = {"x": 0, "y": 0, "width": size["width"], "height": min(height, longest)}
        page.screenshot(path=paths[-1], full_page=True, clip=shown)
    page.close()
    return paths


def main(arguments):
    longest = float("inf") if "--whole" in arguments else LONGEST
    names = [name for name in arguments if name != "--whole"] or PAGES
    if browser.find() is None:
        return "No Chromium or Chrome is installed."
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = browser.launch(playwright)
        for name in names:
            for path in take(chromium, name, longest):
                print(path.relative_to(ROOT))
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
