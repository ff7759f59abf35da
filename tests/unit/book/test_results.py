"""Saved results: found, written whole or not at all, and told with their intervals."""

import datetime
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import scipy.stats
import torch

import leaklib
from leaklib import analytic, models
from leaklib.book import results, scenes
from leaklib.book.plots import COLORS

ARMS = ("iDLG, normal", "DLG, normal")


def arm(*mses):
    return {"mse": list(mses), "converged": [mse < 1e-3 for mse in mses]}


@pytest.fixture
def result():
    """Two arms of four images of one set."""
    return {
        "provenance": results.provenance("python experiments/idlg.py", 0, digits={"n": 4}),
        "settings": {"images": 4, "arms": list(ARMS)},
        "sets": {
            "digits": {
                ARMS[0]: arm(1e-5, 2e-4, 5e-3, 0.2),
                ARMS[1]: arm(1e-5, 0.3, 0.3, 0.3),
            }
        },
    }


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The places where results are looked for: two of a checkout, and the package's."""
    places = tuple(tmp_path / name for name in ("experiments", "benchmarks", "package"))
    monkeypatch.setattr(results.file, "FOLDERS", places)
    return places


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_result_is_found_in_every_place(place, folders, result):
    results.save(folders[place] / "idlg.json", result)
    assert results.load("idlg") == results.as_saved(result)


def test_a_checkout_comes_before_the_package(folders, result):
    results.save(folders[2] / "idlg.json", {"old": 1})
    results.save(folders[0] / "idlg.json", result)
    assert "sets" in results.load("idlg")


def test_another_name_is_refused_with_those_there_are(folders, result):
    with pytest.raises(ValueError, match="^name: got 'idlg'; wanted .*there is none"):
        results.load("idlg")
    for place, name in zip(folders, "cab"):
        results.save(place / f"{name}.json", result)
    for wrong in ("idlg", "../experiments/c", ""):
        with pytest.raises(ValueError, match=r"^name: got .*a saved result \(a, b, c\)"):
            results.load(wrong)


def test_a_checkout_has_its_results_where_they_are_made():
    root = Path(leaklib.__file__).resolve().parents[1]
    assert [folder.relative_to(root).as_posix() for folder in results.FOLDERS] == [
        "experiments/results", "benchmarks/results", "leaklib/_results",
    ]  # fmt: skip
    settings = (root / "pyproject.toml").read_text("utf-8")
    assert '"experiments/results" = "leaklib/_results"' in settings
    assert results.FOLDERS[0].is_dir(), "the wheel cannot be built without it"


def test_an_installed_package_never_looks_beside_itself(tmp_path):
    package = tmp_path / "site-packages" / "leaklib"
    assert results.file.folders(package) == (package / "_results",)
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text("")
    assert results.file.folders(package)[0] == package.parent / "experiments" / "results"


def test_numbers_are_cut_short_and_columns_are_lines(tmp_path):
    path = tmp_path / "new" / "x.json"
    columns = {"mse": [0.123456789, 1 / 3e9, float("nan"), float("inf")], "n": [123456, True]}
    results.save(path, {"sets": {"ö": columns}})
    text = path.read_text("utf-8")
    assert json.loads(text)["sets"]["ö"] == {
        "mse": [0.1235, 3.333e-10, None, None],
        "n": [123456, True],
    }
    assert '   "mse": [0.1235, 3.333e-10, null, null],\n' in text and text.endswith("}\n")


def test_what_is_saved_once_is_saved_the_same_again(tmp_path, result):
    results.save(tmp_path / "a.json", result)
    results.save(tmp_path / "b.json", json.loads((tmp_path / "a.json").read_text("utf-8")))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, result, monkeypatch):
    path = tmp_path / "idlg.json"
    results.save(path, result)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        results.save(path, {"mse": torch.ones(2)})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["idlg.json"]

    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.save(path, {"new": 1})
    assert path.read_bytes() == before, "what is not renamed is not there"


def test_provenance_says_how_and_nothing_of_the_machine_but_its_kind():
    made = results.provenance("python experiments/idlg.py --images 4", 7, mnist={"n": 4})
    assert made["command"] == "python experiments/idlg.py --images 4" and made["seed"] == 7
    assert made["data"] == {"mnist": {"n": 4}}
    assert made["versions"].keys() == {"python", "torch", "numpy", "leaklib"}
    assert made["versions"]["leaklib"] == leaklib.__version__
    assert made["threads"] == torch.get_num_threads()
    today = datetime.datetime.now(datetime.UTC).date()
    assert 0 <= (today - datetime.date.fromisoformat(made["date"])).days <= 1
    assert "/" not in re.sub("experiments/idlg.py", "", json.dumps(made))


def test_provenance_refuses_a_path_of_this_machine(tmp_path):
    with pytest.raises(ValueError, match="^command: got .*wanted .*no absolute path"):
        results.provenance(f"python {tmp_path}/idlg.py", 0)


def test_fingerprint_is_of_the_pixels_and_the_labels():
    x, y = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    x = (x * 255).round() / 255
    same = results.fingerprint(x, y)
    assert re.fullmatch("[0-9a-f]{64}", same)
    assert results.fingerprint(x + 1e-6, y) == same, "the last digits differ by processor"
    changed = x.clone()
    changed[1, 0, 2, 2] = 1 - changed[1, 0, 2, 2]
    for other in ((changed, y), (x.flip(0), y), (x, y.flip(0)), (x.reshape(3, 1, 2, 8), y)):
        assert results.fingerprint(*other) != same


# --- numbers ------------------------------------------------------------------------------------


def test_only_finished_sets_are_shown(result):
    sets = result["sets"]
    sets["no arm"] = {}
    sets["one arm"] = {ARMS[0]: arm(0, 0, 0, 0)}
    sets["three images"] = {ARMS[0]: arm(0, 0, 0, 0), ARMS[1]: arm(0, 0, 0)}
    sets["empty arm"] = {ARMS[0]: arm(0, 0, 0, 0), ARMS[1]: {}}
    assert list(results.finished(result)) == ["digits"]


def test_recovered_is_below_the_threshold():
    columns = {"mse": [1e-4, 1e-3, 2e-3, None]}
    assert results.recovered(columns, 1e-3) == [True, False, False, False]
    assert results.recovered(columns, 1.5e-3) == [True, True, False, False]
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="^threshold: got"):
            results.recovered(columns, wrong)


def test_shares_have_wilsons_interval():
    one, none = results.shares({"one": [True, False, False], "none": torch.zeros(5).bool()})
    assert one == ("one", 1, 3, pytest.approx(1 / 3), *results.wilson(1, 3))
    assert none == ("none", 0, 5, 0, *results.wilson(0, 5))
    assert results.shares({}) == [] and results.Share.of("one", 1, 3) == one
    with pytest.raises(ValueError, match="^count: got 0 of 0"):
        results.shares({"of nothing": []})


def outcomes(only_a, only_b, both=10):
    return {
        "A": [True] * (both + only_a) + [False] * only_b,
        "B": [True] * both + [False] * only_a + [True] * only_b,
    }


@pytest.mark.parametrize(
    ("only_a", "only_b", "verdict", "p"),
    [
        (0, 0, "no different", "p = 1.000"),
        (5, 0, "no different", "p = 0.062"),
        (6, 0, "the first is higher", "p = 0.031"),
        (1, 8, "the first is lower", "p = 0.039"),
        (0, 90, "the first is lower", "p < 0.001"),
    ],
)
def test_the_sentence_is_true_whatever_the_numbers(only_a, only_b, verdict, p):
    text = results.compared(outcomes(only_a, only_b)).replace("\N{NO-BREAK SPACE}", " ")
    n = 10 + only_a + only_b
    assert text == (
        f"A {(10 + only_a) / n:.1%}, B {(10 + only_b) / n:.1%} of {n}: {verdict} by McNemar's test "
        f"(only the first {only_a}, only the second {only_b}; {p})."
    )
    wanted = scipy.stats.binomtest(only_a, n - 10).pvalue if n > 10 else 1
    assert ("no different" in text) == (wanted >= 0.05)


def test_a_sentence_is_about_two_paired_outcomes():
    for wrong in ({}, {"A": [True]}, {"A": [True], "B": [True], "C": [True]}):
        with pytest.raises(ValueError, match="^outcomes: got .*wanted two names"):
            results.compared(wrong)
    with pytest.raises(ValueError, match="^b: got 2 outcomes; wanted 1"):
        results.compared({"A": [True], "B": [True, False]})


# --- tables and figures -------------------------------------------------------------------------


def test_table_has_a_caption_and_headers_for_rows_and_columns():
    table = results.Table(["claim", "n"], [["labels", 200], ["`a < b` & c", 1]], caption="All `x`.")
    page = ET.fromstring(table._repr_html_())
    assert page.find(".//caption/code").text == "x"
    assert [(e.get("scope"), e.text) for e in page.findall(".//thead/tr/th")] == [
        ("col", "claim"), ("col", "n"),
    ]  # fmt: skip
    rows = page.findall(".//tbody/tr")
    assert [row.find("th").get("scope") for row in rows] == ["row"] * 2
    assert rows[0].find("th").text == "labels" and rows[0].find("td").text == "200"
    assert rows[1].find("th/code").text == "a < b"


def test_column_without_a_name_has_no_empty_header():
    """A header without words would be read out as one."""
    page = ET.fromstring(results.Table(["claim", ""], [["a", 1]], caption="x")._repr_html_())
    assert [e.tag for e in page.find(".//thead/tr")] == ["th", "td"]


def test_table_in_markdown_and_in_text():
    table = results.Table(["claim", "n"], [["a | b", 2]], caption="What it says.")
    wanted = "| claim | n |\n| --- | --- |\n| a \\| b | 2 |\n\nWhat it says."
    assert table._repr_markdown_() == repr(table) == wanted


def test_table_refuses_a_row_of_another_length():
    with pytest.raises(ValueError, match=r"^rows\[1\]: got 1 cells; wanted 2"):
        results.Table(["a", "b"], [[1, 2], [3]], caption="")


def test_a_plan_is_a_table_with_its_verdict():
    plan = analytic.plan(models.lenet(), (1, 3, 32, 32))
    table = results.plan_table(plan)
    assert "| `conv1` | Conv2d | 3,072 | 3,972 | 3,072 | 900 | 144 | enough |" in repr(table)
    assert table.caption.endswith("to the first; the largest matrix takes 0.075 GB.")
    page = ET.fromstring(table._repr_html_())
    layers = [row.find("th/code").text for row in page.findall(".//tbody/tr")]
    assert layers == [step.layer for step in plan.steps]


def test_the_table_of_a_plan_names_what_stops_it(own_network):
    wide = analytic.plan(models.lenet(size=64), (1, 3, 64, 64))
    table = results.plan_table(wide)
    assert table.caption == f"Stops: {wide.cause}." and "conv2" in wide.cause
    stopped = [row[0] for row in table.rows if row[-1] != "enough"]
    assert stopped == [f"`{step.layer}`" for step in wide.steps if step.cause] == ["`conv2`"]
    own = results.plan_table(analytic.plan(own_network(), (1, 1, 12, 12)))
    assert own.rows[0][:3] == ["the network", "Residual", "–"]


def panels(result, thresholds=(1e-3, 1e-2)):
    return {
        name: {
            arm: results.shares({f"{t:g}": results.recovered(held[arm], t) for t in thresholds})
            for arm in ARMS
        }
        for name, held in result["sets"].items()
    }


def test_figure_draws_each_share_with_its_interval(result):
    result["sets"]["others"] = result["sets"]["digits"]
    picture = results.figure(
        panels(result), xlabel="threshold", ylabel="recovered", caption="A caption."
    )
    assert picture.data == panels(result)
    axes = picture.figure.axes
    assert [axis.get_title() for axis in axes] == ["digits", "others"]
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["0.001", "0.01"]
    assert axes[0].get_xlabel() == "threshold" and axes[0].get_ylabel() == "recovered"
    for k, (points, caps, bars) in enumerate(axes[0].containers):
        assert points.get_color() == COLORS[k] and len(caps) == 2
        for share, y, (x_low, x_high) in zip(
            panels(result)["digits"][ARMS[k]], points.get_ydata(), bars[0].get_segments()
        ):
            assert y == share.share
            assert [x_low[1], x_high[1]] == pytest.approx([share.low, share.high])
    first, second = (container[0] for container in axes[0].containers)
    assert first.get_marker() != second.get_marker(), "not by color alone"
    assert first.get_xdata()[0] != second.get_xdata()[0], "no interval hides another"
    assert "digits: iDLG, normal: 50% at 0.001, 75% at 0.01" in picture.alt
    assert picture.caption == "A caption." and picture.png().startswith(b"\x89PNG")
    drawn = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert drawn == list(ARMS)


def test_figure_of_shares_that_are_all_or_none():
    """There Wilson's interval ends at the share, up to rounding."""
    rows = results.shares({"a": [True] * 7, "b": [False] * 7})
    results.figure({"p": {"s": rows}}, xlabel="x", ylabel="y", caption="", join=True).png()


def test_legend_of_many_series_stands_beside_the_last_panel():
    series = {f"attack {i}": results.shares({"a": [True, False]}) for i in range(5)}
    figure = results.figure({"net": series}, xlabel="x", ylabel="y", caption="c").figure
    assert not figure.legends
    drawn = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert drawn == list(series)


def test_figure_refuses_nothing_and_what_does_not_fit(result):
    words = dict(xlabel="x", ylabel="y", caption="")
    for empty in ({}, {"digits": {}}):
        with pytest.raises(ValueError, match="^panels: got .*wanted shares"):
            results.figure(empty, **words)
    different = panels(result)
    different["digits"][ARMS[1]] = different["digits"][ARMS[1]][:1]
    with pytest.raises(ValueError, match=r"^panels\['digits: DLG, normal'\]: got \['0.001'\]"):
        results.figure(different, **words)


def test_starts_and_solvers_shows_the_saved_experiment(monkeypatch):
    """Four images; each start and solver recovers another number of them."""
    arms = {
        f"iDLG, {start}, {solver}": arm(*[5e-4] * (i + j), *[0.1] * (4 - i - j))
        for i, start in enumerate(("normal", "uniform", "half", "zeros"))
        for j, solver in enumerate(("published", "safeguarded"))
    }
    saved = {"settings": {"images": 4, "arms": list(arms)}, "sets": {"faces": arms, "mnist": {}}}
    monkeypatch.setattr(results, "load", {"idlg": saved}.get)
    picture = scenes.starts_and_solvers(1e-3)
    shown = {
        panel: {solver: [s.share for s in rows] for solver, rows in series.items()}
        for panel, series in picture.data.items()
    }
    assert shown == {
        "faces": {"published": [0, 0.25, 0.5, 0.75], "safeguarded": [0.25, 0.5, 0.75, 1]}
    }, "MNIST is not finished"
    for start, share in zip(("normal", "uniform", "half", "zeros"), (0, 25, 50, 75), strict=True):
        assert f"{share}% at {start}" in picture.alt
    assert "MSE < 0.001" in picture.alt and "0.001" in picture.caption
    none = scenes.starts_and_solvers(1e-4).data["faces"]
    assert {s.count for rows in none.values() for s in rows} == {0}


def test_mean_has_students_interval():
    draw = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(400):
        found = results.mean((3 + 2 * torch.randn(5, generator=draw)).tolist())
        assert found.n == 5 and found.low < found.mean < found.high
        covered += found.low <= 3 <= found.high
    assert 0.92 < covered / 400 < 0.98
    same = results.mean([2.0, 2.0])
    assert (same.mean, same.low, same.high) == (2, 2, 2)
    for wrong in ([], [1.0], [1.0, None]):
        with pytest.raises(ValueError, match="^values: got .*two numbers or more"):
            results.mean(wrong)


@pytest.mark.parametrize(("count", "n"), [(0, 10), (3, 12), (97, 100), (5, 5)])
def test_wilson_interval_is_where_the_normal_test_accepts(count, n):
    """Its ends solve (count / n - p)^2 = 1.96^2 p (1 - p) / n."""
    share = count / n
    for p in results.wilson(count, n):
        assert (share - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / n, abs=1e-6)
    low, high = results.wilson(count, n)
    assert 0 <= low <= share <= high <= 1


@pytest.mark.parametrize(("count", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses_what_is_no_share(count, n):
    with pytest.raises(ValueError, match="count"):
        results.wilson(count, n)


def paired(both, only_a, only_b, neither):
    """Outcomes (a, b) of so many images of each kind."""
    a = [True] * both + [True] * only_a + [False] * only_b + [False] * neither
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


def test_mcnemar_by_hand():
    """Three coins that fall alike, in either of two ways: p = 2 / 2^3.  With 6 against 2 it is
    2 (1 + 8 + 28) / 2^8, for zero, one and two tails of eight coins."""
    assert results.mcnemar(*paired(5, 0, 3, 7)) == (0, 3, 0.25)
    assert results.mcnemar(*paired(9, 6, 2, 0)) == (6, 2, pytest.approx(74 / 256))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (4, 4), (21, 9), (2, 40)])
def test_mcnemar_is_the_binomial_test_of_those_that_differ(only_a, only_b):
    wanted = scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    for both, neither in ((0, 0), (100, 3)):
        a, b = paired(both, only_a, only_b, neither)
        found = results.mcnemar(torch.tensor(a), torch.tensor(b))
        assert found == (only_a, only_b, pytest.approx(wanted))
        assert results.mcnemar(b, a) == (only_b, only_a, pytest.approx(wanted)), "two-sided"


@pytest.mark.parametrize("a", [[True, False, True], [False] * 4])
def test_mcnemar_of_two_that_never_differ(a):
    assert results.mcnemar(a, a) == (0, 0, 1.0)


def test_mcnemar_refuses_what_is_not_paired_or_not_boolean():
    with pytest.raises(ValueError, match="^b: got 2 outcomes; wanted 3, one for each of a"):
        results.mcnemar([True, False, True], [True, False])
    for wrong in ([1, 0], torch.rand(2), [], torch.ones(2, 1).bool()):
        with pytest.raises(ValueError, match="^a: got shape .*wanted booleans"):
            results.mcnemar(wrong, [True, False])
        with pytest.raises(ValueError, match="^b: got shape"):
            results.mcnemar([True, False], wrong)
