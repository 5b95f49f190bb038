"""The pictures of a run over time: latency of each request, and the rates offered and achieved."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hxp_harness.gates.course import course_of
from hxp_harness.metrics.definitions import window
from hxp_harness.metrics.table import Floats, TraceTable
from hxp_harness.report.figure import AMBER, BLUE, INK, PURPLE, RED, RULE, SKY, above, plain_axes, svg
from hxp_harness.report.record import GateResult, Record
from hxp_harness.telemetry.series import ServerSeries
from hxp_harness.trace import ErrorKind

MOST_POINTS = 20_000  # beyond it points cover each other, and only the file grows
MOST_MARKS = 400
MOST_BINS = 900
LOG_FROM = 8.0  # largest value over the limit from which a linear axis would flatten what matters


def latency_over_time(record: Record, table: TraceTable, series: ServerSeries | None = None) -> str:
    """Draw e2e of each request at its intended time, with the limit, failures and the replicates' boundaries.

    Below it, on the same axis, what the server said of its queue, its batch and its KV cache.
    """
    gate = next((gate for gate in record.gates if gate.metric == "e2e" and not gate.scope), None)

    def paint(figure: Figure) -> None:
        axes, *below = (
            plain_axes(figure) if series is None else plain_axes(figure, 2, 1, sharex=True, height_ratios=(3, 2))
        )
        e2e_ms = (table.last_hi_s - table.intended_s) * 1e3
        fine = table.ok & ~np.isnan(e2e_ms)
        _points(axes, table.intended_s[fine], e2e_ms[fine])
        if gate is not None:
            axes.axhline(gate.limit * 1e3, color=RED, linewidth=1.6, label=f"limit {gate.limit * 1e3:.4g} ms")
            _replicate_levels(axes, gate, table)
        _scale(axes, e2e_ms[fine], None if gate is None else gate.limit * 1e3)
        stopped = table.error == ErrorKind.UNFINISHED.value
        _marks(axes, table.intended_s[~fine & ~stopped], "failed", RED)
        _marks(axes, table.intended_s[stopped], "open when the run was stopped", SKY)
        _boundaries(axes, table)
        _course(axes, table)
        (below[0] if below else axes).set_xlabel("intended send, s since the start")
        axes.set_ylabel("e2e, ms")
        above(axes)
        if series is not None:
            _server(below[0], series)

    describes = "End-to-end latency of every request over time"
    if series is not None:
        describes += ", and below it the server's queue, batch and use of KV cache"
    return svg("latency", describes, paint, height=3.6 if series is None else 5.4)


def _server(axes: Axes, series: ServerSeries) -> None:
    """Draw what the server told; readings that did not come leave a gap and a mark."""
    for name, colour, word in (("running", BLUE, "running"), ("waiting", AMBER, "waiting in its queue")):
        axes.plot(series.at_s, series[name], color=colour, linewidth=1.4, label=word)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("requests")
    lost_s = series.at_s[[bool(error) for error in series.errors]]
    if len(lost_s):
        marks = np.full(len(lost_s), 0.97)
        word = f"no reading ({len(lost_s)})"
        axes.scatter(lost_s, marks, marker="x", s=22, color=RED, transform=axes.get_xaxis_transform(), label=word)
    if not np.isnan(series["kv_cache_usage"]).all():
        right = axes.twinx()
        right.plot(series.at_s, series["kv_cache_usage"] * 100, color=PURPLE, linewidth=1.2, linestyle="--")
        axes.plot([], [], color=PURPLE, linewidth=1.2, linestyle="--", label="KV cache in use, % (right)")
        right.set_ylim(0, 105)
        right.grid(visible=False)
        right.tick_params(length=0)
        right.spines["top"].set_visible(False)
    above(axes)


def rates(table: TraceTable) -> str:
    """Draw the rate offered and achieved in bins of one second, and below it the requests in flight."""

    def paint(figure: Figure) -> None:
        upper, lower = plain_axes(figure, 2, 1, sharex=True, height_ratios=(3, 2))
        ends_s = table.end_s[table.ok & ~np.isnan(table.end_s)]
        end_s = max(float(table.intended_s.max(initial=0.0)), float(ends_s.max(initial=0.0)))
        bin_s = max(math.ceil(end_s / MOST_BINS), 1)
        edges_s = np.arange(0.0, end_s + 2 * bin_s, bin_s)
        for times_s, name, colour in ((table.intended_s, "offered", AMBER), (ends_s, "achieved (completed)", BLUE)):
            counts, _ = np.histogram(times_s, edges_s)
            upper.stairs(counts / bin_s, edges_s, color=colour, label=name, linewidth=1.3)
        upper.set_ylim(bottom=0)
        upper.set_ylabel(f"requests/s, bins of {bin_s} s")
        at_s, open_requests = in_flight(table, edges_s)
        lower.fill_between(at_s, open_requests, step="post", color=SKY, alpha=0.55, linewidth=0)
        lower.set_ylim(bottom=0)
        lower.set_ylabel("in flight")
        lower.set_xlabel("s since the start")
        above(upper)

    return svg("rates", "Request rate offered and achieved, and requests in flight, over time", paint, height=4.2)


def in_flight(table: TraceTable, at_s: Floats) -> tuple[Floats, Floats]:
    """Return how many requests were sent and not ended at each time of `at_s`."""
    sent = ~np.isnan(table.sent_s)
    starts_s = np.sort(table.sent_s[sent])
    ends_s = np.sort(np.where(np.isnan(table.end_s), np.inf, table.end_s)[sent])
    open_requests = np.searchsorted(starts_s, at_s, "right") - np.searchsorted(ends_s, at_s, "right")
    return at_s, open_requests.astype(np.float64)


def _points(axes: Axes, at_s: Floats, values_ms: Floats) -> None:
    step = math.ceil(len(at_s) / MOST_POINTS) or 1
    name = "one request" if step == 1 else f"one request in {step}"
    axes.scatter(
        at_s[::step], values_ms[::step], s=5, color=BLUE, alpha=0.45, linewidths=0, rasterized=True, label=name
    )


def _replicate_levels(axes: Axes, gate: GateResult, table: TraceTable) -> None:
    """Draw each replicate's own estimate over its window: what the gate compares with the limit."""
    name = f"{gate.statistic} of a replicate"
    for number, (_, high) in zip(table.replicates, gate.estimates, strict=False):
        if high is not None:
            span = window(table, number)
            axes.hlines(high * 1e3, span.start_s, span.end_s, color=INK, linewidth=1.8, label=name)
            name = "_"  # matplotlib leaves out of the legend what begins so


def _course(axes: Axes, table: TraceTable) -> None:
    """Mark what was measured before latency had settled, and where it changed its level or how it drifted."""
    course = course_of(table, table.replicates)
    due_s = np.sort(table.intended_s[(table.replicate >= 0) & (table.index >= course.settled)])
    if len(due_s) < 2:
        return
    if course.cut:
        first_s = float(table.intended_s[table.replicate >= 0].min())
        axes.axvspan(first_s, float(due_s[0]), color=AMBER, alpha=0.25, linewidth=0, label="not settled, not judged")
    if course.change is None:
        return
    if course.change.place is not None:
        at_s = float(due_s[min(int(course.change.place * len(due_s)), len(due_s) - 1)])
        axes.axvline(at_s, color=RED, linestyle="--", label=f"jump to {course.change.factor:.2f} times")
        return
    level_ms = float(np.median((table.last_hi_s - table.intended_s)[table.ok & (table.tokens_seen > 0)])) * 1e3
    ends_ms = (level_ms / math.sqrt(course.change.factor), level_ms * math.sqrt(course.change.factor))
    label = f"drift to {course.change.factor:.2f} times"
    axes.plot((due_s[0], due_s[-1]), ends_ms, color=RED, linestyle="--", label=label)


def _scale(axes: Axes, values_ms: Floats, limit_ms: float | None) -> None:
    highest = max(float(values_ms.max(initial=0.0)), limit_ms or 0.0)
    typical = limit_ms or (float(np.median(values_ms)) if len(values_ms) else 0.0)
    if typical > 0 and highest > LOG_FROM * typical:
        axes.set_yscale("log")
    elif highest > 0:
        axes.set_ylim(0, highest * 1.12)


def _marks(axes: Axes, at_s: Floats, label: str, colour: str) -> None:
    if len(at_s) == 0:
        return
    step = math.ceil(len(at_s) / MOST_MARKS)
    heights = np.full(len(at_s[::step]), 0.97)
    axes.scatter(
        at_s[::step],
        heights,
        marker="x",
        s=22,
        color=colour,
        linewidths=1.2,
        transform=axes.get_xaxis_transform(),
        label=f"{label} ({len(at_s)})",
    )


def _boundaries(axes: Axes, table: TraceTable) -> None:
    warm_up_s = table.intended_s[table.replicate < 0]
    numbers = table.replicates
    starts_s = [window(table, number).start_s for number in numbers]
    if len(warm_up_s):
        end_s = starts_s[0] if starts_s else float(warm_up_s.max())
        axes.axvspan(float(warm_up_s.min()), end_s, color=RULE, alpha=0.35, linewidth=0, label="warm-up")
    if len(starts_s) <= MOST_MARKS:
        axes.vlines(starts_s, 0, 1, transform=axes.get_xaxis_transform(), color=RULE, linewidth=1.0)
    axes.margins(x=0.01)
