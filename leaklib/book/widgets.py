"""Pictures that react: in a kernel by ipywidgets, in the built book by themselves."""

from __future__ import annotations

import html
import inspect
import json
import os
from collections.abc import Callable, Sequence
from itertools import product

from .._errors import bad
from .plots import Picture

__all__ = ["explore"]

MOST_FRAMES = 200


def explore(fn: Callable[..., Picture], **grid: Sequence[object]) -> object:
    """Show fn(**values) and a slider for each name in the grid.

    fn must be a plain function that returns a `plots.Picture`.  A slider begins at fn's own default
    where the grid has it, else at its first value.  With LEAKBOOK_BUILD=1 every combination is
    drawn at once, and the result is a page that needs no kernel, no server and no other file: a
    still picture, which the sliders change where scripts run.  Otherwise ipywidgets show it.
    Raises ValueError for an empty grid, more than 200 combinations, or another kind of result.
    """
    if not grid or not all(len(values) for values in grid.values()):
        raise bad("grid", {name: list(v) for name, v in grid.items()}, "values for each slider")
    combinations = list(product(*grid.values()))
    if len(combinations) > MOST_FRAMES:
        raise bad("grid", f"{len(combinations)} combinations", f"at most {MOST_FRAMES}")
    if os.environ.get("LEAKBOOK_BUILD") == "1":
        pictures = [_picture(fn, dict(zip(grid, values, strict=True))) for values in combinations]
        return _Page(pictures, grid, _beginning(fn, grid))
    return _box(fn, grid)


class _Page:
    """All pictures of a grid as one piece of HTML."""

    def __init__(
        self, pictures: list[Picture], grid: dict[str, Sequence[object]], start: dict[str, int]
    ):
        self.pictures, self.grid, self.start = pictures, grid, start
        number = 0
        for name, values in grid.items():
            number = number * len(values) + start[name]
        self.still = pictures[number]

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        still = self.still
        return {"text/html": self.html(), "image/png": still.png(), "text/plain": still.alt}

    def html(self) -> str:
        still, sizes = self.still, [len(values) for values in self.grid.values()]
        frames = [dict(src=p.source(), alt=p.alt, caption=p.caption) for p in self.pictures]
        labels = [[_label(value) for value in values] for values in self.grid.values()]
        content = json.dumps(dict(frames=frames, sizes=sizes, labels=labels))
        # inside a script element "</script" and "<!--" would be read as HTML
        content = content.replace("<", "\\u003c")
        sliders = "".join(
            _slider(parameter, values, self.start[parameter])
            for parameter, values in zip(self.grid, labels, strict=True)
        )
        return (
            '<figure class="leak-explore">'
            f'<img alt="{html.escape(still.alt)}" src="{still.source()}">'
            '<div class="leak-controls" role="group" aria-label="Settings of the picture" hidden>'
            f"{sliders}</div>"
            f'<figcaption aria-live="polite">{html.escape(still.caption)}</figcaption>'
            f'<script type="application/json">{content}</script>'
            f"<script>{SCRIPT}</script></figure>"
        )


def _slider(name: str, labels: Sequence[str], start: int) -> str:
    # a screen reader says aria-valuetext; the same words in `output` it would say once more
    value = html.escape(labels[start])
    return (
        f"<label>{html.escape(name.replace('_', ' '))} "
        f'<input type="range" min="0" max="{len(labels) - 1}" step="1" value="{start}" '
        f'aria-valuetext="{value}"><output aria-hidden="true">{value}</output></label>'
    )


# frames are numbered with the last slider changing fastest, as itertools.product counts
SCRIPT = """(() => {
const root = document.currentScript.parentElement;
const {frames, sizes, labels} = JSON.parse(root.querySelector("script").textContent);
const sliders = [...root.querySelectorAll("input")];
const image = root.querySelector("img"), caption = root.querySelector("figcaption");
const show = () => {
  let number = 0;
  sliders.forEach((slider, i) => {
    const value = labels[i][slider.value];
    number = number * sizes[i] + Number(slider.value);
    slider.setAttribute("aria-valuetext", value);
    slider.nextElementSibling.textContent = value;
  });
  image.src = frames[number].src;
  image.alt = frames[number].alt;
  caption.textContent = frames[number].caption;
};
// the frames may be files: they are on their way before the first one is asked for
const prepare = () => frames.forEach((frame) => { new Image().src = frame.src; });
for (const touch of ["pointerenter", "focusin"]) {
  root.addEventListener(touch, prepare, {once: true});
}
// a browser that goes back to the page remembers the slider, but not the picture
sliders.forEach((slider) => { slider.value = slider.defaultValue; });
sliders.forEach((slider) => slider.addEventListener("input", show));
root.querySelector(".leak-controls").hidden = false;
})();"""


def _box(fn: Callable[..., Picture], grid: dict[str, Sequence[object]]) -> object:
    import ipywidgets

    start = _beginning(fn, grid)
    sliders = {
        name: ipywidgets.SelectionSlider(
            options=[(_label(value), value) for value in values],
            index=start[name],
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


def _beginning(fn: Callable[..., Picture], grid: dict[str, Sequence[object]]) -> dict[str, int]:
    """The position at which each slider begins."""
    defaults = {name: p.default for name, p in inspect.signature(fn).parameters.items()}
    positions = {name: list(values) for name, values in grid.items()}
    return {
        name: values.index(defaults[name]) if defaults.get(name) in values else 0
        for name, values in positions.items()
    }


def _picture(fn: Callable[..., Picture], values: dict[str, object]) -> Picture:
    picture = fn(**values)
    if not isinstance(picture, Picture):
        raise bad("fn", f"a result of type {type(picture).__name__}", "a plots.Picture")
    return picture


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
