"""A file is there whole or not at all."""

import os
from pathlib import Path

import pytest

from leaklib import _files


def test_file_is_written_and_replaced(tmp_path):
    assert _files.write(tmp_path / "a.bin", b"old") == tmp_path / "a.bin"
    assert _files.write(str(tmp_path / "a.bin"), b"new").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"], "nothing is left aside"


@pytest.mark.parametrize("fails", ["write", "rename"])
def test_failure_leaves_the_older_file_and_nothing_aside(fails, tmp_path, monkeypatch):
    path, write = _files.write(tmp_path / "a.bin", b"old"), Path.write_bytes

    def half(aside, content):
        assert aside.name == "a.bin.part", "what .gitignore leaves out"
        write(aside, content[:1])
        raise OSError("no space left on device")

    def refuse(*_):
        raise OSError("no space left on device")

    if fails == "write":
        monkeypatch.setattr(Path, "write_bytes", half)
    else:
        monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        _files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_folder_has_to_be_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        _files.write(tmp_path / "no folder" / "a.bin", b"new")
