"""Build the book: execute every notebook that changed, then make the site in ``_build/html``.

Both work on a copy in ``.book``; the notebooks in the source tree are never modified. (The copy
is not below ``_build``, for nbmake leaves out every notebook that is.) A notebook is executed
again when its text, leaklib, a saved result or requirements.txt changed since it last passed. The
site is made again when anything on it changed.

``.book/executed.json`` holds what each notebook depended on when it passed, how long it took, and
where. The page ``book/build.md`` tells the reader.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CELL_SECONDS = 600
PACKAGES = """torch torchvision numpy scipy matplotlib scikit-image jupyter-book sphinx leaklib"""
NOT_BUILT = "*The tables are written by `make book`. What you read was built without it.*\n"


def digest(root, paths):
    """One hash for the names and contents of files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def files(folder):
    """The files below a folder that somebody wrote."""
    return [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def copy_pages(root, copy):
    """Copy the settings and the prose; notebooks that are gone leave the copy."""
    copy.mkdir(exist_ok=True)
    (copy / "notebooks").mkdir(exist_ok=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, copy / name)
    shutil.rmtree(copy / "book", ignore_errors=True)
    shutil.copytree(root / "book", copy / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for old in (copy / "notebooks").glob("*.ipynb"):
        if not (root / "notebooks" / old.name).exists():
            old.unlink()


def notebook_hashes(root):
    """For every notebook the hash of all that its outputs depend on."""
    saved = [*root.glob("experiments/results/*.json"), *root.glob("benchmarks/results/*.json")]
    shared = [*files(root / "leaklib"), *saved, root / "requirements.txt"]
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    return {path.name: digest(root, [path, *shared]) for path in notebooks}


def read_record(path):
    """What is known of earlier executions; nothing, where the file is not one of ours."""
    record = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return record if "notebooks" in record else {"notebooks": {}, "where": {}}


def passed(report):
    """{name: seconds} of the notebooks that passed, from pytest's XML report."""
    cases = ET.parse(report).iter("testcase") if report.exists() else []
    return {
        Path(case.get("name")).name: round(float(case.get("time")), 1)
        for case in cases
        if len(case.findall("*")) == 0
    }


def run_notebooks(root, copy, names):
    """Execute the copies of these notebooks, each as a test; {name: seconds} of what passed."""
    for name in names:
        shutil.copy(root / "notebooks" / name, copy / "notebooks" / name)
    report = copy / "report.xml"
    report.unlink(missing_ok=True)
    workers = min(2, len(names))
    threads = {"OMP_NUM_THREADS": "1"} if workers > 1 else {}
    command = [sys.executable, "-m", "pytest", "-v", "--durations=0", "--nbmake", "--overwrite"]
    command += [f"--nbmake-timeout={CELL_SECONDS}", f"--junit-xml={report}"]
    command += ["-n", str(workers if workers > 1 else 0)]
    command += [str(copy / "notebooks" / name) for name in names]
    subprocess.run(command, cwd=root, env={**os.environ, "LEAKBOOK_BUILD": "1", **threads})
    return passed(report)


def execute(root, copy):
    """Execute what changed; the record of all notebooks, or None when one of them failed."""
    record_path = copy / "executed.json"
    wanted = notebook_hashes(root)
    record = read_record(record_path)
    done = {k: v for k, v in record["notebooks"].items() if v["hash"] == wanted.get(k)}
    todo = [n for n in wanted if n not in done or not (copy / "notebooks" / n).exists()]
    print(f"notebooks: {len(wanted) - len(todo)} up to date, {len(todo)} to execute", flush=True)
    if todo:
        for name, seconds in run_notebooks(root, copy, todo).items():
            done[name] = {"hash": wanted[name], "seconds": seconds}
        record["where"] = where()
    record["notebooks"] = dict(sorted(done.items()))
    record_path.write_text(json.dumps(record, indent=1), "utf-8")
    return record if done.keys() == wanted.keys() else None


def where():
    """The day (UTC), the machine and the versions of an execution."""
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in PACKAGES.split()},
        },
    }


def processor(told=Path("/proc/cpuinfo")):
    """The processor's name where Linux tells it, else its kind."""
    named = re.search(r"(?m)^model name\s*: *(.+)$", told.read_text()) if told.exists() else None
    return named.group(1).strip() if named else platform.processor() or platform.machine()


def write_build_page(copy, record):
    """Fill the tables of ``book/build.md``; what is written depends on the record alone."""
    page = copy / "book" / "build.md"
    page.write_text(page.read_text("utf-8").replace(NOT_BUILT, tables(record)), "utf-8")


def tables(record):
    seconds = {name: notebook["seconds"] for name, notebook in record["notebooks"].items()}
    took = [f"| [](../notebooks/{name}) | {s:,.1f} |" for name, s in seconds.items()]
    took.append(f"| **All {len(took)}** | **{sum(seconds.values()):,.1f}** |")
    place = record["where"]
    versions = [f"| {name} | {number} |" for name, number in place["versions"].items()]
    return "\n".join([
        "| Notebook | Seconds |", "|---|---:|", *took, "",
        f"The last execution was on {place['day']} (UTC), on a machine with {place['cores']} cores "
        f"({place['processor']}) and these versions:", "",
        "| Package | Version |", "|---|---|", *versions, "",
    ])  # fmt: skip


def build_site(root, copy):
    """Make the whole site anew, so that no old page stays; True when it was made."""
    stamp, html = root / "_build" / "site.sha256", root / "_build" / "html"
    pages = [*files(copy / "book"), *files(copy / "notebooks"), *copy.glob("_*.yml")]
    # the page on the package is made from leaklib's docstrings
    now = digest(root, [*pages, *files(root / "leaklib"), root / "requirements.txt"])
    if stamp.exists() and stamp.read_text() == now and (html / "index.html").exists():
        print("site: up to date")
        return True
    shutil.rmtree(root / "_build" / "html", ignore_errors=True)
    shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
    stamp.unlink(missing_ok=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(copy)]
    command += ["--path-output", str(root), "-W", "-n", "--keep-going"]
    begun = time.monotonic()
    if subprocess.run(command, cwd=root).returncode:
        return False
    stamp.write_text(now)
    print(f"site: made in {time.monotonic() - begun:.0f} s")
    return True


def main(root=ROOT):
    copy = root / ".book"
    copy_pages(root, copy)
    record = execute(root, copy)
    if record is None:
        return "A notebook failed (see above), so the site was not made."
    write_build_page(copy, record)
    if not build_site(root, copy):
        return "The site was not made: see the warnings above."
    print(f"\nThe book is at {root / '_build' / 'html' / 'index.html'}")
    print("Open that file in a browser, or run `make serve`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
