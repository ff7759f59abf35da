"""Seconds until a page of the built site is painted, is loaded, and answers its reader.

    python benchmarks/pages.py [--runs 5] [PAGE ...]

The front page and the heaviest chapter, unless pages are named.  Each run has a browser context of
its own, with nothing in its cache, and a server on this machine: what a line adds is not in it.  A
page answers when, after its first slider was moved, the next frame has the next picture.  Medians
over the runs.  Prints a table and writes no file: every notebook is executed again when a saved
result changes, and none shows these.
"""

import argparse
import functools
import http.server
import re
import statistics
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
FRONT = "book/welcome"
COLUMNS = ("painted", "parsed", "loaded", "answer", "megabytes")

sys.path.insert(0, str(ROOT / "tools"))
import browser  # noqa: E402

# Milliseconds since the page was asked for.
TIMES = """() => {
    const [page] = performance.getEntriesByType("navigation");
    const [painted] = performance.getEntriesByName("first-contentful-paint");
    return {painted: painted.startTime, parsed: page.domContentLoadedEventEnd,
        loaded: page.loadEventEnd};
}"""

# Milliseconds from the moment that a slider is moved to the frame that shows it.
ANSWER = """async () => {
    const slider = document.querySelector(".leak-controls input[type=range]");
    if (!slider) return null;
    const start = performance.now();
    slider.value = slider.value == slider.max ? slider.min : slider.max;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    await Promise.all([...slider.closest("figure").querySelectorAll("img")].map(e => e.decode()));
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def weight(path: Path) -> int:
    """Bytes of a chapter's page and of the pictures that it shows at once."""
    page = path.read_text("utf-8")
    pictures = set(re.findall(r'<img[^>]* src="([^":]+)"', page))
    files = [path.parent / name for name in pictures]
    return len(page.encode()) + sum(file.stat().st_size for file in files if file.is_file())


def heaviest() -> str:
    path = max((HTML / "notebooks").glob("*.html"), key=weight)
    return f"notebooks/{path.stem}"


def visit(chromium: Browser, address: str) -> dict[str, float]:
    """One visit with an empty cache."""
    sizes = []
    context = chromium.new_context()
    context.on("response", lambda r: sizes.append(int(r.headers.get("content-length", 0))))
    page = context.new_page()
    page.goto(address, wait_until="load")
    seen = page.evaluate(TIMES) | {"answer": page.evaluate(ANSWER) or float("nan")}
    context.close()
    return seen | {"megabytes": sum(sizes) / 1e6}


def main(arguments: Sequence[str] | None = None) -> str | None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="of which the median is shown")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="such as book/welcome")
    given = parser.parse_args(arguments)
    if not (HTML / "index.html").exists() or browser.find() is None:
        return "The site (`make book`) and a Chromium or Chrome are needed."
    handler = functools.partial(Quiet, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}/"
        with sync_playwright() as playwright:
            chromium = browser.launch(playwright)
            print(f"Chromium {chromium.version}, medians of {given.runs} runs, milliseconds")
            print(f"{'':32}" + "".join(f"{name:>11}" for name in COLUMNS))
            for name in given.pages or (FRONT, heaviest()):
                runs = [visit(chromium, f"{site}{name}.html") for _ in range(given.runs)]
                middle = {c: statistics.median(run[c] for run in runs) for c in COLUMNS}
                told = [f"{middle[c]:11.0f}" for c in COLUMNS[:-1]]
                print(f"{name:32}{''.join(told)}{middle['megabytes']:11.2f}")
            chromium.close()
        server.shutdown()
    return None


if __name__ == "__main__":
    sys.exit(main())
