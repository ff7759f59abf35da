"""The tools that keep the notebooks alike and build the book."""

import json
import os
import re
import subprocess
import sys
import types

import pytest

import book
import leaklib
import linkcheck
import notebooks
import repository
import setup_cell

CONFIG = """\
title: A book

# a comment
repository:
  # another
  url: https://github.com/some_one/project
  branch: main

execute:
  execute_notebooks: "off"
"""


def code(source, **more):
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {**cell, "source": source.splitlines(keepends=True), **more}


def notebook(*cells):
    title = {"cell_type": "markdown", "id": "t", "metadata": {}, "source": ["# Gradienten, $∇ℓ$"]}
    return {"cells": [title, *cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def project(tmp_path):
    """A tiny project with two chapters."""
    for folder in ("notebooks", "book", "leaklib", "_build"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_config.yml").write_text(CONFIG)
    (tmp_path / "_toc.yml").write_text("format: jb-book\n")
    (tmp_path / "requirements.txt").write_text("torch\n")
    (tmp_path / "leaklib" / "__init__.py").write_text('__version__ = "0.7.1"\n')
    (tmp_path / "book" / "welcome.md").write_text("# Welcome\n")
    (tmp_path / "book" / "build.md").write_text(f"# Build\n\n{book.NOT_BUILT}")
    for name in ("01_a", "02_b"):
        text = notebooks.text(notebook(code("print(1)", id="c")))
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(text, "utf-8")
    return tmp_path


def first(project):
    return project / "notebooks" / "01_a.ipynb"


# --- setup cell


def test_setup_cell_comes_after_the_title_and_names_address_and_version(project):
    setup_cell.main(check=False, root=project)
    cells = notebooks.read(first(project))["cells"]
    assert [cell["id"] for cell in cells] == ["t", "setup", "c"]
    cell = "".join(cells[1]["source"])
    assert 'source = "git+https://github.com/some_one/project@main"' in cell
    assert 'os.environ.get("LEAKLIB_SPEC", f"leaklib[privacy] @ {source}")' in cell
    assert cell.endswith('import leaklib.book\n\nleaklib.book.setup("0.7.1")')


def test_setup_cell_written_twice_changes_nothing(project):
    setup_cell.main(check=False, root=project)
    once = first(project).read_bytes()
    setup_cell.main(check=False, root=project)
    assert first(project).read_bytes() == once


@pytest.mark.parametrize("call", ["leaklib.setup()", 'leaklib.book.setup("0.2.0")'])
def test_setup_cell_takes_the_place_of_an_older_one(call, project):
    old = code(f"import leaklib\n{call}", id="x")
    first(project).write_text(notebooks.text(notebook(code("1", id="c"), old)), "utf-8")
    setup_cell.main(check=False, root=project)
    assert [c["id"] for c in notebooks.read(first(project))["cells"]] == ["t", "setup", "c"]


def test_setup_cell_check_names_the_notebook_and_leaves_it(project, capsys):
    setup_cell.main(check=False, root=project)
    assert not setup_cell.main(check=True, root=project)
    text = first(project).read_text("utf-8").replace("@main", "@elsewhere")
    first(project).write_text(text, "utf-8")
    capsys.readouterr()
    assert setup_cell.main(check=True, root=project)
    assert capsys.readouterr().out.startswith(os.path.join("notebooks", "01_a.ipynb"))
    assert first(project).read_text("utf-8") == text


@pytest.fixture
def run_setup_cell(project, monkeypatch):
    """Run the cell twice; return what it asked pip for, and leaklib.book.setup."""

    def run(installed):
        asked, calls = [], []
        shell = types.SimpleNamespace(run_line_magic=lambda name, line: asked.append((name, line)))
        floor = types.SimpleNamespace(setup=calls.append)
        monkeypatch.setitem(sys.modules, "leaklib", types.SimpleNamespace(book=floor))
        monkeypatch.setitem(sys.modules, "leaklib.book", floor)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: installed)
        source = "".join(setup_cell.setup_cell(project)["source"])
        for _ in range(2):
            exec(source, {"get_ipython": lambda: shell})
        return asked, calls

    return run


def test_setup_cell_installs_nothing_where_leaklib_is(run_setup_cell):
    assert run_setup_cell(installed=object()) == ([], ["0.7.1", "0.7.1"])


def test_setup_cell_installs_from_the_repository_where_leaklib_is_missing(
    run_setup_cell, monkeypatch
):
    monkeypatch.delenv("LEAKLIB_SPEC", raising=False)
    asked, _ = run_setup_cell(installed=None)
    wanted = 'install -q "leaklib[privacy] @ git+https://github.com/some_one/project@main"'
    assert asked[0] == ("pip", wanted)


def test_setup_cell_installs_what_the_environment_names(run_setup_cell, monkeypatch):
    monkeypatch.setenv("LEAKLIB_SPEC", "/a folder/leaklib")
    asked, _ = run_setup_cell(installed=None)
    assert asked[0] == ("pip", 'install -q "/a folder/leaklib"')


def test_every_page_asks_for_the_version_of_this_checkout():
    for path in notebooks.paths():
        cells = notebooks.read(path)["cells"]
        assert f'leaklib.book.setup("{leaklib.__version__}")' in "".join(cells[1]["source"])


# --- address


def test_repository_changes_the_address_everywhere(project):
    for name in repository.COPIES:
        (project / name).write_text("see https://github.com/some_one/project\n")
    repository.set_address("https://github.com/me/mine.git", "book", root=project)
    config = (project / "_config.yml").read_text()
    assert setup_cell.repository(config) == ("https://github.com/me/mine", "book")
    assert config.startswith(CONFIG[:30]) and "# another" in config
    for name in repository.COPIES:
        assert (project / name).read_text() == "see https://github.com/me/mine\n"
    assert "git+https://github.com/me/mine@book" in first(project).read_text("utf-8")


def test_repository_keeps_the_branch(project):
    repository.set_address("https://github.com/me/mine", None, root=project)
    config = (project / "_config.yml").read_text()
    assert setup_cell.repository(config) == ("https://github.com/me/mine", "main")


@pytest.mark.parametrize("url", ["", "mine", "https://github.com", "git@github.com:me/mine"])
def test_repository_wants_an_address(project, url):
    with pytest.raises(ValueError, match="URL is"):
        repository.set_address(url, None, root=project)
    assert (project / "_config.yml").read_text() == CONFIG


# Whose addresses stand in a file, in a link or in what Colab and pip take.
OWNERS = re.compile(r"(?:github(?:usercontent)?\.com|google\.com/github)/([\w.-]+/[\w.-]+)")
PAGES = re.compile(r"[\w-]+\.github\.io[\w./-]*")
# Papers' own code, other people's packages, and stand-ins in examples and tests.
OF_OTHERS = ("book/references.md", "book/assets/", "tools/repository.py", "tests/")


def project_files():
    """What git would keep of this checkout, as paths relative to it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=notebooks.ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if (notebooks.ROOT / name).is_file()]


def addresses(pattern):
    """{(file, address)} in all files of the project but those that name others' repositories."""
    found = set()
    for name in project_files():
        if not name.startswith(OF_OTHERS):
            text = (notebooks.ROOT / name).read_bytes().decode("utf-8", errors="ignore")
            found |= {(name, match.removesuffix(".git")) for match in pattern.findall(text)}
    return found


def test_every_file_names_the_repository_of_the_one_setting():
    url, branch = setup_cell.repository((notebooks.ROOT / "_config.yml").read_text("utf-8"))
    ours = url.removeprefix("https://github.com/")
    found = addresses(OWNERS)
    assert {(name, address) for name, address in found if address != ours} == set()
    naming = {name for name, _ in found}
    assert {"_config.yml", "CITATION.cff", "book/contributing.md"} <= naming
    for path in notebooks.paths():
        assert f"git+{url}@{branch}" in path.read_text("utf-8"), path.name


def test_no_file_says_where_the_site_is_published():
    """That follows from the setting, and would go wrong when it changes."""
    stand_in = "OWNER.github.io/NAME/"
    assert {(n, a) for n, a in addresses(PAGES) if a != stand_in} == set()


# --- links


def link(status, uri="https://a.example/", info=""):
    return dict(status=status, uri=uri, info=info, filename="book/a.md", lineno=3)


def test_linkcheck_names_the_dead_links_and_where_they_stand():
    told, well = linkcheck.report([link("working"), link("broken", info="404 Not Found")])
    assert not well
    assert "book/a.md:3 https://a.example/: 404 Not Found" in told
    assert told.endswith("1 links alive, 0 refused, 1 dead")


def test_linkcheck_does_not_fail_where_a_site_refuses_machines():
    told, well = linkcheck.report([link("redirected"), link("broken", info="403 Forbidden")])
    assert well
    assert "https://a.example/: refused" in told


def test_linkcheck_says_in_one_line_that_nothing_could_be_reached():
    told, well = linkcheck.report([link("broken", info="no name")] * 300 + [link("ignored")])
    assert not well
    assert told == "None of 300 links could be reached: is this machine on the internet?"


# --- outputs


def test_outputs_are_found_and_removed(project, capsys):
    full = code("1", id="c", execution_count=3, outputs=[{"output_type": "stream"}])
    full["metadata"] = {"execution": {"iopub.status.busy": "now"}, "tags": ["x"]}
    first(project).write_text(notebooks.text(notebook(full)), "utf-8")
    assert notebooks.apply(notebooks.without_outputs, True, "holds outputs", project)
    assert "01_a.ipynb: holds outputs" in capsys.readouterr().out
    assert not notebooks.apply(notebooks.without_outputs, False, "", project)
    assert notebooks.read(first(project))["cells"][1] == code("1", id="c") | {
        "metadata": {"tags": ["x"]}
    }
    assert "∇ℓ" in first(project).read_text("utf-8")


# --- build


@pytest.fixture
def builder(project, monkeypatch):
    """The builder with pytest and Jupyter Book replaced; ``ran`` holds what was asked of them."""
    state = types.SimpleNamespace(root=project, ran=[], fails=set(), build_fails=False)

    def run(command, cwd, env=None):
        if command[0].endswith("jupyter-book"):
            state.ran.append("site")
            (project / "_build" / "html").mkdir()
            (project / "_build" / "html" / "index.html").write_text("x")
            return types.SimpleNamespace(returncode=int(state.build_fails))
        names = [os.path.basename(part) for part in command if part.endswith(".ipynb")]
        state.ran += names
        state.env = env
        report = next(part.split("=", 1)[1] for part in command if part.startswith("--junit"))
        inside = {name: "<failure/>" if name in state.fails else "" for name in names}
        cases = [f'<testcase name="{n}" time="1.5004">{inside[n]}</testcase>' for n in names]
        with open(report, "w") as file:
            file.write(f"<testsuite>{''.join(cases)}</testsuite>")
        return types.SimpleNamespace(returncode=0)

    def build():
        state.ran.clear()
        return book.main(project)

    monkeypatch.setattr(book.subprocess, "run", run)
    state.build = build
    return state


def test_second_build_does_nothing(builder):
    assert builder.build() == 0
    assert builder.ran == ["01_a.ipynb", "02_b.ipynb", "site"]
    assert builder.env["LEAKBOOK_BUILD"] == "1" and builder.env["OMP_NUM_THREADS"] == "1"
    assert builder.build() == 0
    assert builder.ran == []


def test_a_changed_notebook_alone_is_executed_again(builder):
    builder.build()
    first(builder.root).write_text(notebooks.text(notebook(code("print(2)", id="c"))), "utf-8")
    builder.build()
    assert builder.ran == ["01_a.ipynb", "site"]


@pytest.mark.parametrize("name", ["leaklib/__init__.py", "requirements.txt"])
def test_a_change_below_all_notebooks_executes_all(builder, name):
    builder.build()
    (builder.root / name).write_text("y = 2\n")
    builder.build()
    assert builder.ran[:2] == ["01_a.ipynb", "02_b.ipynb"]


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_a_new_result_executes_all(builder, folder):
    """Any page may show it."""
    builder.build()
    saved = builder.root / folder / "results"
    saved.mkdir(parents=True)
    (saved / "idlg.json").write_text("{}")
    builder.build()
    assert builder.ran[:2] == ["01_a.ipynb", "02_b.ipynb"]
    builder.build()
    assert builder.ran == []


def test_a_changed_page_builds_the_site_only(builder):
    builder.build()
    (builder.root / "book" / "welcome.md").write_text("# Hello\n")
    builder.build()
    assert builder.ran == ["site"]


def test_a_failed_notebook_fails_the_build_and_is_executed_again(builder):
    builder.fails = {"02_b.ipynb"}
    assert "failed" in builder.build()
    assert "site" not in builder.ran
    builder.fails = set()
    assert builder.build() == 0
    assert builder.ran == ["02_b.ipynb", "site"]


def test_a_failed_site_is_built_again(builder):
    builder.build_fails = True
    assert builder.build() != 0
    builder.build_fails = False
    assert builder.build() == 0
    assert builder.ran == ["site"]


def test_a_notebook_that_is_gone_leaves_the_copy(builder):
    builder.build()
    first(builder.root).unlink()
    builder.build()
    assert builder.ran == ["site"]
    assert not (builder.root / ".book" / "notebooks" / "01_a.ipynb").exists()


def test_a_record_of_another_form_executes_all_again(builder):
    builder.build()
    (builder.root / ".book" / "executed.json").write_text('{"01_a.ipynb": "a hash"}')
    assert builder.build() == 0
    assert builder.ran[:2] == ["01_a.ipynb", "02_b.ipynb"]


def build_page(builder):
    return (builder.root / ".book" / "book" / "build.md").read_text("utf-8")


def test_the_build_page_says_how_long_each_notebook_took(builder):
    builder.build()
    page = build_page(builder)
    assert "| [](../notebooks/01_a.ipynb) | 1.5 |\n| [](../notebooks/02_b.ipynb) | 1.5 |" in page
    assert "| **All 2** | **3.0** |" in page
    assert book.NOT_BUILT not in page


def test_the_build_page_names_the_day_the_machine_and_the_versions(builder, monkeypatch):
    builder.build()
    page = build_page(builder)
    place = book.read_record(builder.root / ".book" / "executed.json")["where"]
    assert re.search(r"on 20\d\d-\d\d-\d\d \(UTC\)", page)
    assert f"{os.cpu_count()} cores ({place['processor']})" in page
    for name in ("Python", *book.PACKAGES.split()):
        assert re.search(rf"(?m)^\| {name} \| \d[\w.+]* \|$", page), name


def test_the_build_page_changes_only_when_something_is_executed(builder, monkeypatch):
    builder.build()
    before = build_page(builder)
    later = {"day": "2100-01-01", "processor": "Z80", "cores": 1, "versions": {}}
    monkeypatch.setattr(book, "where", lambda: later)
    builder.build()
    assert build_page(builder) == before
    first(builder.root).write_text(notebooks.text(notebook(code("print(2)", id="c"))), "utf-8")
    builder.build()
    assert "2100-01-01" in build_page(builder)


def test_processor_is_named_where_the_system_tells_it(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: another\n")
    assert book.processor(told) == "Some CPU @ 2 GHz"
    assert book.processor(tmp_path / "none")


def test_sources_are_never_modified(builder):
    before = first(builder.root).read_bytes()
    builder.build()
    assert first(builder.root).read_bytes() == before
    record = json.loads((builder.root / ".book" / "executed.json").read_text())
    assert record["notebooks"].keys() == {"01_a.ipynb", "02_b.ipynb"}
