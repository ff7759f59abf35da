"""A table with a caption, in HTML and in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from ..._errors import bad
from ...analytic import Plan


class Table:
    """A table with a caption; the first cell of each row says what the row is about.

    Shows itself at the end of a cell.  A part of a cell between backticks is code.
    Raises ValueError for a row that is not as long as the header.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str):
        for i, row in enumerate(rows):
            if len(row) != len(header):
                raise bad(f"rows[{i}]", f"{len(row)} cells", f"{len(header)}, as the header has")
        self.header, self.caption = list(header), caption
        self.rows = [[str(cell) for cell in row] for row in rows]

    def html(self) -> str:
        head = "".join(
            f'<th scope="col">{_marked(cell)}</th>' if cell else "<td></td>" for cell in self.header
        )
        body = "".join(
            f'<tr><th scope="row">{_marked(first)}</th>'
            + "".join(f"<td>{_marked(cell)}</td>" for cell in others)
            + "</tr>"
            for first, *others in self.rows
        )
        return (
            '<div class="pst-scrollable-table-container"><table class="table leak-table">'
            f"<caption>{_marked(self.caption)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join([*(f"| {' | '.join(line)} |" for line in cells), "", self.caption])

    def __repr__(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        return self.html()

    def _repr_markdown_(self) -> str:
        return self.markdown()


def plan_table(plan: Plan) -> Table:
    """The systems of `analytic.plan`, a row each, with the verdict as the caption."""
    rows = []
    for step in plan.steps:
        counts = (step.unknowns, step.equations, step.outputs, step.weights, step.repeated)
        cells = [f"{n:,}" if step.unknowns else "–" for n in counts]
        name = f"`{step.layer}`" if step.layer else "the network"
        rows.append([name, step.kind, *cells, step.cause or "enough"])
    return Table(
        ["layer", "", "unknowns", "equations", "of outputs", "of weights", "repeated", "verdict"],
        rows,
        caption=plan.verdict,
    )


def _marked(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
