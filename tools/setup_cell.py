"""Write the setup cell into every notebook: ``python tools/setup_cell.py``.

The cell is the first code cell of each chapter and the same in all of them. It is made from
``repository`` in ``_config.yml`` and ``__version__`` in ``leaklib/__init__.py``. ``--check``
changes nothing and fails, naming the notebooks whose cell differs.
"""

import re
import sys

import notebooks

CELL = """\
# Installs leaklib where it is missing, as in Colab. Running this twice is harmless.
import importlib.util
import os

source = "git+{url}@{branch}"
if {missing}:
    spec = os.environ.get("LEAKLIB_SPEC", f"leaklib[{extra}] @ {{source}}")
    get_ipython().run_line_magic("pip", f'install -q "{{spec}}"')

import leaklib.book

leaklib.book.setup("{version}")"""


def repository(config):
    """(url, branch) out of the text of ``_config.yml``."""
    block = re.search(r"(?m)^repository:\n((?:[ #].*\n)+)", config).group(1)
    return tuple(re.search(rf"(?m)^  {key}: *(\S+)", block).group(1) for key in ("url", "branch"))


def version(package):
    """The version out of the text of ``leaklib/__init__.py``."""
    return re.search(r'(?m)^__version__ = "(.+)"$', package).group(1)


def setup_cell(
    root=notebooks.ROOT,
    extra="privacy",
    missing='importlib.util.find_spec("leaklib") is None',
):
    """The cell that installs leaklib with an extra, where the expression `missing` is true."""
    url, branch = repository((root / "_config.yml").read_text("utf-8"))
    made_with = version((root / "leaklib" / "__init__.py").read_text("utf-8"))
    source = CELL.format(url=url, branch=branch, extra=extra, missing=missing, version=made_with)
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": "setup",
        "metadata": {"tags": ["hide-input"]},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def with_setup_cell(notebook, cell):
    """The notebook with ``cell`` right after its title, and no other setup cell."""
    cells = [old for old in notebook["cells"] if not is_setup(old)]
    return {**notebook, "cells": [*cells[:1], cell, *cells[1:]]}


def is_setup(cell):
    called = re.search(r"(?m)^leaklib\.(book\.)?setup\(", "".join(cell["source"]))
    return cell.get("id") == "setup" or (cell["cell_type"] == "code" and called is not None)


def main(check, root=notebooks.ROOT):
    cell = setup_cell(root)
    return notebooks.apply(
        lambda notebook: with_setup_cell(notebook, cell),
        check,
        "its setup cell differs from what it is made from (make tidy)",
        root,
    )


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
