"""Set the repository's address: ``python tools/repository.py URL [BRANCH]``.

Writes it to ``_config.yml`` (the one place), then to what is made from it: ``CITATION.cff``,
``README.md``, ``book/contributing.md`` and the setup cell of every notebook. Where the site is
published follows from it when the book is built (``book/extensions/address.py``).
"""

import re
import sys

import notebooks
import setup_cell

COPIES = ("README.md", "CITATION.cff", "book/contributing.md")


def set_address(url, branch, root=notebooks.ROOT):
    """Replace the old address by the new one; ``branch=None`` keeps the branch."""
    url = url.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", url):
        raise ValueError(f"URL is {url!r}; wanted something like https://github.com/name/project")
    config = root / "_config.yml"
    old_url, old_branch = setup_cell.repository(config.read_text("utf-8"))
    replace(config, f"\n  url: {old_url}\n", f"\n  url: {url}\n")
    replace(config, f"\n  branch: {old_branch}\n", f"\n  branch: {branch or old_branch}\n")
    for name in COPIES:
        replace(root / name, old_url, url)
    setup_cell.main(check=False, root=root)


def replace(path, old, new):
    if path.exists():
        path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: make repository URL=https://github.com/name/project [BRANCH=main]")
    try:
        set_address(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None)
    except ValueError as error:
        sys.exit(str(error))
