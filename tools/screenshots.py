"""Take pictures of the built site into ``_build/screenshots``: light, dark, narrow, printed."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

import browser

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("book/welcome", "notebooks/01_federated_learning", "notebooks/04_dlg")
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "narrow": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}


def take(chromium, name, look, folder):
    context = chromium.new_context(**LOOKS[look])
    page = context.new_page()
    page.goto((ROOT / "_build" / "html" / f"{name}.html").as_uri())
    page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    path = folder / f"{Path(name).name}-{look}.png"
    page.screenshot(path=path, full_page=True)
    context.close()
    print(path.relative_to(ROOT))


def main(names):
    if browser.find() is None:
        return "No Chromium or Chrome is installed."
    folder = ROOT / "_build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = browser.launch(playwright)
        for name in names:
            for look in LOOKS:
                take(chromium, name, look, folder)
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or PAGES))
