"""Light pages: a page loads what it shows, and the rest when it is asked for.

A notebook's pictures stand inside the page, and one that reacts brings all its frames. On the site
each becomes a file of its own: loaded when it is shown, once for all pages that show it, and a
quarter smaller, for base64 makes four bytes out of three. MathJax, more than a megabyte, goes to
the pages that have a formula.
"""

import base64
import hashlib
import re
from pathlib import Path

PICTURE = re.compile(r"data:image/(png|webp);base64,([A-Za-z0-9+/]+=*)")


def store(picture, kind, folder):
    """Write a picture under a name made from what it shows; return the name."""
    name = f"{hashlib.sha256(picture).hexdigest()[:16]}.{kind}"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture)
    return name


def with_files(body, folder, address):
    """The HTML with every picture in it stored in the folder, which the page knows by address."""

    def stored(match):
        return f"{address}/{store(base64.b64decode(match[2]), match[1], folder)}"

    return PICTURE.sub(stored, body)


def sets_math(script):
    """The script is MathJax, or its settings."""
    return "mathjax" in f"{script.filename} {script.attributes.get('body', '')}".lower()


def lighten(app, pagename, templatename, context, doctree):
    if app.builder.format != "html" or "body" not in context:
        return
    address = "../" * pagename.count("/") + app.builder.imagedir
    folder = Path(app.outdir) / app.builder.imagedir
    context["body"] = with_files(context["body"], folder, address)
    if 'class="math' not in context["body"]:
        context["script_files"] = [f for f in context["script_files"] if not sets_math(f)]


def setup(app):
    app.connect("html-page-context", lighten, priority=900)  # after MathJax has been added
    return {"parallel_read_safe": True, "parallel_write_safe": True}
