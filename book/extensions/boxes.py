"""Boxes: a quote that begins with a bold word gets that word as its class.

``> **Exercise 4.2.** Show that ...`` becomes ``<blockquote class="box box-exercise">``. The
source stays plain Markdown, so it reads as a quote in Colab and on GitHub.
"""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class Boxes(SphinxPostTransform):
    default_priority = 500

    def run(self):
        for quote in self.document.findall(nodes.block_quote):
            word = first_bold_word(quote)
            if word:
                quote["classes"] += ["box", f"box-{word}"]


def first_bold_word(quote):
    """The first word of a quote in lower case, if it is bold, else None."""
    if not quote.children or not isinstance(quote[0], nodes.paragraph):
        return None
    first = next((node for node in quote[0].children if node.astext()), None)
    word = re.match("[A-Za-z]+", first.astext()) if isinstance(first, nodes.strong) else None
    return word.group().lower() if word else None


def setup(app):
    app.add_post_transform(Boxes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
