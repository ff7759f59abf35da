"""An environment as Colab's, made anew for each chapter."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CELL_SECONDS = 600

# What the chapters may take for granted there. pip is what the setup cell calls.
IN_COLAB = [
    *("torch", "torchvision", "numpy", "scipy", "matplotlib", "scikit-image", "scikit-learn"),
    *("ipywidgets", "ipykernel", "pip"),
]

# Nothing of this checkout may reach the kernel by way of a variable.
OURS = ("PYTHON", "VIRTUAL_ENV", "LEAK", "PYTEST", "JUPYTER", "IPYTHON", "MPL")

# The kernel itself reaches no other machine; pip does, for it runs in a process of its own.
OFFLINE = """
import socket

def connect(self, address, connect=socket.socket.connect):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] != "127.0.0.1":
        raise OSError(f"a chapter must not need the network, and asked {address}")
    return connect(self, address)

socket.socket.connect = connect
del connect, socket
"""


def with_needs(names):
    """The installed distributions of these names and of all that they need."""
    found, todo = {}, [(Requirement(name), "") for name in names]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for extra in ("", *requirement.extras):
            key = canonicalize_name(requirement.name), extra
            if key not in found:
                found[key] = metadata.distribution(requirement.name)
                todo += [(Requirement(line), extra) for line in found[key].requires or []]
    return {name: distribution for (name, _), distribution in found.items()}


def link(source, target):
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)


class Environment:
    """A new virtual environment that holds what Colab has, and no more.

    Its packages are those of the environment that runs the tests, file by file as hard links: the
    same builds of torch and torchvision, in seconds and without a second copy of 5 GB. pip
    replaces a file by a new one, so what it does here does not reach the other environment.
    """

    def __init__(self, folder):
        self.folder = folder
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder / "env")]
        subprocess.run(command, check=True)
        (self.site,) = (folder / "env").glob("lib/python*/site-packages")
        made = set()
        for distribution in with_needs(IN_COLAB).values():
            for file in distribution.files:
                # scripts lie outside, and a .pyc may be gone since it was recorded
                if ".." in file.parts or not (source := file.locate()).exists():
                    continue
                if (parent := (self.site / file).parent) not in made:
                    parent.mkdir(parents=True, exist_ok=True)
                    made.add(parent)
                link(source, self.site / file)

    def packages(self):
        """{name: what changes when pip installs it again}."""
        found = {}
        for distribution in metadata.distributions(path=[str(self.site)]):
            (record,) = (f for f in distribution.files if f.name == "RECORD" and len(f.parts) == 2)
            stat = record.locate().stat()
            name = canonicalize_name(distribution.name)
            found[name] = distribution.version, stat.st_ino, stat.st_mtime_ns
        return found

    def execute(self, notebook, name, spec):
        """Execute a notebook's file, alone in an empty folder; returns it with its outputs."""
        kernel, empty = self.folder / "kernels" / "colab", self.folder / "content"
        kernel.mkdir(parents=True)
        empty.mkdir()
        nbformat.write(notebook, empty / name)
        (self.folder / "offline.py").write_text(OFFLINE)
        python = str(self.folder / "env" / "bin" / "python")
        argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv += [f"--IPKernelApp.exec_files={self.folder / 'offline.py'}"]
        language = {"display_name": "Colab", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps({"argv": argv, **language}))

        specs = KernelSpecManager(kernel_dirs=[str(kernel.parent)])
        manager = AsyncKernelManager(kernel_name="colab", kernel_spec_manager=specs)
        outside = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        env = {**outside, "LEAKLIB_SPEC": spec, "IPYTHONDIR": str(self.folder / "ipython")}
        client = NotebookClient(
            nbformat.read(empty / name, 4),
            km=manager,
            timeout=CELL_SECONDS,
            resources={"metadata": {"path": str(empty)}},
        )
        try:
            return client.execute(env=env)
        finally:
            run_sync(manager.shutdown_kernel)(now=True)  # nbclient leaves a given kernel alone


@pytest.fixture
def colab():
    """A new environment; removed at once, for it has 40,000 files."""
    build = ROOT / "_build"
    build.mkdir(exist_ok=True)
    # beside .venv, since hard links cannot lead to another file system
    with tempfile.TemporaryDirectory(prefix="colab-", dir=build) as folder:
        yield Environment(Path(folder))


def pip(*arguments):
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """leaklib as a wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    asked = pip("download", "--no-deps", "-q", "-d", str(folder / "asked"), "hatchling")
    if asked.returncode:
        reason = f"no package registry answers: {asked.stderr.strip().splitlines()[-1]}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    built = pip("wheel", "--no-deps", "-w", str(folder), str(ROOT))
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("leaklib-*.whl")
    return path
