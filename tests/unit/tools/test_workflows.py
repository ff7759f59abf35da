"""The workflows: when they run, what they call, what they may do."""

import re

import pytest
import yaml

import notebooks
import setup_cell

ROOT = notebooks.ROOT
FILES = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
WORKFLOWS = {name: yaml.safe_load(path.read_text("utf-8")) for name, path in FILES.items()}
TARGETS = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8")))

every_workflow = pytest.mark.parametrize("name", sorted(WORKFLOWS))


def occasions(name):
    """What stands under ``on:``, a word that YAML reads as True."""
    return WORKFLOWS[name][True]


def steps(name):
    return [step for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]


def commands(name):
    lines = "\n".join(step.get("run", "") for step in steps(name)).splitlines()
    return [line for line in lines if line]


def actions(name):
    return [step["uses"] for step in steps(name) if "uses" in step]


def test_there_are_three_workflows():
    assert set(WORKFLOWS) == {"test", "publish", "weekly"}


@every_workflow
def test_a_workflow_calls_only_what_there_is(name):
    assert commands(name)
    for command in commands(name):
        if command == ".ci/run":
            assert (ROOT / command).stat().st_mode & 0o100, "not executable"
        else:
            make, target = command.split()
            assert make == "make" and target in TARGETS


@every_workflow
def test_actions_are_the_official_ones_at_a_major_version(name):
    for action in actions(name):
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", action)


def test_all_workflows_use_one_version_of_an_action():
    used = {action for name in WORKFLOWS for action in actions(name)}
    assert len({action.split("@")[0] for action in used}) == len(used)


@every_workflow
def test_a_workflow_names_no_repository(name):
    """The address stands in _config.yml alone."""
    text = FILES[name].read_text("utf-8")
    url, _ = setup_cell.repository((ROOT / "_config.yml").read_text("utf-8"))
    assert url not in text and "://" not in text


@every_workflow
def test_every_job_has_a_time_limit(name):
    assert all(0 < job["timeout-minutes"] <= 360 for job in WORKFLOWS[name]["jobs"].values())


def test_every_change_is_tested_on_the_oldest_python_and_a_newer_one():
    assert set(occasions("test")) == {"push", "pull_request"}
    assert occasions("test")["push"] == {"branches": ["**"]}
    assert commands("test") == [".ci/run"]
    (job,) = WORKFLOWS["test"]["jobs"].values()
    oldest, newest = job["strategy"]["matrix"]["python"]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'requires-python = ">={oldest}"' in project
    # a version that is not a string would be 3.1 where 3.10 is meant
    assert isinstance(newest, str) and newest != oldest


def test_the_book_is_published_on_tags_alone_and_after_its_tests():
    assert occasions("publish") == {"push": {"tags": ["v*"]}}
    jobs = WORKFLOWS["publish"]["jobs"]
    assert jobs["publish"]["needs"] == "build"
    order = [step.get("run") or step["uses"].split("@")[0] for step in jobs["build"]["steps"]]
    assert order.index(".ci/run") < order.index("actions/upload-pages-artifact")
    (upload,) = (s for s in jobs["build"]["steps"] if "upload-pages" in s.get("uses", ""))
    assert upload["with"] == {"path": "_build/html"}


def test_only_the_job_that_publishes_may_write():
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
    allowed = {
        name: job["permissions"]
        for workflow in WORKFLOWS.values()
        for name, job in workflow["jobs"].items()
        if "permissions" in job
    }
    assert allowed == {"publish": {"pages": "write", "id-token": "write"}}


def test_every_week_all_is_run_that_a_change_leaves_out():
    assert set(occasions("weekly")) == {"schedule", "workflow_dispatch"}
    slow = ["nightly", "colab", "linkcheck"]
    assert commands("weekly") == [".ci/run", *(f"make {target}" for target in slow)]
    # one that fails does not hide what the others would find
    assert all("cancelled" in step["if"] for step in steps("weekly") if "make" in str(step))


def test_every_week_nothing_comes_from_a_cache():
    assert not any("cache" in step.get("with", {}) for step in steps("weekly"))
