"""The whole book as a PDF, where TeX is installed."""

import pytest

import notebooks
import pdf

pytestmark = pytest.mark.nightly


def test_the_book_becomes_a_pdf_with_every_picture_and_every_letter():
    """`pdf.main` itself fails on an error of TeX and on a letter that the fonts lack."""
    if pdf.missing():
        pytest.skip(f"TeX is not installed. {pdf.ADVICE}")
    assert pdf.main() == 0
    build, copy = notebooks.ROOT / "_build", notebooks.ROOT / ".book"
    assert (build / f"{pdf.NAME}.pdf").read_bytes().startswith(b"%PDF")
    outputs = [
        output
        for path in notebooks.paths(copy)
        for cell in notebooks.read(path)["cells"]
        for output in cell.get("outputs", [])
    ]
    drawn = sum("image/png" in output.get("data", {}) for output in outputs)
    tex = (build / "latex" / f"{pdf.NAME}.tex").read_text("utf-8")
    assert tex.count(r"\begin{sphinxuseclass}{leakpicture}") == drawn > 0
