"""The benchmark of imports: what it counts, out of which folder, and what it saves."""

import json
import subprocess

import pytest

import imports


def package(folder, modules):
    """Stand-ins for torch and for a leaklib of so many modules."""
    (folder / "leaklib").mkdir(parents=True)
    (folder / "torch.py").write_text("")
    for number in range(1, modules):
        (folder / "leaklib" / f"m{number}.py").write_text("")
    names = "".join(f"from . import m{number}\n" for number in range(1, modules))
    (folder / "leaklib" / "__init__.py").write_text(names)
    return folder


def test_modules_are_counted_in_the_folder_that_is_named(tmp_path):
    folders = {"new": package(tmp_path / "a", 1), "old": package(tmp_path / "b", 4)}
    found = imports.compare(folders, runs=2)
    assert (found["new"]["modules"], found["old"]["modules"]) == (1, 4)
    assert all(run["seconds"] > 0 and run["torch_seconds"] > 0 for run in found.values())


def test_a_package_from_elsewhere_is_not_measured(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        imports.timed(tmp_path)


def test_medians_are_of_the_runs():
    runs = [{"torch": [t, 900], "leaklib": [t / 2, 30]} for t in (1.0, 9.0, 2.0)]
    assert imports.middle(runs) == {"torch_seconds": 2.0, "seconds": 1.0, "modules": 30}


def test_command_saves_what_it_prints_where_there_is_something_to_compare(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(imports, "ROOT", package(tmp_path / "new", 1))
    monkeypatch.setattr(imports, "checkout", lambda commit, _: package(tmp_path / commit, 3))
    path = tmp_path / "benchmarks" / "results" / "imports.json"
    imports.main(["--runs=1"], path)
    assert not path.exists() and "new: import torch" in capsys.readouterr().out
    imports.main(["--runs=1", "old"], path)
    saved = json.loads(path.read_text("utf-8"))
    assert saved["settings"] == {"runs": 1, "old": "old"}
    assert saved["ratio"]["modules"] == 3 and saved["old"]["modules"] == 3
    assert "3.0 in modules" in capsys.readouterr().out


def test_an_old_commit_is_taken_out_of_git(tmp_path, monkeypatch):
    project = package(tmp_path / "project", 2)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", "-C", str(project)]
    for command in (["init", "-q"], ["add", "leaklib"], ["commit", "-qm", "old"]):
        subprocess.run([*git, *command], check=True)
    (project / "leaklib" / "m1.py").unlink()
    monkeypatch.setattr(imports, "ROOT", project)
    folder = imports.checkout("HEAD", tmp_path / "old")
    assert {path.name for path in (folder / "leaklib").iterdir()} == {"__init__.py", "m1.py"}
