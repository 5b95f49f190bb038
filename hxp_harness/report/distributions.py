"""The pictures of a run as a whole: how values are distributed, and where the estimates lie against the limit."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hxp_harness.metrics.definitions import METRICS, Sample, Values
from hxp_harness.metrics.table import Floats, TraceTable
from hxp_harness.report.figure import AMBER, BLUE, GREEN, INK, PURPLE, RED, SKY, above, plain_axes, svg
from hxp_harness.report.record import GateResult, Record
from hxp_harness.report.text import one_line
from hxp_harness.report.words import standing

STEPS = 400  # points of a drawn curve
LONGEST_LABEL = 48  # characters: beyond it there is no room for the picture
VISIBLE = 0.002  # share of the picture's width from which a band can be seen
COLOURS = {"PASS": GREEN, "FAIL": RED, "INCONCLUSIVE": AMBER, "INVALID": PURPLE}


def cdf(gate: GateResult, table: TraceTable, number: int) -> str | None:
    """Draw the distribution of a gated latency with its percentile, limit, guard and interval; None without values."""
    sample = METRICS[gate.metric].values(table.measured)
    if not len(sample.hi):
        return None

    def paint(figure: Figure) -> None:
        (axes,) = plain_axes(figure)
        _curve(axes, sample)
        _gate_lines(axes, gate)
        if (q := _quantile(gate.statistic)) is not None:
            axes.axhline(q, color=INK, linewidth=0.9, linestyle=":", label=gate.statistic)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(left=0)
        axes.set_ylabel("share of requests" if gate.metric != "itl" else "share of gaps")
        axes.set_xlabel(f"{gate.metric}, ms")
        above(axes)

    return svg(f"cdf{number}", f"Cumulative distribution of {gate.metric} with the limit of: {gate.text}", paint)


def distributions(table: TraceTable) -> str | None:
    """Draw how TTFT and ITL are distributed; None where neither has values."""
    measured = table.measured
    found = [(name, METRICS[name].values(measured).hi) for name in ("ttft", "itl")]
    found = [(name, values) for name, values in found if len(values)]
    if not found:
        return None

    def paint(figure: Figure) -> None:
        for axes, (name, values) in zip(plain_axes(figure, 1, len(found)), found, strict=True):
            _histogram(axes, name, values)

    return svg("distributions", "Distributions of time to first token and of gaps between tokens", paint, height=3.2)


def replicate_estimates(record: Record) -> str | None:
    """Draw each replicate's estimate, confidence interval, guard and limit, gate by gate, as shares of the limit."""
    gates = [gate for gate in record.gates if gate.limit > 0]
    if not gates:
        return None

    def paint(figure: Figure) -> None:
        (axes,) = plain_axes(figure)
        top = _right_end(gates)
        for row, gate in enumerate(gates):
            _dots(axes, gate, COLOURS[standing(gate, record)], row, top)
        axes.axvline(1.0, color=RED, linewidth=1.8, label="limit")
        axes.set_xlim(0, top)
        axes.set_ylim(len(gates) - 0.4, -0.6)
        axes.set_yticks(range(len(gates)), [one_line(gate.text, LONGEST_LABEL) for gate in gates])
        axes.xaxis.set_major_formatter(lambda share, _: f"{share * 100:g} %")
        axes.set_xlabel("of the limit")
        axes.grid(visible=False, axis="y")
        above(axes)

    describes = "Estimates of the replicates and the confidence interval of each gate, against its limit"
    return svg("estimates", describes, paint, height=1.4 + 0.62 * len(gates))


def _curve(axes: Axes, sample: Sample) -> None:
    """Draw the curve between its two bounds; failures are infinitely late, so it then ends below 1."""
    shares = np.linspace(0.0, 1.0, STEPS)
    lo_ms, hi_ms = (_quantiles_ms(values, shares) for values in (sample.lo, sample.hi))
    height = shares * len(sample.hi) / sample.n
    axes.plot(hi_ms, height, color=BLUE, linewidth=2.0, label="measured")
    if float(np.max(hi_ms - lo_ms)) > VISIBLE * float(hi_ms[-1]):
        axes.fill_betweenx(height, lo_ms, hi_ms, color=SKY, alpha=0.5, linewidth=0, label="its bounds")


def _quantiles_ms(values: Values, shares: Floats) -> Floats:
    return np.asarray(np.quantile(values, shares, method="higher"), np.float64) * 1e3


def _gate_lines(axes: Axes, gate: GateResult) -> None:
    axes.axvline(gate.limit * 1e3, color=RED, linewidth=1.8, label=f"limit {gate.limit * 1e3:.4g} ms")
    if gate.guard is not None:
        axes.axvline(
            gate.guard * 1e3, color=AMBER, linewidth=1.4, linestyle="--", label=f"guard {gate.guard * 1e3:.4g} ms"
        )
    if gate.low is not None and gate.high is not None:
        name = f"confidence of {gate.statistic}"
        axes.axvspan(gate.low * 1e3, gate.high * 1e3, color=GREEN, alpha=0.3, linewidth=0, label=name)


def _histogram(axes: Axes, name: str, values: Values) -> None:
    """Draw up to p99.9 and say what is left out: one straggler would squeeze all others into one bar."""
    values_ms = np.asarray(values, np.float64) * 1e3
    end_ms = float(np.quantile(values_ms, 0.999))
    shown = values_ms[values_ms <= end_ms]
    counts, edges_ms = np.histogram(shown, bins=60)
    axes.stairs(counts * (100.0 / len(values_ms)), edges_ms, fill=True, color=BLUE, alpha=0.85)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("% of requests" if name == "ttft" else "% of gaps")
    beyond = len(values_ms) - len(shown)
    axes.set_xlabel(f"{name}, ms" + (f" (up to p99.9; the longest is {values_ms.max():.4g} ms)" if beyond else ""))


def _dots(axes: Axes, gate: GateResult, colour: str, row: int, top: float) -> None:
    name = "confidence interval" if row == 0 else None
    if gate.low is not None or gate.high is not None:
        low = (gate.low or 0.0) / gate.limit
        high = top if gate.high is None else gate.high / gate.limit
        axes.plot(
            [low, min(high, top)], [row, row], color=colour, linewidth=9, alpha=0.4, solid_capstyle="butt", label=name
        )
    if gate.guard is not None:
        guard = gate.guard / gate.limit
        axes.plot(
            [guard, guard], [row - 0.34, row + 0.34], color=AMBER, linewidth=1.6, linestyle="--", label=name and "guard"
        )
    shares = [top if high is None else min(high / gate.limit, top) for _, high in gate.estimates]
    if shares:
        spread = np.linspace(-0.16, 0.16, len(shares))
        axes.scatter(shares, row + spread, s=18, color=BLUE, zorder=3, clip_on=False, label=name and "one replicate")
    if gate.estimate is not None:
        share = min(gate.estimate / gate.limit, top)
        axes.scatter([share], [row], marker="D", s=42, color=INK, zorder=4, label=name and "estimate")


def _right_end(gates: list[GateResult]) -> float:
    """Leave room for all that is finite, and never cut at more than three limits: the verdict is near the limit."""
    seen = [1.15]
    for gate in gates:
        values = [gate.high, gate.estimate, *(high for _, high in gate.estimates)]
        seen += [value / gate.limit * 1.06 for value in values if value is not None]
    return min(max(seen), 3.0)


def _quantile(statistic: str) -> float | None:
    try:
        q = float(statistic.removeprefix("p")) / 100
    except ValueError:
        return None
    return q if 0 < q < 1 and not math.isnan(q) else None
