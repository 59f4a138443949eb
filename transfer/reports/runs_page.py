"""A page about runs as one self-contained HTML file: tables, and curves as SVG in the page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from ..plots.curves import Curve, draw_curves
from ..plots.figures import write_figure
from ..runs import RunSummary
from ..runs_table import TextTable
from .html import environment, page_style

#: Runs in one figure: more colors and markers could not be told apart.
_RUNS_IN_A_FIGURE = 8


def render_runs(
    title: str, runs: Sequence[RunSummary], tables: dict[str, TextTable], notes: Sequence[str]
) -> str:
    """Render runs as a page without scripts that loads nothing.

    Args:
        title: The heading.
        runs: The runs whose curves are drawn, in the order of the figures.
        tables: The tables by their captions.
        notes: What became of runs without a result.
    """
    template = environment().get_template("runs.html")
    return template.render(
        title=title, tables=tables, figures=list(_figures(runs)), notes=notes, style=page_style()
    )


def _figures(runs: Sequence[RunSummary]) -> Iterator[tuple[str, Markup]]:
    """Yield what each figure shows, and its SVG."""
    curves = [Curve(run.name, run.history) for run in runs if run.history]
    for number, start in enumerate(range(0, len(curves), _RUNS_IN_A_FIGURE)):
        shown = curves[start : start + _RUNS_IN_A_FIGURE]
        names = ", ".join(curve.name for curve in shown)
        yield f"Loss and accuracy by epoch: {names}.", _svg(shown, f"f{number}-")


def _svg(curves: Sequence[Curve], prefix: str) -> Markup:
    """Return a figure as an element of a page, in which the names of its parts are its own."""
    stream = io.BytesIO()
    write_figure(draw_curves(curves), stream, ".svg")
    whole = stream.getvalue().decode("utf-8")
    element = whole[whole.index("<svg") :]
    element = re.sub(r'\bid="', f'id="{prefix}', element)
    element = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", element)
    return Markup(element)
