"""The tables of a class: a list of students is read, scores are written and read again."""

import csv
import os

import pytest

from leaklib.course import class_table

COLUMNS = ("student_id", "points", "line")
ROWS = [
    {"student_id": "ada", "points": "10", "line": 'all "right", at once'},
    {"student_id": "bo", "points": "0", "line": "ä\nb"},
]


@pytest.mark.parametrize("mark, separator", [("", ","), ("\ufeff", ";"), ("", "\t")])
def test_class_lists_of_spreadsheets_are_read(mark, separator, tmp_path):
    rows = [["name", " student_id "], ["A, B", "ada"], ["", ""], ["C", " bo "]]
    with (tmp_path / "c.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(mark)
        csv.writer(file, delimiter=separator).writerows(rows)
    assert class_table.read_class(tmp_path / "c.csv") == ["ada", "bo"]


def test_a_class_list_that_is_too_long_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(class_table, "LARGEST", 10)
    (tmp_path / "c.csv").write_text("student_id\nada\n")
    with pytest.raises(ValueError, match=r"^c\.csv: got 15 bytes; wanted at most 10"):
        class_table.read_class(tmp_path / "c.csv")


def test_a_table_is_read_as_it_was_written(tmp_path):
    class_table.write_table(tmp_path / "scores.csv", COLUMNS, ROWS)
    assert class_table.read_table(tmp_path / "scores.csv", COLUMNS) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_there_is_no_row_where_there_is_no_file(tmp_path):
    assert class_table.read_table(tmp_path / "scores.csv", COLUMNS) == []


def test_a_row_that_is_cut_off_or_too_long_is_left_out(tmp_path):
    class_table.write_table(tmp_path / "scores.csv", COLUMNS, ROWS[:1])
    with (tmp_path / "scores.csv").open("a") as file:
        file.write("bo,1,right,more\ncy,2")
    assert class_table.read_table(tmp_path / "scores.csv", COLUMNS) == ROWS[:1]


@pytest.mark.parametrize(
    "content, came",
    [
        (b"student_id,grade\nada,1\n", r"the columns \['student_id', 'grade'\]"),
        (b"", r"the columns \[\]"),
        (b"\xff\xfe", "a file that is no CSV"),
        (b"x" * 200_000, "a file that is no CSV"),
    ],
)
def test_a_file_of_another_kind_is_told(content, came, tmp_path):
    (tmp_path / "scores.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^scores\.csv: got {came}.*; wanted the columns stud"):
        class_table.read_table(tmp_path / "scores.csv", COLUMNS)


def test_a_write_that_fails_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "scores.csv"
    class_table.write_table(path, COLUMNS, ROWS)
    before = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        class_table.write_table(path, COLUMNS, [])
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize("words", ["=1+1", "+1", "-1", "@sum(a1)"])
def test_what_a_spreadsheet_would_compute_becomes_text(words):
    assert class_table.as_text(words) == f"'{words}"


def test_other_words_stay_as_they_are():
    assert class_table.as_text("ada = 1") == "ada = 1" and class_table.as_text("") == ""
