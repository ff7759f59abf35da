"""Fetch what the site uses of npm's packages into ``book/assets``: ``python tools/vendor.py``.

The files stand in the repository with their licences, so the book is built without Node and no
page asks another site. Only a change of ``PACKAGES`` needs npm. ``--check`` needs neither npm nor
a network: it compares the files with the sums in ``tools/vendor.sha256``.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("book/assets/mathjax", "book/assets/fonts")  # hold these files and no others
SUMS = "tools/vendor.sha256"


class Package(NamedTuple):
    name: str
    version: str
    integrity: str  # as `npm view NAME@VERSION dist.integrity` prints it
    files: dict[str, str]  # what of it goes where; a name that ends in / is all below a folder


def font(name, version, integrity, *files):
    """The licence of a font and some of its files."""
    files = {
        f"files/{name}-{file}.woff2": f"book/assets/fonts/{name}-{file}.woff2" for file in files
    }
    licence = {"LICENSE": f"book/assets/fonts/LICENSE-{name}"}
    return Package(f"@fontsource-variable/{name}", version, integrity, files | licence)


PACKAGES = [
    Package(
        "mathjax",
        "3.2.2",
        "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
        {
            path: f"book/assets/mathjax/{path}"
            for path in (
                "LICENSE",
                "es5/tex-mml-chtml.js",
                "es5/input/tex/",
                "es5/output/chtml/fonts/woff-v2/",
            )
        },
    ),
    font(
        "source-serif-4",
        "5.3.1",
        "sha512-4Rtay22SC4lMvw11r/+9kxANB6P3M0X8s1NudBC2v0J1KU2y3DcMoNcT3lBoZ/CqLirzf+StlO6UlJilyrvaUg==",
        "latin-wght-normal",
        "latin-wght-italic",
        "greek-wght-normal",
    ),
    font(
        "source-sans-3",
        "5.3.0",
        "sha512-dpi0GZk7EQe2tYpg6Q0Fx0OmUgnuGu+0rHPgtXqtKhglYmJuP7jZ12Mu1uN+NfRaJRY1Emn8AQJEWzmoZ4wa9g==",
        "latin-wght-normal",
        "latin-wght-italic",
    ),
    font(
        "inconsolata",
        "5.3.0",
        "sha512-3sJ98aPp9rBWhlt+niNQaqaRd5vKo5M5unVWRm4L8g3E73pi5P8DIS4ZuPAtYi0bugDllZRSxrtfPxM17+P6gg==",
        "latin-wght-normal",
    ),
]


def pack(package, folder):
    """The package's tarball, fetched by npm from the registry that npm is set to."""
    spec = f"{package.name}@{package.version}"
    subprocess.run(
        ["npm", "pack", "--silent", spec], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    (tarball,) = Path(folder).glob("*.tgz")
    return tarball


def integrity(path):
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def chosen(package, tarball):
    """{where it goes: content} of the package's files that are wanted."""
    got = integrity(tarball)
    if got != package.integrity:
        raise ValueError(f"{package.name}: the tarball is {got}; wanted {package.integrity}")
    found = {}
    with tarfile.open(tarball) as archive:
        # npm puts all below one folder, mostly named "package"
        members = {m.name.split("/", 1)[-1]: m for m in archive if m.isfile()}
        for wanted, target in package.files.items():
            below = [n for n in members if wanted.endswith("/") and n.startswith(wanted)]
            names = below or ([wanted] if wanted in members else [])
            if not names:
                raise ValueError(f"{package.name} {package.version} has no {wanted}")
            for name in names:
                found[target + name.removeprefix(wanted)] = archive.extractfile(
                    members[name]
                ).read()
    return found


def fetch(packages, fetch_one=pack):
    """{where it goes: content} of all packages; an error where any of them is not as recorded."""
    found = {}
    for package in packages:
        with tempfile.TemporaryDirectory() as folder:
            found |= chosen(package, fetch_one(package, folder))
    return found


def lines_of_sums(found):
    """The sums as `sha256sum` prints them, to be checked without this script too."""
    sums = {path: hashlib.sha256(content).hexdigest() for path, content in found.items()}
    return "".join(f"{sums[path]}  {path}\n" for path in sorted(sums))


def present(root):
    """{path: content} of what is in the folders now."""
    paths = [p for folder in FOLDERS for p in (root / folder).rglob("*") if p.is_file()]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in paths}


def replace(root, found):
    """Make the folders hold these files alone, and record their sums.

    All is written aside before anything is replaced: a full disk leaves the old files whole.
    """
    aside = {path: root / f"{path}.part" for path in found}
    try:
        for path, content in found.items():
            aside[path].parent.mkdir(parents=True, exist_ok=True)
            aside[path].write_bytes(content)
        for path, part in aside.items():
            part.replace(root / path)
    finally:
        for part in aside.values():
            part.unlink(missing_ok=True)
    for path in present(root).keys() - found.keys():
        (root / path).unlink()
    (root / SUMS).write_text(lines_of_sums(found))


def differences(root):
    """What is missing, changed or unknown, a sentence each."""
    lines = (line.split("  ", 1) for line in (root / SUMS).read_text().splitlines())
    wanted = {path: recorded for recorded, path in lines}
    now = {path: hashlib.sha256(content).hexdigest() for path, content in present(root).items()}
    unlike = {path for path in wanted.keys() & now.keys() if wanted[path] != now[path]}
    return [
        *(f"{path}: missing (make vendor)" for path in sorted(wanted.keys() - now.keys())),
        *(f"{path}: differs from what was fetched (make vendor)" for path in sorted(unlike)),
        *(f"{path}: not in tools/vendor.py" for path in sorted(now.keys() - wanted.keys())),
    ]


def main(check, root=ROOT, packages=PACKAGES, fetch_one=pack):
    if check:
        print("\n".join(wrong := differences(root)), end="\n" if wrong else "")
        return bool(wrong)
    if fetch_one is pack and not shutil.which("npm"):
        return "npm is needed, which comes with Node. On Debian or Ubuntu: apt install npm"
    try:
        found = fetch(packages, fetch_one)
    except (ValueError, subprocess.CalledProcessError) as error:
        return f"Nothing was changed. {error}"
    replace(root, found)
    print(f"{len(found)} files of {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
