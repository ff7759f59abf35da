"""Seconds and modules that `import leaklib` adds to `import torch`, beside those of an old commit.

    python benchmarks/imports.py [--runs 9] [OLD]

Every run is a fresh interpreter, and the two packages take turns; the first run of each, which may
have to compile, does not count.  OLD is any name that git has for a commit.  Medians over the runs.
Given OLD it writes benchmarks/results/imports.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from leaklib.book import results

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "imports.json"
PACKAGE = "leaklib"

# Prints {package: [seconds, modules]} of both imports.
TIMED = f"""
import json, sys, time
found = {{}}
for name in ("torch", "{PACKAGE}"):
    before, start = len(sys.modules), time.perf_counter()
    module = __import__(name)
    found[name] = [time.perf_counter() - start, len(sys.modules) - before]
assert module.__file__.startswith(sys.argv[1]), module.__file__
print(json.dumps(found))
"""


def checkout(commit: str, folder: str) -> Path:
    """The package as it was at a commit."""
    command = ["git", "archive", "--format=tar", commit, PACKAGE]
    packed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")
    return Path(folder)


def timed(folder: Path) -> dict[str, list[float]]:
    """{package: [seconds, modules]} of `import torch`, then `import leaklib` out of the folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or each run would compile
    command = [sys.executable, "-c", TIMED, str(folder)]
    run = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return json.loads(run.stdout)


def middle(runs: Sequence[dict[str, list[float]]]) -> dict[str, float]:
    """The medians of several runs: seconds of torch and of leaklib beyond it, and its modules."""
    return {
        "torch_seconds": statistics.median(run["torch"][0] for run in runs),
        "seconds": statistics.median(run[PACKAGE][0] for run in runs),
        "modules": statistics.median(run[PACKAGE][1] for run in runs),
    }


def compare(folders: dict[str, Path], runs: int) -> dict[str, dict[str, float]]:
    """The medians of each folder's package, which take turns."""
    found = [{name: timed(folder) for name, folder in folders.items()} for _ in range(runs + 1)]
    return {name: middle([run[name] for run in found[1:]]) for name in folders}


def main(arguments: Sequence[str] | None = None, path: Path = RESULT) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="of which the median counts")
    parser.add_argument("old", nargs="?", metavar="OLD", help="a commit to compare with")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        folders = {"new": ROOT}
        if given.old:
            folders["old"] = checkout(given.old, folder)
        found = compare(folders, given.runs)
    for name, run in found.items():
        print(
            f"{name}: import torch {run['torch_seconds']:.2f} s, import {PACKAGE} adds "
            f"{run['seconds']:.2f} s and {run['modules']:.0f} modules"
        )
    if given.old:
        ratio = {of: found["old"][of] / found["new"][of] for of in ("seconds", "modules")}
        print(f"old / new: {ratio['seconds']:.1f} in seconds, {ratio['modules']:.1f} in modules")
        made = results.provenance(f"python benchmarks/imports.py {given.old}", seed=0)
        results.save(path, {"provenance": made, "settings": vars(given), **found, "ratio": ratio})
        print(f"Saved as {path.relative_to(path.parent.parent.parent)}.")


if __name__ == "__main__":
    main()
