"""How a picture looks and how it becomes SVG for a page: colours for every eye, ink that follows the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from hxp_harness.report.text import one_line

# Okabe and Ito's palette: told apart by colour-blind readers, and readable on white and on black
BLUE, SKY, GREEN, AMBER, RED, PURPLE = "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7"
# Stand-ins that become the page's own colours, so that one picture serves light and dark
INK, RULE = "#1a1b1c", "#d0d1d2"

_PAGE = {INK: "currentColor", RULE: "var(--rule, #d0d1d2)", BLUE: "var(--blue, #0072b2)"}
_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hxp",
    "font.family": "sans-serif",
    "font.size": 11.0,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "legend.borderaxespad": 0.2,
}
_COLUMNS = 5
_LEGEND_SHARE = 0.85  # of the picture's width; the rest is for the axis and its name
Painter = Callable[[Figure], None]


def svg(name: str, describes: str, paint: Painter, *, width: float = 9.0, height: float = 3.6) -> str:
    """Return what `paint` draws as an SVG element to be put into a page, `width` by `height` inches at most.

    `name` keeps its ids apart from those of other pictures on the page; `describes` is read out to who cannot see it.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # the reader's browser has the glyph: text stays text in the file
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        paint(figure)
        sink = io.StringIO()
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None}, dpi=160)
    return _for_page(sink.getvalue(), name, describes)


def _for_page(text: str, name: str, describes: str) -> str:
    """Drop what only a file of its own needs (prolog, DOCTYPE, metadata) and size it by the page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(url\(|xlink:href=")#', rf"\1#{name}-", text)
    for ink, colour in _PAGE.items():
        text = text.replace(ink, colour)
    opening = f'<svg role="img" aria-label="{escape(one_line(describes))}"'
    sized = r'<svg([^>]*?) width="[^"]*" height="[^"]*"'
    return re.sub(sized, lambda found: f"{opening}{found[1]}", text, count=1).strip()


def plain_axes(figure: Figure, rows: int = 1, columns: int = 1, **shape: object) -> list[Axes]:
    """Return the axes of a grid, row by row, with tick marks taken away: the grid says where they are."""
    found = figure.subplots(rows, columns, squeeze=False, **shape)  # type: ignore[call-overload]  # passed on as given
    axes = [one for row in found for one in row]
    for one in axes:
        one.tick_params(length=0)
        one.set_facecolor("none")
    return axes


def above(axes: Axes) -> None:
    """Put the legend above the picture, where it hides no point; nothing where nothing is named.

    It takes as many rows as it needs: a row wider than the picture would take the width from the axes.
    """
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "columnspacing": 1.4}
        for columns in range(min(_COLUMNS, len(labels)), 0, -1):
            legend = axes.legend(handles, labels, ncols=columns, **place)
            if legend.get_window_extent().width <= _LEGEND_SHARE * axes.figure.bbox.width:
                break
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):  # a point as small and pale as in the picture could not be seen
                handle.set(sizes=[30.0], alpha=1.0)
