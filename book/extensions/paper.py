"""The book on paper: what LaTeX needs and the site does not. Run by `tools/pdf.py`.

A figure keeps the caption that stands in its HTML, a box stays a box, and a solution, which the
site folds away, stands at the end of its chapter. A long table may break over pages.
"""

import re
from html import unescape

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_jupyterbook_latex.nodes import RootHeader

FILE = "what_gradients_remember"
DOTS_AN_INCH = 160  # of the pictures that leaklib draws
WIDEST = 6.3  # inches, the width of the text
STILL = r'<img[^>]* src="[./]*_static/([\w./-]+\.png)"'
MOST_ROWS = 8  # of a table that must not break

ELEMENTS = {
    "papersize": "a4paper",
    "pointsize": "11pt",
    "extraclassoptions": "openany,oneside",
    "fncychap": "",
    "fontpkg": "",  # leakbook.sty chooses the fonts
    "preamble": r"\usepackage{leakbook}",
    # the first page stands before all chapters, so it has no title of its own
    "tableofcontents": r"\sphinxtableofcontents\clearpage\chapter{Welcome}",
    "makeindex": "",
    "printindex": "",
}


def settings(app, config):
    config.latex_engine = "xelatex"
    config.latex_theme = "manual"
    config.latex_toplevel_sectioning = "part"
    config.latex_elements = ELEMENTS
    config.latex_additional_files = ["book/extensions/leakbook.sty"]
    book = (config.root_doc, f"{FILE}.tex", config.html_title, config.author, "manual")
    config.latex_documents = [book]


class OnPaper(SphinxPostTransform):
    builders = ("latex",)


class Pictures(OnPaper):
    """The still picture of a figure, and below it the caption out of its HTML."""

    default_priority = 3  # before MyST-NB takes the picture alone, at 4

    def run(self, **kwargs):
        for bundle in list(self.document.findall(is_bundle)):
            image, caption = next(bundle.findall(nodes.image), None), caption_in(bundle)
            if image and caption:
                bundle.replace_self(self.figure(image, caption))
        # what is left is a page's own HTML, a figure that reacts among it
        for raw in list(self.document.findall(nodes.raw)):
            still, caption = re.search(STILL, raw.astext()), caption_in(raw)
            if still and caption:
                path = f"book/assets/{still[1]}"
                self.env.images.add_file(self.env.config.root_doc, path)
                image = nodes.image(uri=path, candidates={"*": path})
                raw.replace_self(self.figure(image, caption))

    def figure(self, image, caption):
        image["width"] = f"{width(self.env.srcdir / image['uri']):.2f}in"
        shown = nodes.paragraph("", "", image), nodes.paragraph("", caption)
        return nodes.container("", *shown, classes=["leakpicture"])


def is_bundle(node):
    return isinstance(node, nodes.container) and node.get("nb_element") == "mime_bundle"


def caption_in(node):
    """The words of the first caption in the node's HTML."""
    html = "".join(raw.astext() for raw in node.findall(nodes.raw))
    found = re.search("(?s)<figcaption[^>]*>(.*?)</figcaption>", html)
    return unescape(re.sub("<[^>]+>", "", found[1])) if found else ""


def width(png):
    """Inches: the size at which the picture was drawn, where that fits."""
    pixels = int.from_bytes(png.read_bytes()[16:20], "big")
    return min(pixels / DOTS_AN_INCH, WIDEST)


class Solutions(OnPaper):
    """What the site folds away goes to the end of its chapter, named by its exercise."""

    default_priority = 400

    def run(self, **kwargs):
        for file in self.document.findall(addnodes.start_of_file):
            chapter = next((child for child in file if isinstance(child, nodes.section)), None)
            if chapter and not any(file.findall(is_inner_file(file))):
                solved = [
                    taken for fold in list(file.findall(is_fold)) for taken in take(fold, file)
                ]
                if solved:
                    title = nodes.title("", "Solutions")
                    name = f"{file['docname']}-solutions".replace("/", "-")
                    chapter += nodes.section("", title, *solved, ids=[name])


def is_inner_file(file):
    return lambda node: isinstance(node, addnodes.start_of_file) and node is not file


def is_fold(node):
    return isinstance(node, nodes.raw) and node.astext().lstrip().startswith("<details")


def take(fold, file):
    """Remove what is folded from where it stands; return it with the name of its exercise."""
    name = ""
    for node in file.findall():
        if node is fold:
            break
        if isinstance(node, nodes.strong) and node.astext().startswith("Exercise "):
            name = node.astext()
    siblings = fold.parent.children
    first = last = siblings.index(fold)
    while "</details>" not in siblings[last].astext():
        last += 1
    taken = siblings[first + 1 : last]
    where = nodes.paragraph(
        "", "", nodes.emphasis("", "Its solution is at the end of the chapter.")
    )
    fold.parent[first : last + 1] = [where]
    return [nodes.paragraph("", "", nodes.strong("", name)), *taken]


class Tables(OnPaper):
    """Columns as wide as what they hold asks for, ragged on the right."""

    default_priority = 500

    def run(self, **kwargs):
        for table in list(self.document.findall(nodes.table)):
            rows = list(table.findall(nodes.row))
            lengths = [[len(entry.astext()) for entry in row] for row in rows]
            if len(set(map(len, lengths))) == 1:  # no cell spans several columns
                spec = "".join(shares(lengths))
                where = table.parent.index(table)
                table.parent.insert(where, addnodes.tabular_col_spec(spec=spec))
            if len(rows) > MOST_ROWS:
                table["classes"].append("longtable")


def shares(lengths):
    """The column types: a long text is given more, but not in proportion."""
    # four more, so that a short word stays on its line
    weights = [4 + min(max(column), 60) for column in zip(*lengths)]
    return [
        rf">{{\raggedright\arraybackslash}}\Y{{{weight / sum(weights):.3f}}}" for weight in weights
    ]


class Boxes(OnPaper):
    """LaTeX gets an environment of a container's class, and none of a quote's."""

    default_priority = 510  # after book.extensions.boxes has named them

    def run(self, **kwargs):
        for quote in list(self.document.findall(nodes.block_quote)):
            if "box" in quote["classes"]:
                # the outer one chooses the colour
                kinds = [name for name in quote["classes"] if name != "box"]
                quote.replace_self(nodes.container("", *quote.children, classes=[*kinds, "box"]))


class Headings(OnPaper):
    """The first page has no sections in LaTeX: its headings are set by leakbook.sty."""

    default_priority = 710  # after sphinx_jupyterbook_latex has found them, at 700

    def run(self, **kwargs):
        for heading in list(self.document.findall(RootHeader)):
            words = nodes.paragraph("", "", *heading.children)
            heading.replace_self(nodes.container("", words, classes=["leakheading"]))


def setup(app):
    app.connect("config-inited", settings, priority=900)  # after sphinx_jupyterbook_latex
    for transform in (Pictures, Solutions, Tables, Boxes, Headings):
        app.add_post_transform(transform)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
