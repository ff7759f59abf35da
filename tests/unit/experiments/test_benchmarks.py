"""The benchmark compares like with like.  How fast it finds either is not for a test to say."""

import json

import pytest
import torch

import throughput
from leaklib import metrics
from leaklib.book import scenes


@pytest.fixture(scope="module")
def three():
    """Three digits of 12 x 12 pixels, their networks and leaks, and the shape of one."""
    images, numbers = (t[:3] for t in throughput.data.load("digits", 3, size=12))
    return images, *throughput.leaks_of(images, numbers, 10, "cpu"), (1, 1, 12, 12)


def test_both_ways_recover_the_same_images_to_the_same_objective(three):
    images, nets, leaks, shape = three
    for way in (throughput.one_by_one, throughput.all_at_once, throughput.by_autograd):
        steps = {} if way is not throughput.by_autograd else dict(steps=2000)
        found, evaluations = way(nets, leaks, shape, **steps)
        assert found.shape == images.shape and len(evaluations) == 3
        assert (metrics.mse(found, images) < throughput.RECOVERED).all()
        for net, leak, image in zip(nets, leaks, found, strict=True):
            loss = torch.nn.functional.cross_entropy(net(image[None]), throughput.labels.idlg(leak))
            g = torch.autograd.grad(loss, list(net.parameters()))
            distance = sum(
                (a - b).square().sum() for a, b in zip(g, leak.direction.values(), strict=True)
            )
            assert distance < 1.1 * throughput.STOP


def test_the_loop_counts_its_evaluations_and_stops_at_its_calls(three):
    _, nets, leaks, shape = three
    image, evaluations = throughput.plain_loop(nets[0], leaks[0], shape, calls=2)
    assert 20 < evaluations <= 2 * throughput.PER_CALL
    assert (image != 0.5).any()


def test_a_set_that_is_too_small_is_repeated():
    images, numbers = throughput.victims("faces", 130)
    assert len(images) == len(numbers) == 130 and torch.equal(images[:30], images[100:])


def test_ratio_is_of_recovered_images_with_the_best_number_of_threads():
    run = lambda cpu, recovered: {"cpu_seconds": cpu, "recovered": recovered}  # noqa: E731
    loop, batch = [run(8.0, 4), run(12.0, 4)], [run(2.0, 10), run(1.0, 0)]
    assert throughput.ratio(loop, batch, "cpu_seconds") == pytest.approx(2.0 / 0.2)
    assert throughput.each(run(1.0, 0), "cpu_seconds") == float("inf")


def test_command_saves_what_the_page_shows(tmp_path, monkeypatch, capsys):
    """A run so small that it says nothing about speed, from end to end."""
    monkeypatch.setattr(throughput, "SETS", {"mnist": "digits"})
    for name, few in dict(PROBLEMS=(1, 2), SIDES=(8,), CLASSES=(10,), EVALUATIONS=20).items():
        monkeypatch.setattr(throughput, name, few)
    calls = []

    def measure(way, images, numbers, **of):  # in this process, which is quicker to start
        calls.append((len(images), of["threads"]))
        return throughput._measure(way, images, numbers, **of | dict(threads=1))

    monkeypatch.setattr(throughput, "measure", measure)
    monkeypatch.setattr(throughput, "CALLS", 3)
    path = tmp_path / "benchmarks" / "results" / "throughput.json"
    throughput.main(["--images=3", "--plain=2"], path)
    saved = json.loads(path.read_text("utf-8"))
    assert "digits in its place" in capsys.readouterr().out
    found = saved["sets"]["mnist"]
    assert found["set"] == "digits" and calls[:2] == [(2, 1), (3, 1)]
    for run in (*found["loop"], *found["batch"]):
        assert len(run["evaluations"]) == run["images"] and run["cpu_seconds"] > 0
        assert 0 < run["peak_gigabytes"] < 100
    for along, grown in saved["scaling"].items():
        assert {len(column) for column in grown.values()} == {len(grown["x"])}
        monkeypatch.setattr("leaklib.book.results.load", lambda _: saved)
        picture = scenes.cost(along)
        assert along in picture.caption and "one at a time" in picture.alt


def test_each_measurement_has_a_process_of_its_own():
    images, numbers = throughput.data.load("digits", 2, size=12)
    run = throughput.measure(throughput.all_at_once, images, numbers, threads=1)
    assert run["recovered"] == run["images"] == 2 and run["threads"] == 1
