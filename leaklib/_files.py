"""Writing a file so that there is never half of one."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write the content beside the path, as PATH.part, and then rename it to the path.

    A write that fails leaves the old file as it was, and no other beside it.  Raises OSError.
    """
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
