"""What a search engine or a shared link says of a page: the first prose on it.

Code, formulas, captions and boxes are passed over. A page that knows better says so itself, in the
front matter of MyST: ``html_meta`` with a ``description``.
"""

import re
from html import escape

from docutils import nodes

SHORTEST, LONGEST = 50, 300


def description(doctree):
    """Whole sentences from the page's first prose, between SHORTEST and LONGEST characters."""
    own = next((m for m in doctree.findall(nodes.meta) if m.get("name") == "description"), None)
    if own is not None:
        return own["content"]
    said = ""
    for paragraph in doctree.findall(is_prose):
        text = " ".join(paragraph.astext().split())
        for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z“\"])", text):
            if said and len(said) + 1 + len(sentence) > LONGEST:
                return said
            said = f"{said} {sentence}".strip()
        if len(said) >= SHORTEST:
            break
    return said if len(said) <= LONGEST else said[: LONGEST - 1].rpartition(" ")[0] + "…"


def is_prose(node):
    """A paragraph of the running text, with no formula in it but a letter."""
    return (
        isinstance(node, nodes.paragraph)
        and isinstance(node.parent, nodes.section)
        and any(isinstance(child, nodes.Text) and child.strip() for child in node.children)
        and all(formula.astext().isalpha() for formula in node.findall(nodes.math))
    )


def add_description(app, pagename, templatename, context, doctree):
    text = description(doctree) if doctree else ""
    if not text:
        return
    # Open Graph's own extension takes any text that it finds, also that of widgets and code
    context["meta"] = {**(context.get("meta") or {}), "og:description": escape(text, quote=False)}
    if 'name="description"' not in context["metatags"]:
        context["metatags"] += f'<meta name="description" content="{escape(text)}" />\n'


def setup(app):
    app.connect("html-page-context", add_description, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
