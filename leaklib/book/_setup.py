"""What the first cell of every notebook calls."""

import platform

import matplotlib
import torch


def setup() -> None:
    """Set the book's plot style, and print one line: versions, and the device PyTorch can use.

    Calling it twice is harmless.
    """
    from .. import __version__
    from .plots import STYLE

    matplotlib.rcParams.update(STYLE)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(
        f"leaklib {__version__} · Python {platform.python_version()} · "
        f"PyTorch {torch.__version__} · {device}"
    )
