"""The benchmark of the recursion gives both ways the same gradients."""

import json

import torch

import recursion
from leaklib import data


def test_both_ways_recover_the_same_digits():
    images, labels = data.load("digits", 2, size=12)
    found = recursion.compare(images, labels)
    assert list(found) == ["recursion", "matching"]
    for run in found.values():
        assert run["label_right"] == run["converged"] == [True, True]
        assert max(run["mse"]) < 1e-3 and run["cpu_seconds"] > 0 and run["seconds"] > 0
    assert max(found["recursion"]["mse"]) < 1e-9


def test_command_saves_what_it_prints(tmp_path, monkeypatch, capsys):
    def load(name, count, **settings):
        if name == "mnist":
            raise RuntimeError("not here")
        return digits(count, settings.get("size", 12))

    digits = lambda count, size, load=data.load: load("digits", count, size=size)  # noqa: E731
    monkeypatch.setattr(recursion.data, "load", load)
    threads = torch.get_num_threads()
    path = tmp_path / "benchmarks" / "results" / "recursion.json"
    recursion.main(["--images=1"], path)
    torch.set_num_threads(threads)
    saved = json.loads(path.read_text("utf-8"))
    assert list(saved["sets"]) == ["digits", "cifar10"] and saved["settings"] == {"images": 1}
    told = capsys.readouterr().out
    assert "digits in its place" in told and "digits   recursion" in told and "Saved as" in told
