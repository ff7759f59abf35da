"""The line below each title: how long the page takes and, of a notebook, where to run it.

A notebook says its minutes itself (``**Time:** 30 minutes``), for most of them are not reading.
Of other pages the words are counted.
"""

import re
from html import escape
from pathlib import Path

WORDS_A_MINUTE = 220
LISTS = ("book/api", "book/build")  # to look things up in, not to read


def minutes(source, text):
    """The minutes that the source states, else those that the text takes to read."""
    stated = re.search(r"\*\*Time:\*\* (\d+) minutes", source)
    return int(stated.group(1)) if stated else max(1, round(len(text.split()) / WORDS_A_MINUTE))


def colab(options, docname):
    """Where Colab finds the notebook: the same address as the theme's own button."""
    repository = options["repository_url"].removeprefix("https://github.com/")
    address = options["launch_buttons"]["colab_url"]
    return f"{address}/github/{repository}/blob/{options['repository_branch']}/{docname}.ipynb"


def line(app, docname):
    source = Path(app.env.doc2path(docname))
    time = minutes(source.read_text("utf-8"), app.env.get_doctree(docname).astext())
    parts = [f"<span>{time} minute{'s' if time > 1 else ''}</span>"]
    if source.suffix == ".ipynb":
        here = "../" * docname.count("/") + f"_sources/{docname}.ipynb"
        there = escape(colab(app.config.html_theme_options, docname))
        parts += [
            f'<a class="chapter-colab" href="{there}">Open in Colab</a>',
            f'<a class="chapter-download" href="{here}" download>Download the notebook</a>',
        ]
    return f'<div class="chapter-line">{"".join(parts)}</div>'


def add_line(app, pagename, templatename, context, doctree):
    if doctree is not None and pagename not in (app.config.root_doc, *LISTS):
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{line(app, pagename)}", 1)


def setup(app):
    app.connect("html-page-context", add_line)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
