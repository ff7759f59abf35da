"""Pages of the site: their pictures are files, and MathJax goes where a formula is."""

import base64
import importlib.util
from types import SimpleNamespace

import pytest

import notebooks

path = notebooks.ROOT / "book" / "extensions" / "lean.py"
spec = importlib.util.spec_from_file_location("book_extension_lean", path)
lean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lean)

DOT = base64.b64encode(b"one picture").decode()
OTHER = base64.b64encode(b"another one").decode()


def page(*pictures):
    shown = "".join(f'<img src="data:image/webp;base64,{each}">' for each in pictures)
    return f'{shown}<script>{{"src": "data:image/png;base64,{DOT}"}}</script>'


def test_pictures_become_files_wherever_their_address_stands(tmp_path):
    body = lean.with_files(page(DOT, OTHER), tmp_path, "../_images")
    assert "data:" not in body and body.count("../_images/") == 3
    stored = {path.suffix: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert stored == {".png": b"one picture"}
    assert {p.read_bytes() for p in tmp_path.glob("*.webp")} == {b"one picture", b"another one"}
    assert all(f"../_images/{path.name}" in body for path in tmp_path.iterdir())


def test_the_same_picture_is_one_file(tmp_path):
    lean.with_files(page(OTHER, OTHER), tmp_path, "_images")
    assert len(list(tmp_path.glob("*.webp"))) == 1


@pytest.mark.parametrize("body, left", [("<p>words</p>", ["a.js"]), ('<span class="math">', None)])
def test_mathjax_goes_where_a_formula_is(body, left, tmp_path):
    scripts = [
        SimpleNamespace(filename="a.js", attributes={}),
        SimpleNamespace(filename="", attributes={"body": "window.MathJax = {}"}),
        SimpleNamespace(filename="mathjax/es5/tex.js", attributes={}),
    ]
    context = {"body": body, "script_files": list(scripts)}
    app = SimpleNamespace(
        outdir=tmp_path, builder=SimpleNamespace(format="html", imagedir="_images")
    )
    lean.lighten(app, "book/a", "page.html", context, None)
    names = [script.filename for script in context["script_files"]]
    assert names == (left or [script.filename for script in scripts])
