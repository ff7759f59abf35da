"""The changelog: its newest version is the package's, and what it calls the new names exists."""

import importlib.util
import re

import pytest
import yaml

import leaklib
import notebooks

TEXT = (notebooks.ROOT / "CHANGELOG.md").read_text("utf-8")
# | `client.stack` | `leak.stack` |
RENAMED = re.findall(r"(?m)^\| `([\w.]+)` \| `([\w.]+)` \|$", TEXT)


def test_version_is_one_everywhere():
    cited = yaml.safe_load((notebooks.ROOT / "CITATION.cff").read_text("utf-8"))["version"]
    newest = re.search(r"(?m)^## (\d\S+)", TEXT)[1]
    assert cited == newest == leaklib.__version__


@pytest.mark.parametrize(("old", "new"), RENAMED)
def test_a_new_name_exists_and_the_old_one_is_gone(old, new):
    thing, place = leaklib, "leaklib"
    for word in new.split("."):
        place = f"{place}.{word}"
        thing = getattr(thing, word, None) or importlib.import_module(place)
    module, _, word = f"leaklib.{old}".rpartition(".")
    if importlib.util.find_spec(module):
        assert word not in getattr(importlib.import_module(module), "__all__", ())


def test_names_are_found_in_the_table():
    assert ("client.stack", "leak.stack") in RENAMED
