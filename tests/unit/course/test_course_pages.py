"""What the pages for instructors and students tell to type is there."""

import re
import shlex
import subprocess
import sys

import pytest

import assignments
import notebooks
from leaklib.course.grading import __main__ as grading

ROOT = notebooks.ROOT
PAGES = {
    name: (ROOT / "book" / f"{name}.md").read_text("utf-8") for name in ("instructors", "students")
}
COMMANDS = sorted(
    {
        line
        for page in PAGES.values()
        for block in re.findall(r"(?ms)^```\n(.*?)^```$", page)
        for line in block.splitlines()
    }
)
of = lambda start: [command for command in COMMANDS if command.startswith(start)]  # noqa: E731


def test_every_command_is_of_a_kind_that_is_tried_here():
    kinds = (
        "make ",
        ".venv/bin/python -m leaklib.course.grading ",
        ".venv/bin/python -m leaklib.course.challenge ",
    )
    assert COMMANDS and all(command.startswith(kinds) for command in COMMANDS)


@pytest.mark.parametrize("command", of("make "))
def test_make_knows_the_target_and_the_variables(command):
    run = subprocess.run(
        ["make", "-n", "-o", ".venv/installed", *shlex.split(command)[1:]],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for given in shlex.split(command)[2:]:
        assert given.partition("=")[2] in run.stdout
    name = re.search(r"ONLY=(\w+)", command)
    assert name is None or name.group(1) in assignments.names()


@pytest.mark.parametrize("command", of(".venv/bin/python -m leaklib.course.grading "))
def test_the_grader_understands_its_arguments(command, monkeypatch, tmp_path, tiny):
    arguments = shlex.split(command)[3:]
    asked = []
    (tmp_path / arguments[0]).mkdir()
    zipped = tmp_path / arguments[arguments.index("--autograder") + 1]
    zipped.parent.mkdir(parents=True)
    zipped.write_bytes(tiny.zip.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grading, "grade_notebooks", lambda *given: asked.append(given))
    monkeypatch.setattr(grading, "start_once", lambda: [])
    assert grading.main(arguments) == 0
    ((submissions, _, to, workers),) = asked
    assert (submissions.name, to.name, workers) == ("inbox", "graded", 4)


@pytest.mark.parametrize("command", of(".venv/bin/python -m leaklib.course.challenge "))
def test_the_challenge_knows_its_commands(command):
    _, _, _, name, *given = shlex.split(command)
    run = subprocess.run(
        [sys.executable, "-m", "leaklib.course.challenge", name, "--help"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for option in given:
        assert not option.startswith("--") or option in run.stdout


@pytest.mark.parametrize("name", assignments.names())
def test_page_head_and_questions_agree_on_an_assignment(name):
    (row,) = re.findall(
        rf"(?m)^\| `{name}` \|.*\| (.*) \| (.*) \| (\d+).* \|$", PAGES["instructors"]
    )
    cells = assignments.read(assignments.SOURCES / f"{name}.ipynb").cells
    head = cells[1].source
    chapters, time, points = re.search(
        r"\*\*You need\*\* chapters (.*?)\. \*\*Time:\*\* (.*?)[.,].*\*\*Points:\*\* (\d+)", head
    ).groups()
    in_hours = re.sub(r"(\d+) minutes", lambda m: f"{int(m[1]) / 60:g}", time)
    assert row == (chapters, in_hours.removesuffix(" hours"), points)
    told = re.findall(r"(?m)^\| \d+ .*?\| (\d+) \|", head)
    begun = [c.source for c in cells if c.source.startswith("# BEGIN QUESTION")]
    asked = [re.search(r"points: (\d+)", source)[1] for source in begun]
    assert told == asked and sum(map(int, asked)) == int(points)


@pytest.mark.parametrize("name", PAGES)
def test_links_to_pages_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGES[name]):
        assert (ROOT / "book" / target).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_the_page_can_be_found(name):
    assert f"- file: book/{name}" in (ROOT / "_toc.yml").read_text("utf-8")
    assert f"({name}.md)" in (ROOT / "book" / "welcome.md").read_text("utf-8")
