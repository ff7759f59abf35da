"""Pictures that react: in a kernel by ipywidgets, in the built book by themselves."""

from __future__ import annotations

import hashlib
import html
import json
import os
from collections.abc import Callable, Sequence
from itertools import product

from ._errors import bad
from .plots import Picture

MOST_FRAMES = 200


def explore(fn: Callable[..., Picture], **grid: Sequence[object]) -> object:
    """Show fn(**values) and a slider for each name in the grid, beginning at its first value.

    fn must be a plain function that returns a `plots.Picture`.  With LEAKBOOK_BUILD=1 every
    combination is drawn at once and the result is a page that needs no kernel, no server and no
    other file: a still picture, which sliders change where scripts run.  Otherwise: ipywidgets.
    Raises ValueError for an empty grid, more than 200 combinations, or another kind of result.
    """
    if not grid or not all(len(values) for values in grid.values()):
        raise bad("grid", {name: list(v) for name, v in grid.items()}, "values for each slider")
    combinations = list(product(*grid.values()))
    if len(combinations) > MOST_FRAMES:
        raise bad("grid", f"{len(combinations)} combinations", f"at most {MOST_FRAMES}")
    if os.environ.get("LEAKBOOK_BUILD") == "1":
        pictures = [_picture(fn, dict(zip(grid, values, strict=True))) for values in combinations]
        return _Page(pictures, grid)
    return _box(fn, grid)


class _Page:
    """All pictures of a grid as one piece of HTML."""

    def __init__(self, pictures: list[Picture], grid: dict[str, Sequence[object]]):
        self.pictures, self.grid = pictures, grid

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        first = self.pictures[0]
        return {"text/html": self.html(), "image/png": first.png(), "text/plain": first.alt}

    def html(self) -> str:
        first, sizes = self.pictures[0], [len(values) for values in self.grid.values()]
        frames = [dict(src=p.source(), alt=p.alt, caption=p.caption) for p in self.pictures]
        told = [[_told(value) for value in values] for values in self.grid.values()]
        # "</" would end the script element early
        content = json.dumps(dict(frames=frames, sizes=sizes, told=told)).replace("</", "<\\/")
        name = f"leak-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        sliders = "".join(
            f"<label>{html.escape(parameter.replace('_', ' '))} "
            f'<input type="range" min="0" max="{size - 1}" step="1" value="0" '
            f'aria-valuetext="{html.escape(values[0])}">'
            f"<output>{html.escape(values[0])}</output></label>"
            for parameter, size, values in zip(self.grid, sizes, told, strict=True)
        )
        return (
            f'<figure class="leak-explore" id="{name}">'
            f'<img alt="{html.escape(first.alt)}" src="{frames[0]["src"]}">'
            f'<div class="leak-controls" hidden>{sliders}</div>'
            f'<figcaption aria-live="polite">{html.escape(first.caption)}</figcaption>'
            f'<script type="application/json">{content}</script>'
            f"<script>{SCRIPT.replace('NAME', name)}</script></figure>"
        )


# frames are numbered with the last slider changing fastest, as itertools.product counts
SCRIPT = """(() => {
const root = document.getElementById("NAME");
const {frames, sizes, told} = JSON.parse(root.querySelector("script").textContent);
const sliders = [...root.querySelectorAll("input")];
const image = root.querySelector("img"), caption = root.querySelector("figcaption");
const show = () => {
  let number = 0;
  sliders.forEach((slider, i) => {
    const value = told[i][slider.value];
    number = number * sizes[i] + Number(slider.value);
    slider.setAttribute("aria-valuetext", value);
    slider.nextElementSibling.textContent = value;
  });
  image.src = frames[number].src;
  image.alt = frames[number].alt;
  caption.textContent = frames[number].caption;
};
sliders.forEach((slider) => { slider.value = 0; slider.addEventListener("input", show); });
root.querySelector(".leak-controls").hidden = false;
})();"""


def _box(fn: Callable[..., Picture], grid: dict[str, Sequence[object]]) -> object:
    import ipywidgets

    sliders = {
        name: ipywidgets.SelectionSlider(
            options=[(_told(value), value) for value in values],
            description=name.replace("_", " "),
            continuous_update=False,
            style={"description_width": "initial"},
        )
        for name, values in grid.items()
    }
    image, caption = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_: object = None) -> None:
        picture = _picture(fn, {name: slider.value for name, slider in sliders.items()})
        image.value, image.alt = picture.png(), picture.alt
        caption.value = f"<p>{html.escape(picture.caption)}</p>"

    for slider in sliders.values():
        slider.observe(show, names="value")
    show()
    return ipywidgets.VBox([image, *sliders.values(), caption])


def _picture(fn: Callable[..., Picture], values: dict[str, object]) -> Picture:
    picture = fn(**values)
    if not isinstance(picture, Picture):
        raise bad("fn", f"a result of type {type(picture).__name__}", "a leaklib.plots.Picture")
    return picture


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
