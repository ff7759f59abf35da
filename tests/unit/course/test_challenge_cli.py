"""The command line of Capture the image, on a class of three."""

import csv
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from leaklib import data
from leaklib.course import challenge
from leaklib.course import secret as secret_of_class
from leaklib.course.challenge import __main__ as command
from leaklib.course.challenge import _keys, _make, _pool, _whole_class

SECRET = "a secret of the tests, 0123456789 abcdef"
CLASS = ("ada", "b.o@example.org", "1234567")
LEVELS = ("gradient", "batch")


@pytest.fixture
def school(tmp_path, monkeypatch):
    """A folder with a class list, twelve pictures, and the secret in a file."""
    monkeypatch.delenv(secret_of_class.VARIABLE, raising=False)
    images, _ = data.load("photos", size=40)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate([x for x in images if _pool.flat_psnr(x) < 18][:12]):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    (tmp_path / "secret").write_text(SECRET + "\n")
    rows = "".join(f"{student},{name}\n" for student, name in zip(CLASS, "ABC"))
    (tmp_path / "class.csv").write_text("student_id,name\n" + rows)
    (tmp_path / "answers").mkdir()
    return tmp_path


def make(school, *more, levels=LEVELS, to="out", secret=("--secret-file", "secret"), **changed):
    images = str(school / changed.get("images", "pictures"))
    return command.main(
        ["make", str(school / changed.get("students", "class.csv")), "--images", images]
        + [part if part.startswith("--") else str(school / part) for part in secret]
        + [word for level in levels for word in ("--level", level)]
        + ["--to", str(school / to), *more]
    )


def grade(school, *more, images="pictures", secret="secret", to="scores.csv"):
    folders = {"--answers": "answers", "--challenges": "out", "--images": images}
    named = {**folders, "--secret-file": secret, "--to": to}
    given = [word for name, part in named.items() for word in (name, str(school / part))]
    return command.main(["grade", str(school / "class.csv"), *given, *more])


def answer(school, student, level, change=lambda x, y: (x, y)):
    """Hand in the private batch, changed."""
    pool = challenge.open_pool(school / "pictures")
    draws = _keys.Draws(SECRET, student, level)
    x, y = change(*_make.truth(draws, challenge.LEVELS[level], pool))
    name = _whole_class.answer_name(student, level)
    return challenge.write_answer(school / "answers" / name, x, y)


def scores(school, to="scores.csv"):
    with (school / to).open(newline="", encoding="utf-8") as file:
        return {(row["student_id"], row["level"]): row for row in csv.DictReader(file)}


# ------------------------------------------------------------------ make
def test_every_student_gets_a_file_of_each_level(school, capsys):
    assert make(school) == 0
    names = {file.name for file in (school / "out").iterdir()}
    assert names == {f"challenge-{lv}-{s}.safetensors" for lv in LEVELS for s in CLASS}
    for student in CLASS:
        _, facts = challenge.read_challenge(
            school / "out" / f"challenge-gradient-{student}.safetensors"
        )
        assert facts.student_id == student
    assert capsys.readouterr().out.startswith("6 challenges written")


def test_all_levels_are_made_by_default(school):
    assert make(school, levels=()) == 0
    assert len(list((school / "out").iterdir())) == 3 * len(challenge.LEVELS)


def test_what_is_there_is_skipped_and_what_is_broken_is_made_again(school, capsys):
    make(school)
    files = sorted((school / "out").iterdir())
    before = {file: file.read_bytes() for file in files}
    times = {file: file.stat().st_mtime_ns for file in files}
    files[0].write_bytes(before[files[0]][:1000])
    files[1].unlink()
    assert make(school) == 0
    assert "2 challenges written" in capsys.readouterr().out.splitlines()[-1]
    assert {file: file.read_bytes() for file in files} == before
    assert [f for f in files if f.stat().st_mtime_ns == times[f]] == files[2:]


def test_what_another_secret_made_is_not_overwritten(school, capsys):
    make(school)
    (school / "other").write_text(secret_of_class.new_secret())
    before = {file: file.read_bytes() for file in (school / "out").iterdir()}
    assert make(school, secret=("--secret-file", "other")) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "is there already" in told and "secret: got another one" in told
    assert {file: file.read_bytes() for file in (school / "out").iterdir()} == before


def test_a_writer_that_is_interrupted_leaves_no_half_of_a_file(school, monkeypatch):
    def full(*_):
        raise OSError("no space left on the disk")

    monkeypatch.setattr(os, "replace", full)
    assert make(school) == 2
    assert list((school / "out").iterdir()) == []


def test_the_secret_may_come_from_the_environment(school, monkeypatch):
    assert make(school) == 0
    monkeypatch.setenv(secret_of_class.VARIABLE, SECRET)
    assert make(school, to="again", secret=()) == 0
    for file in (school / "out").iterdir():
        assert file.read_bytes() == (school / "again" / file.name).read_bytes()


def test_without_a_secret_nothing_is_made(school, capsys):
    assert make(school, secret=()) == 2
    assert "give --secret-file FILE, or set LEAKLIB_SECRET" in capsys.readouterr().err


def test_a_weak_secret_is_refused_and_never_shown(school, capsys):
    (school / "weak").write_text("sesame open")
    assert make(school, secret=("--secret-file", "weak")) == 2
    told = capsys.readouterr().err
    assert "secret: got 11 characters" in told and "sesame" not in told


def test_the_secret_is_no_argument():
    with pytest.raises(SystemExit):
        command.main(["make", "class.csv", "--secret", SECRET])


def test_a_new_secret_is_for_its_owner_alone_and_never_overwritten(tmp_path, capsys):
    file = tmp_path / "secret"
    assert command.main(["secret", "--to", str(file)]) == 0
    content = file.read_text()
    secret_of_class.check_secret(content.strip())
    assert file.stat().st_mode & 0o077 == 0
    assert content.strip() not in capsys.readouterr().out
    assert command.main(["secret", "--to", str(file)]) == 2
    assert file.read_text() == content


@pytest.mark.parametrize(
    "content, told",
    [
        ("name\nada\n", "one called student_id"),
        ("student_id,student_id\na,b\n", "one called student_id"),
        ("", "one called student_id"),
        ("student_id\n\n", "no student"),
        ("student_id\nada\nbob\nada\n", "'ada' in lines 2 and 4; wanted each student once"),
        ("student_id\nada\nAda\n", "'Ada' in lines 2 and 3"),
        ("student_id\nada\n../bob\n", "line 3: student_id: got '../bob'"),
        ("name,student_id\nada\n", "line 2: student_id: got ''"),
        ("student_id\n=1+1\n", "line 2: student_id"),
        (b"student_id\n\xff\xfe\n", "not UTF-8"),
        ('student_id\n"' + "x" * 200_000 + '"\n', "class.csv"),
    ],
)
def test_a_class_list_that_is_none_is_told(content, told, school, capsys):
    content = content if isinstance(content, bytes) else content.encode()
    (school / "class.csv").write_bytes(content)
    assert make(school) == 2
    assert told in capsys.readouterr().err
    assert not (school / "out").exists()


def test_fewer_pictures_than_students_are_noted(school, capsys):
    for file in sorted((school / "pictures").iterdir())[2:]:
        file.unlink()
    assert make(school, levels=["gradient"]) == 0
    assert "note: 2 pictures for 3 students" in capsys.readouterr().err


def test_files_that_are_not_there_are_told_in_a_line(school, capsys):
    for changed in (dict(students="none.csv"), dict(images="none")):
        assert make(school, **changed) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


# ------------------------------------------------------------------ grade
def test_answers_are_scored_each_for_itself(school, capsys):
    make(school)
    for student in CLASS:
        answer(school, student, "batch", lambda x, y: (x.flip(0), y.flip(0)))
    answer(school, "ada", "gradient")
    answer(school, "b.o@example.org", "gradient", lambda x, y: (torch.full_like(x, 0.5), y))
    broken = school / "answers" / _whole_class.answer_name("1234567", "gradient")
    broken.write_bytes(b"=1+1, a cat\n")
    (school / "answers" / "my_answer.safetensors").write_bytes(b"")
    assert grade(school) == 0
    table = scores(school)
    assert len(table) == 6
    assert {table[s, "batch"]["points"] for s in CLASS} == {"10"}
    assert table["ada", "batch"]["labels_right"] == "4"
    assert table["ada", "batch"]["psnr"] == "inf inf inf inf"
    assert table["ada", "gradient"]["points"] == table["ada", "gradient"]["out_of"] == "10"
    assert table["b.o@example.org", "gradient"]["points"] == "2"
    assert table["1234567", "gradient"]["points"] == "0"
    assert "cannot be read" in table["1234567", "gradient"]["line"]
    assert str(school) not in table["1234567", "gradient"]["line"]
    told = "note: file names that fit no student: 'my_answer.safetensors' (1)"
    assert told in capsys.readouterr().err


def test_no_cell_of_the_table_is_a_formula(school):
    make(school, levels=["gradient"])
    for student, content in zip(CLASS, (b"=1+1", b'{"=cmd": 1}', b"")):
        name = _whole_class.answer_name(student, "gradient")
        header = len(content).to_bytes(8, "little") + content
        (school / "answers" / name).write_bytes(header)
    grade(school)
    cells = [cell for row in scores(school).values() for cell in row.values()]
    assert not any(cell[:1] in tuple("=+-@\t\r\n") for cell in cells if cell)
    assert not any("\n" in cell for cell in cells)


def test_a_missing_answer_and_a_missing_challenge_are_told(school):
    make(school, levels=["gradient"])
    (school / "out" / _whole_class.challenge_name("ada", "gradient")).unlink()
    assert grade(school) == 0
    table = scores(school)
    assert table["ada", "gradient"]["line"] == "no challenge of this level was made"
    assert table["1234567", "gradient"]["line"] == "no answer was handed in"
    assert table["1234567", "gradient"]["points"] == "0"


def test_only_what_is_new_is_graded_again(school, monkeypatch):
    make(school, levels=["gradient"])
    answer(school, "ada", "gradient")
    grade(school)
    before = scores(school)
    graded = []
    plain = _whole_class.grade_challenge

    def counted(student, *args, **settings):
        graded.append(student)
        return plain(student, *args, **settings)

    monkeypatch.setattr(_whole_class, "grade_challenge", counted)
    assert grade(school) == 0
    assert graded == [] and scores(school) == before
    answer(school, "1234567", "gradient")
    answer(school, "ada", "gradient", lambda x, y: (x, 9 - y))
    assert grade(school) == 0
    assert graded == ["ada", "1234567"]
    assert scores(school)["ada", "gradient"]["points"] == "8"


def test_scores_of_other_levels_and_by_hand_are_kept(school):
    make(school)
    answer(school, "ada", "gradient")
    assert grade(school, "--level", "gradient") == 0
    table = school / "scores.csv"
    table.write_text(table.read_text().replace("no answer was handed in", "was ill"))
    assert grade(school, "--level", "batch") == 0
    assert len(scores(school)) == 6
    assert scores(school)["1234567", "gradient"]["line"] == "was ill"


def test_an_interrupted_run_keeps_what_it_has(school, monkeypatch):
    make(school, levels=["gradient"])
    plain = _whole_class.grade_challenge

    def interrupted(student, *args, **settings):
        if student == CLASS[2]:
            raise KeyboardInterrupt
        return plain(student, *args, **settings)

    monkeypatch.setattr(_whole_class, "grade_challenge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grade(school)
    assert {student for student, _ in scores(school)} == set(CLASS[:2])
    monkeypatch.setattr(_whole_class, "grade_challenge", plain)
    grade(school)
    assert len(scores(school)) == 3 and not list(school.glob("*.part"))


def test_another_secret_or_folder_is_told_before_anything_is_graded(school, capsys):
    make(school)
    (school / "other").write_text(secret_of_class.new_secret())
    assert grade(school, secret="other") == 2
    assert "secret: got another one" in capsys.readouterr().err
    (school / "fewer").mkdir()
    for file in list((school / "pictures").iterdir())[:6]:
        (school / "fewer" / file.name).write_bytes(file.read_bytes())
    assert grade(school, images="fewer") == 2
    assert "images: got others" in capsys.readouterr().err
    assert not (school / "scores.csv").exists()


def test_folders_that_are_not_there_or_empty_are_told(school, capsys):
    assert grade(school) == 2
    assert "challenges: got" in capsys.readouterr().err
    (school / "out").mkdir()
    assert grade(school) == 2
    assert "wanted the folder that `make` wrote" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"student_id,grade\nada,1\n", b"\xff\xfe", b""])
def test_a_file_that_is_no_table_of_scores_is_not_overwritten(content, school, capsys):
    make(school, levels=["gradient"])
    (school / "scores.csv").write_bytes(content)
    assert grade(school) == 2
    assert "error: scores.csv: got " in capsys.readouterr().err
    assert (school / "scores.csv").read_bytes() == content


def test_huge_links_and_strange_answers_do_not_stop_the_rest(school):
    make(school, levels=["gradient"])
    files = [school / "answers" / _whole_class.answer_name(s, "gradient") for s in CLASS]
    with files[0].open("wb") as file:
        file.truncate(10**12)
    os.mkfifo(files[1])
    files[2].symlink_to(files[2])
    assert grade(school) == 0
    assert [row["points"] for row in scores(school).values()] == ["0", "0", "0"]


def test_the_module_is_a_command():
    run = [sys.executable, "-m", "leaklib.course.challenge", "--help"]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    for word in ("secret", "make", "grade", "LEAKLIB_SECRET"):
        assert word in told
