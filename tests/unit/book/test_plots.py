"""Every figure says in words what it shows, and leaves Matplotlib as it found it."""

import base64
import io

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from leaklib import attacks, client, metrics, models
from leaklib.book import plots
from leaklib.leak import stack


@pytest.fixture(autouse=True)
def matplotlib_is_left_alone():
    before, figures = dict(matplotlib.rcParams), plt.get_fignums()
    yield
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == figures


@pytest.fixture(scope="module")
def out(small_digits):
    """Two victims attacked for forty evaluations."""
    x, y = small_digits
    model = models.lenet(1, 12)
    leak = stack(client.share_gradient(model, x[i : i + 1], y[i : i + 1]) for i in (0, 1))
    return attacks.idlg(model, leak, (1, 1, 12, 12), steps=40)


def lines(caption="A caption.", **settings):
    return plots.lines(
        [1, 2, 3], {"first": [1.0, 2.0, 12.5]}, xlabel="x", ylabel="y", caption=caption, **settings
    )


def drawn(picture):
    return Image.open(io.BytesIO(picture.png()))


# --- Picture ------------------------------------------------------------------------------------


def test_picture_is_a_png_and_a_page():
    picture = lines()
    image = drawn(picture)
    assert image.format == "PNG" and image.size[0] > 500
    assert len(image.convert("L").getcolors()) > 5, "something is drawn"
    data, encoded = picture.source().split(",")
    assert data == "data:image/webp;base64"
    packed = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert packed.size == image.size
    assert packed.convert("RGB").tobytes() == image.convert("RGB").tobytes(), "lossless"


def test_page_holds_alternative_text_and_caption():
    page = lines(caption="What it means.", alt="What is seen.").html()
    assert 'alt="What is seen."' in page and "<figcaption>What it means.</figcaption>" in page
    assert page.count("<img") == 1


def test_words_are_escaped():
    nasty = "\"><script>alert('x')</script> & <b>"
    page = lines(caption=nasty, alt=nasty).html()
    assert "<script" not in page and "<b>" not in page and 'alt="&quot;&gt;' in page
    assert "&amp;" in page


def test_notebook_gets_page_image_and_text():
    picture = lines(alt="What is seen.")
    bundle = picture._repr_mimebundle_()
    assert bundle["text/html"] == picture.html() and bundle["text/plain"] == "What is seen."
    assert bundle["image/png"].startswith(b"\x89PNG")


def test_figure_can_be_changed_and_shown_again():
    picture = lines()
    before = picture.png()
    assert picture.png() == before, "drawing is repeatable"
    picture.figure.axes[0].set_title("another")
    assert picture.png() != before


def test_style_of_the_reader_does_not_matter():
    before = lines().png()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        changed = lines().png()
    assert drawn(lines()).size[0] > 0 and len(changed) > 0
    assert lines().png() == before


def test_picture_carries_its_numbers_and_those_that_are_added(small_digits):
    x = small_digits[0][:1]
    more = {"recovered": 0.5}
    for picture in (
        plots.images({"private": x}, caption="", data=more),
        plots.row({"private": x}, caption="", data=more),
        lines(data=more),
        plots.bars({"a": 1.0}, ylabel="y", caption="", data=more),
    ):
        assert picture.data["recovered"] == 0.5 and len(picture.data) > 1
    assert plots.Picture(picture.figure, alt="", caption="").data == {}


# --- images -------------------------------------------------------------------------------------


def test_images_say_their_scores(small_digits):
    x = small_digits[0][:3]
    noisy = (x + 0.1).clamp(0, 1)
    picture = plots.images({"private": x, "noisy": noisy, "same": x}, caption="", titles="abc")
    db = picture.data["psnr"]
    assert list(db) == ["noisy", "same"] and torch.equal(db["noisy"], metrics.psnr(noisy, x))
    assert f"noisy {float(db['noisy'].median()):.1f} dB" in picture.alt
    for word in ("3 rows of 3 images", "private", "noisy", "same", "a, b, c"):
        assert word in picture.alt
    labels = [axis.get_xlabel() for axis in picture.figure.axes]
    assert labels[:3] == ["", "", ""] and labels[6:] == ["> 100 dB"] * 3
    assert labels[3:6] == [f"{float(value):.1f} dB" for value in db["noisy"]]
    assert drawn(picture).size[0] > 100


def test_images_without_scores(small_digits):
    x = small_digits[0][:2]
    picture = plots.images({"private": x, "other": 1 - x}, caption="", score=False)
    assert "dB" not in picture.alt and not any(a.get_xlabel() for a in picture.figure.axes)
    assert picture.data["psnr"] == {}
    assert plots.row({"private": x[:1], "other": 1 - x[:1]}, caption="", score=False).alt == (
        "One image each: private, other."
    )


def test_images_of_an_attack_stand_below_the_private_ones(small_digits, out):
    picture = plots.images({"private": small_digits[0][:2], "iDLG": out.images}, caption="")
    assert len(picture.figure.axes) == 4 and "iDLG" in picture.alt


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_clamped_and_colors_kept(channels):
    x = torch.full((1, channels, 5, 5), 7.0)
    x[:, 0] = 0.25
    (axis,) = plots.images({"x": x}, caption="").figure.axes
    shown = axis.images[0].get_array()
    assert shown.shape == ((5, 5) if channels == 1 else (5, 5, 3)) and shown.max() <= 1


def test_rows_of_different_length_are_refused(small_digits):
    x = small_digits[0]
    with pytest.raises(ValueError, match="^rows: .*'a': 2.*'b': 3.*one length"):
        plots.images({"a": x[:2], "b": x[:3]}, caption="")
    with pytest.raises(ValueError, match=r"^rows\['a'\]: got shape"):
        plots.images({"a": x[0, 0]}, caption="")
    with pytest.raises(ValueError, match="^rows: "):
        plots.images({}, caption="")


@pytest.mark.parametrize("others", [0, 1, 2])
def test_row_says_the_score_of_each(others, small_digits):
    x = small_digits[0][:1]
    named = {"private": x} | {f"guess {i}": (x + 0.1 * i + 0.1).clamp(0, 1) for i in range(others)}
    picture = plots.row(named, caption="")
    assert picture.alt.startswith("One image each: private")
    assert picture.alt.count(" dB") == others and drawn(picture).size[0] > 50
    db = {name: float(metrics.psnr(image, x)) for name, image in list(named.items())[1:]}
    assert picture.data["psnr"] == db
    assert all(f"{name} {value:.1f} dB" in picture.alt for name, value in db.items())


def test_row_takes_single_images(small_digits):
    with pytest.raises(ValueError, match="shape"):
        plots.row({"private": small_digits[0][:2]}, caption="")


# --- the attack along the way -------------------------------------------------------------------


@pytest.mark.parametrize("victim", [0, 1])
def test_snapshots_say_how_near_each_is(victim, small_digits, out):
    x = small_digits[0][victim]
    picture = plots.snapshots(out, x, caption="", victim=victim)
    first = float(metrics.psnr(out.snapshots[1][victim], x[None]))
    last = float(metrics.psnr(out.images[victim], x[None]))
    assert f"1: {first:.1f} dB" in picture.alt
    assert f"best of {int(out.evaluations[victim])}: {last:.1f} dB" in picture.alt
    titles = [axis.get_title() for axis in picture.figure.axes]
    assert titles[:2] == ["1", "2"] and titles[-1] == "private"
    assert list(picture.data["psnr"]) == titles[:-1]
    assert picture.data["psnr"]["1"] == first and list(picture.data["psnr"].values())[-1] == last
    assert len(plots.snapshots(out, x, caption="", most=2).figure.axes) == 4


def test_convergence_says_where_each_ends(out):
    picture = plots.convergence({"iDLG": out, "other": out}, caption="")
    for name in ("iDLG", "other"):
        assert picture.data["objective"][name] is out.objective
        assert f"{name} ends at a median of {float(out.objective.median()):.1e}" in picture.alt
    (axis,) = picture.figure.axes
    assert axis.get_xlabel() == "evaluations" and axis.get_xscale() == axis.get_yscale() == "log"
    for line in axis.lines:
        assert (line.get_ydata()[1:] <= line.get_ydata()[:-1]).all(), "best so far"
    assert plots.convergence({"a": out}, caption="", alt="mine").alt == "mine"


# --- numbers ------------------------------------------------------------------------------------


def test_lines_say_where_they_begin_and_end():
    picture = plots.lines(
        [0, 1], {"a": [0.25, 3], "b": [1, 2]}, xlabel="noise", ylabel="PSNR", caption="",
        xscale="symlog", mark=(1, 3),
    )  # fmt: skip
    assert picture.alt == "PSNR against noise: a from 0.25 to 3; b from 1 to 2."
    assert picture.data == {"x": [0, 1], "curves": {"a": [0.25, 3], "b": [1, 2]}}
    (axis,) = picture.figure.axes
    assert axis.get_legend() is not None and axis.get_xscale() == "symlog"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("noise", "PSNR")
    assert lines().figure.axes[0].get_legend() is None, "one curve needs none"


def test_bars_say_every_value():
    picture = plots.bars({"0": -0.75, "1": 0.125}, ylabel="gradient", caption="", highlight="0")
    assert picture.alt == "Bars of gradient: 0: -0.75, 1: 0.125."
    assert picture.data == {"values": {"0": -0.75, "1": 0.125}}
    (axis,) = picture.figure.axes
    assert [bar.get_height() for bar in axis.patches] == [-0.75, 0.125]
    assert axis.patches[0].get_facecolor() != axis.patches[1].get_facecolor()
    assert axis.patches[0].get_hatch(), "not by color alone"
    assert axis.patches[0].get_edgecolor() == (1, 1, 1, 1), "or the hatching is not seen"


def test_bars_are_shown_against_the_truth():
    truth = {"cat": 2.0, "dog": 0.0}
    picture = plots.bars({"cat": 1.0, "dog": 1.0}, ylabel="images", caption="", truth=truth)
    assert picture.alt == "Bars of images: cat: 1, dog: 1; the truth: 2, 0."
    (axis,) = picture.figure.axes
    (drawn,) = axis.collections
    assert [segment[:, 1].tolist() for segment in drawn.get_segments()] == [[2, 2], [0, 0]]
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["truth"]


def test_a_curve_may_end_early():
    picture = plots.lines(
        [1, 2, 3], {"a": [0.5, 0.25, float("nan")], "b": [1, 1, 2]}, xlabel="B", ylabel="share",
        caption="",
    )  # fmt: skip
    assert picture.alt == "share against B: a from 0.5 to 0.25; b from 1 to 2."


def test_colors_are_told_apart():
    assert len(set(plots.COLORS)) == len(plots.COLORS) >= 6
