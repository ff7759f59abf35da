"""What the first cell of every notebook calls."""

from __future__ import annotations

import platform
import re

import matplotlib
import torch

from .. import __version__
from .._errors import bad
from .plots import STYLE


def setup(version: str | None = None) -> None:
    """Set the book's plot style, and print one line: versions, and the device PyTorch can use.

    version: the leaklib that the page was made with, such as "0.2.0".  A later patch will do, and
    from 1.0 on a later minor version too.  Calling it twice is harmless.
    Raises RuntimeError, which says what to do, where the installed leaklib does not fit the page,
    and ValueError for a version that is not MAJOR.MINOR.PATCH.
    """
    if version is not None and not _fits(_numbers(__version__), _numbers(version)):
        raise RuntimeError(_advice(version))
    matplotlib.rcParams.update(STYLE)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(
        f"leaklib {__version__} · Python {platform.python_version()} · "
        f"PyTorch {torch.__version__} · {device}"
    )


def _numbers(version: str) -> tuple[int, int, int]:
    """ "0.2.0" as (0, 2, 0), without what may follow the patch."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        raise bad("version", repr(version), "one such as '0.2.0'")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def _fits(installed: tuple[int, int, int], wanted: tuple[int, int, int]) -> bool:
    """Whether a page made with the wanted version runs with the installed one."""
    same = 1 if wanted[0] else 2  # before 1.0 a minor version may change anything
    return installed[:same] == wanted[:same] and installed >= wanted


def _advice(version: str) -> str:
    if _numbers(__version__) < _numbers(version):
        # the first cell has named the source
        what = 'Run  %pip install --upgrade "leaklib @ {source}"  in a new cell, restart the kernel'
    else:
        what = "Open the page again from the book, which has it for the newer leaklib"
    return (
        f"This page was made with leaklib {version}, but leaklib {__version__} is installed. "
        f"{what}, and run the page from the top."
    )
