"""The outcomes of the benchmark of load generators as Markdown, and which goals ours met."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from scipy import stats

from benchmarks.load.job import METRICS, STATISTICS
from benchmarks.load.measured import Outcome, rung_holds

NONE = "-"
KS_LEVEL = 0.01


def tables(found: Any, tools: Sequence[str]) -> str:
    """Return every table, and the goals."""
    parts = [
        "### Error at 10 rps, ms: reported minus true\n",
        _table(
            ("tool", *(f"{metric} {name}" for metric in METRICS for name in STATISTICS)),
            [_errors(found.quiet[t]) for t in tools],
        ),
        "\n### Cost\n",
        _table(
            (
                "tool",
                "start-up s",
                "memory MB, all processes",
                "largest process MB",
                "CPU-s at 10 rps",
                "CPU-s per 1,000 streams",
                "us/token",
            ),
            [_cost(found, tool) for tool in tools],
        ),
        "\n### How far it goes with streams of 64 tokens\n",
        _table(
            ("tool", "TTFT p99 within 1 ms up to", "rate within 2 % up to", "TTFT p99 error ms at each rate"),
            [_reach(found, tool) for tool in tools],
        ),
        "\n### The server stands still for 3 s: e2e, ms\n",
        _table(
            ("tool", "reported mean", "true mean", "reported p99", "true p99", "sent of all"),
            [_stall(*row) for row in found.stall.items()],
        ),
        "\n### Answers that failed, counted as successes; and the arrivals\n",
        _table(
            ("tool", "error events", "cut off", "Poisson arrivals: KS test p"), [_honest(found, tool) for tool in tools]
        ),
        "\n### Goals\n",
        _table(("goal", "seen", ""), goals(found)) if "hxp" in tools else "",
        *[f"\n{outcome.tool}: {outcome.problem}" for outcome in _all(found) if outcome.problem],
    ]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _ms(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds * 1e3:+.2f}"


def _errors(outcome: Outcome) -> list[str]:
    return [outcome.tool, *(_ms(outcome.error_s(metric, name)) for metric in METRICS for name in STATISTICS)]


def marginal_cpu_s(found: Any, tool: str) -> float | None:
    """Return CPU seconds a stream: what more streams cost more, so that the start-up is not in it.

    None where they cost less than the start and the few did: a start is never twice the same, and would be told.
    """
    few, rungs = found.quiet[tool], [rung for rung in found.ladder.get(tool, []) if not rung.problem]
    if few.problem or not rungs:
        return None
    most = max(rungs, key=lambda rung: len(rung.arrivals_s))
    more = len(most.arrivals_s) - len(few.arrivals_s)
    return (most.cpu_s - few.cpu_s) / more if more > 0 and most.cpu_s >= 2 * few.cpu_s else None


def _cost(found: Any, tool: str) -> list[str]:
    few, each_s = found.quiet[tool], marginal_cpu_s(found, tool)
    if few.problem:
        return [tool, *[NONE] * 6]
    figures = (few.start_up_s, few.memory_bytes / 2**20, few.largest_rss_bytes / 2**20, few.cpu_s)
    cells = [f"{figure:.3g}" for figure in figures]
    return [
        tool,
        *cells,
        NONE if each_s is None else f"{each_s * 1e3:.2f}",
        NONE if each_s is None else f"{each_s / 64 * 1e6:.1f}",
    ]


def reach(found: Any, tool: str) -> tuple[float, float]:
    """Return the highest rates up to which TTFT and the rate held without a gap; 0 where not even the lowest did."""
    held = []
    for place in (0, 1):
        most = 0.0
        for rung in found.ladder.get(tool, []):
            if not rung_holds(rung)[place]:
                break
            most = rung.rate_rps
        held.append(most)
    return held[0], held[1]


def _reach(found: Any, tool: str) -> list[str]:
    rungs = found.ladder.get(tool, [])
    ttft, rate = reach(found, tool)
    open_end = " (not tried further)" if tool in found.not_tried else ""
    each = ", ".join(f"{rung.rate_rps:g}: {_ms(rung.error_s('ttft', 'p99'))}" for rung in rungs)
    lowest = f"under {rungs[0].rate_rps:g}" if rungs else NONE
    return [tool, f"{ttft:g} rps{open_end}" if ttft else lowest, f"{rate:g} rps{open_end}" if rate else lowest, each]


def _stall(name: str, row: tuple[Outcome, dict[str, float]]) -> list[str]:
    outcome, true = row
    told = (outcome.reported.figures.get("e2e", {}) if outcome.reported else {}) or {}
    values = [each.get(statistic) for statistic in ("mean", "p99") for each in (told, true)]
    cells = [NONE if value is None else f"{value * 1e3:.0f}" for value in values]
    return [name, *cells, f"{len(outcome.arrivals_s)}"]


def arrivals_p(outcome: Outcome) -> float | None:
    """Return the p-value of a Kolmogorov-Smirnov test of the gaps between arrivals against an exponential."""
    times_s = outcome.arrivals_s
    if outcome.problem or len(times_s) < 20:
        return None
    gaps = [(later - sooner) * outcome.rate_rps for sooner, later in pairwise(times_s)]
    return float(stats.kstest(gaps, "expon").pvalue)


def _honest(found: Any, tool: str) -> list[str]:
    cells = []
    for outcome in found.broken.get(tool, {}).values():
        told = outcome.reported
        cells.append(f"{told.ok} of {told.ok + told.failed}" if told else NONE)
    p = arrivals_p(found.quiet[tool])
    return [tool, *cells, NONE if p is None else f"{p:.2g}{'' if p >= KS_LEVEL else ' (not Poisson)'}"]


def goals(found: Any) -> list[tuple[str, str, str]]:
    """Return each goal, what was seen, and whether it was met; what was not measured is no goal met."""
    few, rungs = found.quiet["hxp"], [rung for rung in found.ladder.get("hxp", []) if rung.reported]
    low = [rung for rung in rungs if rung.rate_rps <= 400]
    errors = [rung.error_s(metric, "p99") for rung in low for metric in ("ttft", "itl")]
    worst = max((abs(error) for error in errors if error is not None), default=None)
    reached = max((rung.rate_rps for rung in low), default=0.0)
    rate = reach(found, "hxp")[1]
    # A peer that failed at the lowest rate might have held a little less: count it as if it had held that one.
    others = [
        max(reach(found, tool)[1], each[0].rate_rps)
        for tool, each in found.ladder.items()
        if each and tool not in {"hxp", "plain asyncio"}
    ]
    best = max(others, default=0.0)
    hot = [(rung.reported.cpu_s / (len(rung.arrivals_s) * 64), rung.rate_rps) for rung in rungs if rung.reported.cpu_s]
    each_s, at_rps = min(hot, default=(None, 0.0))
    failed = [outcome.reported.ok for outcome in found.broken.get("hxp", {}).values() if outcome.reported]
    stalled, true = found.stall["hxp"]
    told = stalled.reported.figures.get("e2e", {}).get("p99") if stalled.reported else None
    p = arrivals_p(few)
    came = bool(few.reported)
    return [
        _goal(
            "TTFT and ITL p99 within 0.1 ms up to 400 rps x 64",
            worst is not None and f"{worst * 1e3:.3f} ms up to {reached:g} rps",
            worst is not None and worst <= 1e-4 and reached >= 400,
        ),
        _goal("rate held to 1,000 rps x 64", bool(rungs) and f"{rate:g} rps", rate >= 1000),
        _goal("5 times the best Python peer", bool(others) and f"{rate:g} against {best:g} rps", rate >= 5 * best > 0),
        _goal(
            "hot loop 12 us a token",
            each_s is not None and f"{each_s * 1e6:.1f} us at {at_rps:g} rps",
            each_s is not None and each_s <= 12e-6,
        ),
        _goal("start-up 1 s", came and f"{few.start_up_s:.2f} s", came and few.start_up_s <= 1.0),
        _goal(
            "60 MB a process", came and f"{few.largest_rss_bytes / 1e6:.0f} MB", came and few.largest_rss_bytes <= 60e6
        ),
        _goal("failed answers never counted as successes", bool(failed) and f"{sum(failed)} counted", failed == [0, 0]),
        _goal(
            "true p99 under the stall",
            told is not None and f"{told * 1e3:.0f} for {true['p99'] * 1e3:.0f} ms",
            told is not None and abs(told - true["p99"]) <= 0.02,
        ),
        _goal("arrivals pass a KS test", p is not None and f"p = {p:.2g}", p is not None and p >= KS_LEVEL),
    ]


def _goal(goal: str, seen: str | Literal[False], met: bool) -> tuple[str, str, str]:
    return goal, seen or "not measured", "met" if met else "MISSED"


def _all(found: Any) -> list[Outcome]:
    rungs = [rung for each in found.ladder.values() for rung in each]
    broken = [outcome for each in found.broken.values() for outcome in each.values()]
    return [*found.quiet.values(), *(outcome for outcome, _ in found.stall.values()), *broken, *rungs]
