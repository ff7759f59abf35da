"""The experiment on whole batches: what each rule reads, and what it is compared with."""

import json

import pytest
import torch

import batch_labels
from leaklib import data, labels, metrics
from leaklib.book import results


@pytest.fixture
def small(monkeypatch):
    """The digits alone, two kinds of batch, and one epoch in place of ten."""
    monkeypatch.setattr(batch_labels, "SETS", {"digits": batch_labels.SETS["digits"]})
    kept = ("untrained; all classes; 8", "ten epochs; three classes; 16")
    arms = {name: batch_labels.ARMS[name] for name in kept}
    monkeypatch.setattr(batch_labels, "ARMS", arms)
    monkeypatch.setitem(batch_labels.STATES, "ten epochs", ("relu", "torch", 2))
    for kept in (batch_labels.pools_of, batch_labels.trained):
        kept.cache_clear()
    yield arms
    for kept in (batch_labels.pools_of, batch_labels.trained):
        kept.cache_clear()


def test_arms_are_every_state_with_both_kinds_of_batch_of_every_size():
    assert len(batch_labels.ARMS) == 4 * 2 * 9
    assert {arm.B for arm in batch_labels.ARMS.values()} == {2**k for k in range(9)}
    assert {arm.classes for arm in batch_labels.ARMS.values()} == {"all", "three"}


def test_pools_share_no_image():
    pool = batch_labels.pools_of("digits")
    parts = (pool.private[0], pool.own, pool.training.images)
    assert sum(map(len, parts)) == len(data.load("digits")[0]) and len(pool.own) == 300
    seen = [{image.numpy().tobytes() for image in part} for part in parts]
    # the set itself holds a few pictures twice, so whole parts are compared
    assert all(len(a & b) < 3 for a, b in ((seen[0], seen[1]), (seen[0], seen[2])))


def test_batches_are_the_same_for_every_state_and_hold_three_classes_where_they_should():
    numbers = batch_labels.pools_of("digits").private[1]
    for number in range(5):
        for classes, most in (("three", 3), ("all", 10)):
            arms = [batch_labels.Arm(state, classes, 64) for state in batch_labels.STATES]
            first, *others = (batch_labels.batch(arm, numbers, number) for arm in arms)
            assert all(torch.equal(first, other) for other in others)
            assert len(numbers[first].unique()) <= most
    assert len(numbers[first].unique()) > 5


def test_even_guess_is_as_even_as_it_can_be_and_blind():
    for B in (1, 8, 64, 256):
        n = batch_labels.even_guess(50, B, 0)
        assert (n.sum(1) == B).all() and (n.amax(1) - n.amin(1) <= 1).all()
    assert len(batch_labels.even_guess(50, 1, 0).argmax(1).unique()) > 5


def test_columns_are_what_the_rules_score(small):
    arm = small["untrained; all classes; 8"]
    columns = batch_labels.columns(arm, "digits", range(3, 7))
    assert {len(column) for column in columns.values()} == {4}
    assert sum(columns["own images"]) / 4 > 0.97 and sum(columns["system"]) / 4 > 0.97
    assert None not in columns["GradInversion"]
    assert max(columns["even guess"]) < 1
    # the rules read the leak, so that another client's labels are not read right
    pool = batch_labels.pools_of("digits")
    rows = batch_labels.batch(arm, pool.private[1], 3)
    net = batch_labels.network("untrained", pool, 3)
    leak = batch_labels.client.share_gradient(net, pool.private[0][rows], pool.private[1][rows])
    found = labels.counts(net, leak, pool.own)
    assert columns["own images"][0] == metrics.count_accuracy(found, pool.private[1][rows])


def test_a_rule_that_does_not_apply_is_left_empty(small):
    columns = batch_labels.columns(small["ten epochs; three classes; 16"], "digits", range(2))
    assert columns["GradInversion"] == [None, None] and None not in columns["LLG"]


def test_a_trained_network_has_learnt_and_is_trained_once(small):
    model, accuracy = batch_labels.trained("ten epochs", "digits")
    assert accuracy > 0.25
    assert batch_labels.trained("ten epochs", "digits")[0] is model


def test_a_run_saves_every_batch_and_its_accuracy(small, tmp_path):
    path = tmp_path / "batch_labels.json"
    assert batch_labels.main(["--images=4", "--chunk=2", "--workers=1"], path) is None
    saved = json.loads(path.read_text("utf-8"))
    assert saved["provenance"]["command"] == "python experiments/batch_labels.py --images 4"
    (held,) = results.finished(saved).values()
    for columns in held.values():
        assert {len(column) for column in columns.values()} == {4}
        assert len(set(columns["accuracy"])) == 1
