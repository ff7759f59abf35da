"""Write the setup cell into every notebook: ``python tools/setup_cell.py``.

The cell is the first code cell of each chapter and the same in all of them. It is made from
``repository`` in ``_config.yml``. ``--check`` changes nothing and fails, naming the notebooks
whose cell differs.
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

import leaklib

leaklib.setup()"""


def repository(config):
    """(url, branch) out of the text of ``_config.yml``."""
    block = re.search(r"(?m)^repository:\n((?:[ #].*\n)+)", config).group(1)
    return tuple(re.search(rf"(?m)^  {key}: *(\S+)", block).group(1) for key in ("url", "branch"))


def setup_cell(config, extra="privacy", missing='importlib.util.find_spec("leaklib") is None'):
    """The cell that installs leaklib with an extra, where the expression `missing` is true."""
    url, branch = repository(config)
    source = CELL.format(url=url, branch=branch, extra=extra, missing=missing)
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
    return cell.get("id") == "setup" or (
        cell["cell_type"] == "code" and "leaklib.setup()" in "".join(cell["source"])
    )


def main(check, root=notebooks.ROOT):
    cell = setup_cell((root / "_config.yml").read_text("utf-8"))
    return notebooks.apply(
        lambda notebook: with_setup_cell(notebook, cell),
        check,
        "its setup cell differs from _config.yml (make tidy)",
        root,
    )


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
