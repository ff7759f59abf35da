"""Ask every link of the book that leads to another site: ``python tools/linkcheck.py``.

Sphinx does the asking. Sites that answer a reader may refuse a machine: these are named, and are
no failure. Links inside the book are checked whenever the site is built.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALIVE = ("working", "redirected")
REFUSED = ("401", "403", "429")


def report(links):
    """(what to tell, whether all is well) of Sphinx's entries on links to other sites."""
    alive = [link for link in links if link["status"] in ALIVE]
    dead = [link for link in links if link["status"] in ("broken", "timeout")]
    if dead and not alive:
        return (
            f"None of {len(dead)} links could be reached: is this machine on the internet?",
            False,
        )
    refused = [link for link in dead if link["info"].startswith(REFUSED)]
    dead = [link for link in dead if link not in refused]
    told = [f"{told_of(link)}: refused, look at it yourself" for link in refused]
    told += [f"{told_of(link)}: {link['info'].splitlines()[0][:120]}" for link in dead]
    told.append(f"{len(alive)} links alive, {len(refused)} refused, {len(dead)} dead")
    return "\n".join(told), not dead


def told_of(link):
    return f"{link['filename']}:{link['lineno']} {link['uri']}"


def main(root=ROOT):
    # in a folder of its own: Jupyter Book would write what it finds into the site
    folder = root / "_build" / "linkcheck"
    found = folder / "_build" / "html" / "output.json"
    found.unlink(missing_ok=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(root)]
    command += ["--path-output", str(folder), "--builder", "linkcheck"]
    print("asking every link to another site: this takes a few minutes", flush=True)
    log = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if not found.exists():
        return f"{log.stdout}\n{log.stderr}\nThe links could not be asked."
    entries = [json.loads(line) for line in found.read_text("utf-8").splitlines()]
    told, well = report([link for link in entries if link["uri"].startswith("http")])
    print(told)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
