"""Every assignment is made and graded: solution, blank and each wrong answer."""

import pytest

import assignments

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("name", assignments.names())
def test_an_assignment_grades_as_it_should(name, tmp_path, monkeypatch):
    monkeypatch.setattr(assignments, "DIST", tmp_path)
    monkeypatch.delenv("LEAKLIB_SECRET", raising=False)  # new cases every night
    assignments.make(name)
    assert list(assignments.faults(name)) == []
