"""The picture of a comparison: each change with its bounds, beside the margin."""

from __future__ import annotations

from matplotlib.figure import Figure

from hxp_harness.comparison.effect import Change
from hxp_harness.comparison.record import Comparison
from hxp_harness.report.figure import AMBER, BLUE, GREEN, INK, RED, RULE, above, plain_axes, svg

_COLOURS = {Change.REGRESSION: RED, Change.IMPROVEMENT: GREEN, Change.SAME: BLUE, Change.INCONCLUSIVE: AMBER}


def changes(record: Comparison) -> str | None:
    """Draw the changes of figures that have a ratio; None where there is none."""
    shown = [one for one in record.effects if one.unit != "ratio"]
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        (axes,) = plain_axes(figure)
        places = range(len(shown))
        axes.axvspan(-100 * record.margin, 100 * record.margin, color=RULE, alpha=0.5, label="margin", linewidth=0)
        axes.axvline(0.0, color=INK, linewidth=0.8)
        for place, one in zip(places, shown, strict=True):
            axes.hlines(place, 100 * one.low, 100 * one.high, color=_COLOURS[one.outcome], linewidth=3.0)
            axes.scatter([100 * one.change], [place], color=_COLOURS[one.outcome], s=40, zorder=3)
        axes.set_yticks(list(places), [one.name for one in shown])
        axes.invert_yaxis()
        axes.set_xlabel("change from A to B, %")
        above(axes)

    return svg("changes", "Change of each figure from A to B with its bounds", paint, height=1.2 + 0.4 * len(shown))
