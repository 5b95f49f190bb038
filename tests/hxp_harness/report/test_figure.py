"""A picture keeps its width whatever its legend says."""

from __future__ import annotations

from matplotlib.figure import Figure

from hxp_harness.report.figure import above, plain_axes, svg


def test_long_names_leave_the_picture_its_width() -> None:
    """A legend too long for one row takes more rows: no name is cut off, and the axes stay as wide as the picture."""
    drawn: list[Figure] = []

    def paint(figure: Figure) -> None:
        drawn.append(figure)
        (axes,) = plain_axes(figure)
        for number in range(5):
            axes.plot([0, 1], [0, number], label=f"requests of the kind number {number}")
        above(axes)

    svg("wide", "Five lines with long names", paint)
    (axes,) = drawn[0].axes
    legend = axes.get_legend()
    assert legend is not None
    assert axes.get_position().width > 0.8
    assert legend.get_window_extent().x1 <= drawn[0].bbox.x1
