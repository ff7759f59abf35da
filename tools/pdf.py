"""Make the book as a PDF by xelatex: ``_build/what_gradients_remember.pdf``.

It is made after the site, from the same executed notebooks in ``.book``, below ``_build/latex``.
What differs from the site stands in ``book/extensions/paper.py`` and, beside it, ``leakbook.sty``.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import book

NAME = "what_gradients_remember"
NEEDED = ("xelatex", "latexmk")
PACKAGES = (
    "texlive-xetex texlive-latex-extra texlive-fonts-recommended latexmk fonts-lmodern "
    "fonts-freefont-otf fonts-dejavu"
)
ADVICE = f"On Debian or Ubuntu: apt install {PACKAGES}"


def missing():
    return [program for program in NEEDED if not shutil.which(program)]


def write_latex(root, copy):
    """Write ``_build/latex/NAME.tex`` with its pictures; True when that went without a warning."""
    shutil.rmtree(root / "_build" / "latex", ignore_errors=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(copy)]
    command += ["--path-output", str(root), "--builder", "latex", "-W", "-n", "--keep-going", "-q"]
    return subprocess.run(command, cwd=root).returncode == 0


def typeset(folder):
    """Run xelatex as often as the references need; return all that the log complains of."""
    command = [
        "latexmk",
        "-norc",
        "-xelatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-quiet",
    ]
    # else TeX breaks the lines of its log anywhere
    unbroken = {**os.environ, "max_print_line": "1000"}
    done = subprocess.run(
        [*command, f"{NAME}.tex"], cwd=folder, env=unbroken, capture_output=True, text=True
    )
    log = folder / f"{NAME}.log"
    found = complaints(log.read_text("utf-8", "replace")) if log.exists() else []
    if done.returncode and not found:
        found = [done.stdout[-2000:] + done.stderr[-2000:]]
    return found


def complaints(log):
    """Errors, and letters that the font lacks: TeX leaves those out of the page without a word."""
    return list(dict.fromkeys(re.findall(r"(?m)^(?:! .*|Missing character: .*)$", log)))


def main(root=book.ROOT):
    if lacking := missing():
        return f"A PDF needs {' and '.join(lacking)}, which TeX Live has. {ADVICE}"
    if failed := book.main(root):
        return f"{failed} So the PDF was not made."
    if not write_latex(root, root / ".book"):
        return "The PDF was not made: see the warnings above."
    print("xelatex: half a minute or more ...", flush=True)
    folder = root / "_build" / "latex"
    if found := typeset(folder):
        advice = (
            [ADVICE] if any("not found" in line or "cannot be" in line for line in found) else []
        )
        return "\n".join(["The PDF was not made.", *found[:20], *advice])
    result = root / "_build" / f"{NAME}.pdf"
    (folder / f"{NAME}.pdf").replace(result)
    print(f"\nThe PDF is at {result}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
