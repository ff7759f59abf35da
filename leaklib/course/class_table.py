"""The tables of a class: who is in it, and what each student's work is worth."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .. import _files
from .._errors import bad

__all__ = ["as_text", "check_id", "read_class", "read_table", "write_table"]

STUDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)
LARGEST = 10_000_000  # bytes of a class list


def check_id(student_id: str) -> str:
    """The student's id.  Raises ValueError for one that is not safe in the name of a file."""
    if not (isinstance(student_id, str) and STUDENT.fullmatch(student_id)):
        wanted = "1 to 64 of A-Z a-z 0-9 . _ @ + -, beginning with a letter or a digit"
        raise bad("student_id", repr(student_id)[:80], wanted)
    return student_id


def read_class(path: Path) -> list[str]:
    """The ids in the column student_id of a CSV file with commas, semicolons or tabs.

    Raises ValueError for a file without that column, for an id that `check_id` refuses, and for one
    that occurs twice.  Upper and lower case count as the same, as they do on some disks.
    """
    content = path.read_bytes()
    if len(content) > LARGEST:
        raise bad(path.name, f"{len(content)} bytes", f"at most {LARGEST}")
    try:
        # spreadsheets begin a file with a byte-order mark
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad(path.name, f"bytes that are not UTF-8 ({error})", "CSV in UTF-8") from error
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    seen: dict[str, tuple[str, int]] = {}
    try:
        header = [name.strip() for name in next(rows, [])]
        if header.count("student_id") != 1:
            raise bad(path.name, f"the columns {header!r:.200}", "one called student_id")
        column = header.index("student_id")
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            student, line = row[column].strip() if column < len(row) else "", rows.line_num
            try:
                check_id(student)
            except ValueError as error:
                raise ValueError(f"{path.name}, line {line}: {error}") from error
            if student.lower() in seen:
                came = f"{student!r} in lines {seen[student.lower()][1]} and {line}"
                raise bad(path.name, came, "each student once")
            seen[student.lower()] = student, line
    except csv.Error as error:
        raise bad(path.name, f"line {rows.line_num}: {error}", "CSV") from error
    if not seen:
        raise bad(path.name, "no student", "a line for each")
    return [student for student, _ in seen.values()]


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table that `write_table` wrote; none where there is no file.

    Rows that are cut off or too long are left out.  Raises ValueError for a file of another kind.
    """
    if not path.exists():
        return []
    wanted = f"the columns {', '.join(columns)}, or another name for the file"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            found, rows = tuple(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad(path.name, f"a file that is no CSV ({error})", wanted) from error
    if found != tuple(columns):
        raise bad(path.name, f"the columns {list(found)!r:.200}", wanted)
    return [row for row in rows if None not in row and None not in row.values()]


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table as CSV: a header, and a line for each row {column: cell}."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # a student's file may have a name that is no text
    _files.write(path, table.getvalue().encode("utf-8", errors="backslashreplace"))


def as_text(words: str) -> str:
    """What somebody else wrote, as a cell that a spreadsheet shows and does not compute."""
    return f"'{words}" if words.startswith(("=", "+", "-", "@")) else words
