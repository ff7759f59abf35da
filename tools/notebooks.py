"""The chapters' notebooks as plain JSON. ``python tools/notebooks.py`` removes their outputs.

``--check`` changes nothing and fails, naming the notebooks that hold outputs.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def paths(root=ROOT):
    """The notebooks in reading order."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def read(path):
    return json.loads(path.read_text("utf-8"))


def text(notebook):
    """A notebook as Jupyter writes it, so that a change is a small difference in git."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def without_outputs(notebook):
    """The notebook with no outputs, no counters and no times of execution."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            cell["metadata"].pop("execution", None)
    return notebook


def apply(change, check, wrong, root=ROOT):
    """Write ``change(notebook)`` for every notebook; with ``check`` only name those it changes."""
    different = []
    for path in paths(root):
        new = change(read(path))
        if new != read(path):
            different.append(path.relative_to(root))
            if not check:
                path.write_text(text(new), "utf-8")
    for path in different:
        print(f"{path}: {wrong}" if check else f"{path}: written")
    return bool(check and different)


if __name__ == "__main__":
    failed = apply(without_outputs, "--check" in sys.argv[1:], "holds outputs (make tidy)")
    sys.exit(failed)
