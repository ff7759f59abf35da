"""The built site, served on this machine, in a real browser: every page is visited once."""

import functools
import http.server
import os
import threading
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import sync_playwright

import browser as browsers
import look

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
WEIGHTS = pytest.StashKey[dict]()


def pages():
    """The pages in the order of _toc.yml."""
    return list(named(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))))


def named(part):
    """The pages in a part of the table of contents, at whatever depth."""
    if isinstance(part, list):
        for each in part:
            yield from named(each)
    elif isinstance(part, dict):
        yield from (part[key] for key in ("root", "file") if key in part)
        for key in ("parts", "chapters", "sections"):
            yield from named(part.get(key))


def pytest_generate_tests(metafunc):
    """`visit` is every page and the search; `page_name` every page."""
    if "visit" in metafunc.fixturenames:
        metafunc.parametrize("visit", [*pages(), "search"], indirect=True, scope="session")
    elif "page_name" in metafunc.fixturenames:
        metafunc.parametrize("page_name", pages())


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site():
    """The address of the built site."""
    if not (HTML / "index.html").exists():
        pytest.fail("there is no site in _build/html: run `make book` first")
    handler = functools.partial(Quiet, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    if browsers.find() is None:
        reason = "no Chromium or Chrome is installed, and Playwright has none of its own"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with sync_playwright() as playwright:
        chromium = browsers.launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def kinds():
    """The kinds of controls whose focus was looked at, on whatever page."""
    return set()


@pytest.fixture(scope="session")
def visit(request, browser, site, kinds):
    """What happened on a page, and what it shows."""
    seen = look.at(browser, site, request.param, kinds)
    request.config.stash.setdefault(WEIGHTS, {})[request.param] = (
        seen["bytes when opened"],
        seen["bytes"],
    )
    return seen


def pytest_terminal_summary(terminalreporter, config):
    weights = config.stash.get(WEIGHTS, {})
    for i, when in enumerate(("when it is opened", "when its pictures were used")):
        if weights:
            name, sizes = max(weights.items(), key=lambda item: item[1][i])
            told = f"Heaviest of {len(weights)} pages {when}: {name}, {sizes[i] / 1e6:.2f} MB"
            terminalreporter.write_line(told)
