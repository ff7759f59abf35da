"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write(path: str | Path, content: bytes) -> Path:
    """Write a file aside, to `path` with the suffix .part, then rename it; returns its path.

    Nobody ever reads half a file, and what stood there before stays until the new one is whole.
    Raises OSError where it cannot be written, and leaves nothing aside.
    """
    path = Path(path)
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path
