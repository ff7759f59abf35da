"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a file aside, then rename it, so that no half of it is ever at `path`."""
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(content)
    os.replace(aside, path)
