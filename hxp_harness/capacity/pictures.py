"""The pictures of a search: what each rate cost, and what a user gets for what the machine gives."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hxp_harness.capacity.point import Point, frontier
from hxp_harness.capacity.record import CapacityRecord
from hxp_harness.gates.outcome import Outcome
from hxp_harness.report.figure import AMBER, BLUE, GREEN, INK, PURPLE, RED, above, plain_axes, svg

_COLOURS = {Outcome.PASS: GREEN, Outcome.FAIL: RED, Outcome.INCONCLUSIVE: AMBER, Outcome.INVALID: PURPLE}


def latency_by_rate(record: CapacityRecord) -> str | None:
    """Draw the gated latency and the completed rate over the offered one, with bracket, knee and cliff."""
    shown = [one for one in record.points if one.gated_s is not None and one.outcome is not Outcome.INVALID]
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        upper, lower = plain_axes(figure, 2, 1, sharex=True, height_ratios=(3, 2))
        _scatter(upper, shown, [one.rate_rps for one in shown], [(one.gated_s or 0.0) * 1e3 for one in shown])
        upper.set_yscale("log")
        upper.set_ylabel("gated latency, ms")
        rates = [one.rate_rps for one in shown if one.completed_rps is not None]
        lower.scatter(rates, [one.completed_rps for one in shown if one.completed_rps is not None], s=22, color=BLUE)
        lower.plot([0, max(rates, default=1.0)], [0, max(rates, default=1.0)], color=INK, linewidth=0.8, linestyle=":")
        lower.set_ylabel("completed, rps")
        lower.set_xlabel("offered, requests/s")
        for rate, name, colour, style in (
            (record.passes_at_rps, "passes at", GREEN, "-"),
            (record.fails_at_rps, "fails at", RED, "-"),
            (record.knee_rps, "knee", INK, "--"),
            (record.cliff_rps, "cliff", PURPLE, "--"),
        ):
            if rate is not None:
                upper.axvline(rate, color=colour, linestyle=style, linewidth=1.2, label=f"{name} {rate:.4g} rps")
        above(upper)

    return svg("latency-by-rate", "Gated latency and completed rate at each offered rate", paint, height=4.6)


def pareto(record: CapacityRecord) -> str | None:
    """Draw tokens/s over all users against tokens/s that one user sees, and the frontier of what can be had."""
    best = frontier(record.points)
    if not best:
        return None
    shown = [one for one in record.points if one.tokens_per_s and one.tokens_per_s_user]
    shown = [one for one in shown if one.outcome is not Outcome.INVALID]

    def paint(figure: Figure) -> None:
        (axes,) = plain_axes(figure)
        edge = [(one.tokens_per_s_user or 0.0, one.tokens_per_s or 0.0) for one in best]
        axes.step(*zip(*edge, strict=True), where="post", color=INK, linewidth=1.0, label="frontier")
        _scatter(
            axes, shown, [one.tokens_per_s_user or 0.0 for one in shown], [one.tokens_per_s or 0.0 for one in shown]
        )
        for one in best:
            place = (one.tokens_per_s_user or 0.0, one.tokens_per_s or 0.0)
            axes.annotate(f"{one.rate_rps:.3g} rps", place, textcoords="offset points", xytext=(6, 4), fontsize=9)
        axes.set_xlabel("output tokens/s as one user sees them")
        axes.set_ylabel("output tokens/s, all users")
        axes.set_ylim(bottom=0)
        above(axes)

    return svg("pareto", "Output tokens a second of the machine against those of one user", paint)


def _scatter(axes: Axes, points: list[Point], x: list[float], y: list[float]) -> None:
    for outcome, colour in _COLOURS.items():
        own = [place for place, one in enumerate(points) if one.outcome is outcome]
        if own:
            axes.scatter([x[i] for i in own], [y[i] for i in own], s=34, color=colour, label=outcome.value, zorder=3)
