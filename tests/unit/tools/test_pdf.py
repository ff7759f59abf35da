"""The book on paper: what LaTeX is given, and what is said when it cannot be typeset."""

import base64
import io
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import notebooks
import pdf

CONF = """\
project = html_title = "A book"
author = "Somebody"
extensions = ["myst_nb", "book.extensions.boxes", "book.extensions.paper"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
"""
EXERCISE = "> **Exercise 1.1.** Write `double(x)`."
SOLUTION = "<details><summary>Solution</summary>\n\nTwice $x$ is easy.\n\n</details>"
FIGURE = """\
```{raw} html
<figure><img alt="" src="../_static/still.png"><figcaption>It <b>reacts</b>.</figcaption></figure>
```"""
TABLE = "| letter | meaning |\n|---|---|\n" + "| a | the first of all the letters |\n" * 9


def picture():
    """An output as leaklib.book.plots makes it: 320 pixels wide."""
    file = io.BytesIO()
    Image.new("RGB", (320, 80)).save(file, "png")
    caption = "<figure><img><figcaption>A cat &amp; a dog.</figcaption></figure>"
    png = base64.b64encode(file.getvalue()).decode()
    data = {"text/html": caption, "image/png": png, "text/plain": "two animals"}
    return new_output("execute_result", data)


@pytest.fixture(scope="module")
def latex(tmp_path_factory):
    """The LaTeX of a book with one chapter."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "book" / "assets").mkdir(parents=True)
    shutil.copytree(notebooks.ROOT / "book" / "extensions", folder / "book" / "extensions")
    (folder / "conf.py").write_text(CONF)
    Image.new("RGB", (160, 80)).save(folder / "book" / "assets" / "still.png")
    (folder / "index.md").write_text(f"# A book\n\n{FIGURE}\n\n```{{toctree}}\nchapter\n```\n")
    cells = [
        new_markdown_cell("# A chapter"),
        new_markdown_cell(EXERCISE),
        new_code_cell("def double(x):\n    ..."),
        new_markdown_cell(SOLUTION),
        new_markdown_cell("## Pictures"),
        new_code_cell("show()", outputs=[picture()]),
        new_markdown_cell(TABLE + "\nThe last sentence."),
    ]
    language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(new_notebook(cells=cells, metadata=language), folder / "chapter.ipynb")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "latex", ".", "out"]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def tex(latex):
    return (latex / f"{pdf.NAME}.tex").read_text("utf-8")


def figures(tex):
    """What stands inside of each figure."""
    return re.findall(r"(?s)\\begin\{sphinxuseclass\}\{leakpicture\}(.*?)\\end\{sphinx", tex)


def test_a_picture_keeps_its_size_and_its_caption(tex):
    _, shown = figures(tex)
    assert "width=2.00in" in shown
    assert r"A cat \& a dog." in shown and "two animals" not in tex


def test_a_figure_in_a_page_of_its_own_html_leaves_its_still(tex, latex):
    shown, _ = figures(tex)
    assert "width=1.00in" in shown and "{{still}.png}" in shown and "It reacts." in shown
    assert (latex / "still.png").exists()


def test_a_box_is_an_environment_inside_that_of_its_kind(tex):
    kind, box = r"\begin{sphinxuseclass}{box-exercise}", r"\begin{sphinxuseclass}{box}"
    assert re.search(re.escape(kind) + r"\s*" + re.escape(box) + r"[^{]*\\sphinxstylestrong", tex)


def test_a_solution_stands_at_the_end_of_its_chapter_under_its_exercise(tex):
    order = [
        "Write",
        "Its solution is at the end of the chapter.",
        "The last sentence.",
        r"{Solutions}",
        r"\sphinxstylestrong{Exercise 1.1.}",
        r"is easy.",
    ]
    assert [tex.count(words) for words in order[1:4] + order[5:]] == [1, 1, 1, 1]
    places = [tex.rindex(words) for words in order]
    assert places == sorted(places)


def test_a_long_table_may_break_and_its_columns_are_ragged(tex):
    assert re.search(r"\\begin\{longtable\}\{>\{\\raggedright\\arraybackslash\}\\Y\{0\.", tex)


def test_the_style_goes_along(latex, tex):
    assert r"\usepackage{leakbook}" in tex
    assert (latex / "leakbook.sty").exists()


@pytest.fixture
def no_program(monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)


def test_without_tex_the_message_names_the_packages_and_nothing_is_made(no_program, tmp_path):
    message = pdf.main(tmp_path)
    assert "xelatex and latexmk" in message and "apt install texlive-xetex" in message
    assert list(tmp_path.iterdir()) == []


LOG = """\
This is XeTeX
Missing character: There is no ∇ (U+2207) in font FreeSerif
Overfull \\hbox (3.0pt too wide) in paragraph
Missing character: There is no ∇ (U+2207) in font FreeSerif
! LaTeX Error: File `tcolorbox.sty' not found.
l.7 \\RequirePackage
"""


def test_errors_and_missing_letters_are_found_in_the_log_once_each():
    assert pdf.complaints(LOG) == [
        "Missing character: There is no ∇ (U+2207) in font FreeSerif",
        "! LaTeX Error: File `tcolorbox.sty' not found.",
    ]
    assert pdf.complaints("Overfull \\hbox (3.0pt too wide)\nOutput written") == []


@pytest.fixture
def executed(monkeypatch, tmp_path):
    """All before xelatex went well."""
    monkeypatch.setattr(pdf, "missing", lambda: [])
    monkeypatch.setattr(pdf.book, "main", lambda root: 0)
    monkeypatch.setattr(pdf, "write_latex", lambda root, copy: True)
    folder = tmp_path / "_build" / "latex"
    folder.mkdir(parents=True)
    (folder / f"{pdf.NAME}.pdf").write_bytes(b"%PDF")
    return tmp_path


def test_what_tex_complains_of_is_said_and_no_pdf_is_made(executed, monkeypatch):
    monkeypatch.setattr(pdf, "typeset", lambda folder: pdf.complaints(LOG))
    message = pdf.main(executed)
    assert "∇" in message and "tcolorbox.sty" in message and "apt install" in message
    assert not (executed / "_build" / f"{pdf.NAME}.pdf").exists()


def test_a_notebook_that_fails_makes_no_pdf(executed, monkeypatch):
    monkeypatch.setattr(pdf.book, "main", lambda root: "A notebook failed.")
    assert pdf.main(executed) == "A notebook failed. So the PDF was not made."
    assert not (executed / "_build" / f"{pdf.NAME}.pdf").exists()


def test_a_pdf_without_complaints_is_put_in_its_place(executed, monkeypatch):
    monkeypatch.setattr(pdf, "typeset", lambda folder: [])
    assert pdf.main(executed) == 0
    assert (executed / "_build" / f"{pdf.NAME}.pdf").read_bytes() == b"%PDF"
