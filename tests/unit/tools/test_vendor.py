"""What comes from npm: fetched, checked and put in its place, with a package made up here."""

import io
import tarfile

import pytest

import vendor

CONTENTS = {"LICENSE": b"as you like", "js/a.js": b"a", "js/deep/b.js": b"b", "unwanted.js": b"?"}
OLD = {"book/assets/mathjax/old.js": b"old", "book/assets/fonts/old.woff2": b"old"}
NEW = {
    "book/assets/fonts/LICENSE-small": b"as you like",
    "book/assets/mathjax/a.js": b"a",
    "book/assets/mathjax/deep/b.js": b"b",
}
FILES = {"LICENSE": "book/assets/fonts/LICENSE-small", "js/": "book/assets/mathjax/"}


@pytest.fixture
def tarball(tmp_path):
    path = tmp_path / "small-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in CONTENTS.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def tree(tmp_path):
    """A project that holds files of an older version, whose sums are recorded."""
    root = tmp_path / "project"
    (root / "tools").mkdir(parents=True)
    vendor.replace(root, OLD)
    return root


def package(tarball, **changes):
    small = vendor.Package("small", "1.0.0", vendor.integrity(tarball), FILES)
    return small._replace(**changes)


def fetch(tree, tarball, *packages):
    return vendor.main(False, tree, packages, lambda package, folder: tarball)


def test_the_listed_files_and_no_others_take_the_place_of_the_old_ones(tree, tarball):
    assert fetch(tree, tarball, package(tarball)) == 0
    assert vendor.present(tree) == NEW
    assert vendor.differences(tree) == []


def test_a_wrong_checksum_leaves_the_tree_as_it_was(tree, tarball):
    """Also when the package before it was right."""
    bad = package(tarball, name="bad", integrity="sha512-AAAA")
    assert "Nothing was changed. bad: the tarball is sha512-" in fetch(
        tree, tarball, package(tarball), bad
    )
    assert vendor.present(tree) == OLD
    assert vendor.differences(tree) == []


@pytest.mark.parametrize("wanted", ["gone.js", "gone/"])
def test_a_listed_file_that_the_package_lacks_is_named(tree, tarball, wanted):
    wrong = package(tarball, files={wanted: "book/assets/mathjax/x"})
    assert fetch(tree, tarball, wrong) == f"Nothing was changed. small 1.0.0 has no {wanted}"
    assert vendor.present(tree) == OLD


def test_a_disk_that_fills_leaves_the_tree_as_it_was(tree, monkeypatch):
    """The second of two files cannot be written."""
    write = vendor.Path.write_bytes

    def full(path, content):
        if path.name == "b.js.part":
            raise OSError("No space left on device")
        return write(path, content)

    monkeypatch.setattr(vendor.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        vendor.replace(tree, NEW)
    assert vendor.present(tree) == OLD


def test_check_names_what_is_missing_changed_or_unknown_and_changes_nothing(tree, capsys):
    assert not vendor.main(True, tree)
    assert capsys.readouterr().out == ""
    (tree / "book/assets/mathjax/old.js").write_bytes(b"edited")
    (tree / "book/assets/fonts/old.woff2").unlink()
    (tree / "book/assets/fonts/mine.woff2").write_bytes(b"mine")
    before = vendor.present(tree)
    assert vendor.main(True, tree)
    assert capsys.readouterr().out.splitlines() == [
        "book/assets/fonts/old.woff2: missing (make vendor)",
        "book/assets/mathjax/old.js: differs from what was fetched (make vendor)",
        "book/assets/fonts/mine.woff2: not in tools/vendor.py",
    ]
    assert vendor.present(tree) == before


def test_integrity_is_written_as_npm_writes_it(tmp_path):
    """The value is what `openssl dgst -sha512 -binary | base64` says of these bytes."""
    path = tmp_path / "x.tgz"
    path.write_bytes(b"what gradients remember")
    assert vendor.integrity(path) == (
        "sha512-tUPLW0r671yskttK7/fsjXvk8ZBOZk8yC+La4GsNufEHXabtAMmQ8LGwIMI+v64tylexmbTelxbLVMTFI6oiFg=="
    )


def test_without_npm_the_message_says_what_to_install(tree, monkeypatch):
    monkeypatch.setattr(vendor.shutil, "which", lambda name: None)
    assert "apt install npm" in vendor.main(False, tree)
    assert vendor.present(tree) == OLD


def test_the_files_in_the_repository_are_those_that_were_fetched():
    assert vendor.differences(vendor.ROOT) == []


@pytest.mark.parametrize("package", vendor.PACKAGES, ids=lambda package: package.name)
def test_each_package_is_pinned_and_stands_with_its_licence(package):
    assert all(part.isdigit() for part in package.version.split("."))
    assert package.integrity.startswith("sha512-") and len(package.integrity) == 7 + 88
    assert len((vendor.ROOT / package.files["LICENSE"]).read_text("utf-8")) > 1000
    assert all(target.startswith(vendor.FOLDERS) for target in package.files.values())
