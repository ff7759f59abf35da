"""Find a browser for the tests of the site. ``python tools/browser.py`` fetches one if need be."""

import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/usr/bin/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find():
    """The path of an installed Chromium or Chrome, else of Playwright's own, else None."""
    for name in (*NAMES, *PLACES):
        if shutil.which(name):
            return shutil.which(name)
    return playwright_browser()


def playwright_browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def launch(playwright):
    return playwright.chromium.launch(executable_path=find(), args=FLAGS)


if __name__ == "__main__" and find() is None:
    print("No Chromium or Chrome is installed: asking Playwright for its own.")
    if subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode:
        print("That failed, so the tests of the site are skipped. Install chromium to run them.")
