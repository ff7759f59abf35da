"""The file of a saved result: found, read, written whole."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import __version__
from ..._errors import bad
from ..._files import write

Result = dict[str, Any]
Columns = dict[str, list]

DIGITS = 4  # significant digits of a saved number


def folders(package: Path) -> tuple[Path, ...]:
    """Where the results of this leaklib lie, the first place to look first.

    package: the folder `leaklib`.  A checkout, known by the pyproject.toml beside the package, has
    them where they are made; the wheel has them inside the package.
    """
    root, of_the_wheel = package.parent, package / "_results"
    if not (root / "pyproject.toml").is_file():
        return (of_the_wheel,)
    return root / "experiments" / "results", root / "benchmarks" / "results", of_the_wheel


FOLDERS = folders(Path(__file__).resolve().parents[2])


def load(name: str) -> Result:
    """The saved result of that name, from the checkout or from the installed package.

    Raises ValueError, which lists the names there are, where there is no such result.
    """
    found = {file.stem: file for folder in reversed(FOLDERS) for file in folder.glob("*.json")}
    if name not in found:
        names = ", ".join(sorted(found)) or "there is none; make experiments"
        raise bad("name", repr(name), f"a saved result ({names})")
    return json.loads(found[name].read_text("utf-8"))


def save(path: Path, result: Result) -> None:
    """Write a result as JSON, whole or not at all, and make its folder where that is missing.

    Numbers keep four significant digits, and null stands for one that is not finite.  Each column
    is one line, so that git shows which of them changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, f"{_text(result)}\n".encode())


def as_saved(value: Any) -> Any:
    """What `save` would write of a value, read back: tuples become lists, numbers are rounded."""
    return json.loads(_text(value))


def provenance(command: str, seed: int, **data: object) -> Result:
    """How a result is made: command, day (UTC), seed, versions, machine, and facts of the `data`.

    Raises ValueError where the command holds an absolute path, which only this machine has.
    """
    if any(Path(word).is_absolute() for word in command.split()):
        raise bad("command", repr(command), "one that works in any checkout, with no absolute path")
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "leaklib": __version__,
        },
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "data": data,
    }


def fingerprint(images: Tensor, labels: Tensor) -> str:
    """SHA-256 of images, to the nearest of 256 levels, and their labels: is it the same data?

    An enlarged picture differs in its last digits from one processor to the next; rounding hides
    that.
    """
    levels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    total = hashlib.sha256(str(tuple(images.shape)).encode())
    total.update(levels.cpu().numpy().tobytes())
    total.update(labels.cpu().to(torch.int64).numpy().tobytes())
    return total.hexdigest()


def _text(value: object, margin: str = "") -> str:
    """JSON with one line for each entry of a dict, and lists on one line."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(_short(value), ensure_ascii=False, allow_nan=False)
    inner = margin + " "
    entries = (f"{inner}{json.dumps(str(k))}: {_text(v, inner)}" for k, v in value.items())
    return "{\n" + ",\n".join(entries) + f"\n{margin}}}"


def _short(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_short(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
