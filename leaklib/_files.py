"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write(path: str | Path, content: bytes) -> Path:
    """Write PATH.part, then rename it to PATH: nobody ever reads half a file."""
    aside = Path(f"{Path(path)}.part")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return Path(path)
