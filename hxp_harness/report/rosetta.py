"""The page that says what other tools would have reported of the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hxp_harness.errors import UsageError
from hxp_harness.report.text import table as markdown_table
from hxp_harness.units import BASE_UNIT, format_quantity

if TYPE_CHECKING:
    from hxp_harness.metrics.definitions import Demand
    from hxp_harness.metrics.rosetta import PointGaps, Reported
    from hxp_harness.metrics.table import TraceTable
    from hxp_harness.report.record import Record

HEAD = ("tool", "its name", "mean", "p50", "p95", "p99", "n", "formula", "where")
NOTE = (
    "Other tools' definitions, applied to the traces of this run. Their own clocks and lags are not in it. "
    "Percentiles are computed as each tool computes them; failures that a tool takes for successes count as such."
)
NONE = "–"  # noqa: RUF001 - as in the other tables
_DIMENSION_OF = {unit: dimension for dimension, unit in BASE_UNIT.items()}
COMPACT_HEAD = ("tool", "ttft p95", "tpot p95", "itl p95", "e2e p95", "goodput", "throughput", "output_throughput")
Rows = list[tuple[str, ...]]


def rosetta(table: TraceTable, gaps: PointGaps, demands: Sequence[Demand]) -> dict[str, Rows]:
    """Return the rows of each subject as text, under our name of it."""
    from hxp_harness.metrics.rosetta import translate

    return {subject: [_cells(one) for one in found] for subject, found in translate(table, gaps, demands).items()}


def compact(tables: Mapping[str, Rows]) -> Rows:
    """Return one row a tool: p95 of each latency, and each rate."""
    found: dict[str, list[str]] = {}
    for name in COMPACT_HEAD[1:]:
        subject, _, percentile = name.partition(" ")
        for cells in tables[subject]:
            found.setdefault(cells[0], [cells[0]]).append(cells[HEAD.index(percentile or "mean")])
    return [tuple(cells) for cells in found.values()]


def demands_of(record: Record) -> tuple[Demand, ...]:
    """Return the latency limits of a record's gates; gates of another version of ours have none."""
    from hxp_harness.gates.gate import demands
    from hxp_harness.gates.grammar import parse_gates

    try:
        return demands(parse_gates([gate.text for gate in record.gates]))
    except UsageError:
        return ()


def page(run_dir: Path) -> str:
    """Return the tables of the run in `run_dir` as Markdown. Raises UsageError when it holds no traces."""
    from hxp_harness.metrics.rosetta import PointGaps
    from hxp_harness.metrics.table import TraceTable
    from hxp_harness.report.record import TRACES_FILE, read_record

    file = run_dir / TRACES_FILE
    table, limits = TraceTable.read(file), demands_of(read_record(run_dir))
    parts = [NOTE]
    for subject, rows in rosetta(table, PointGaps.read(file), limits).items():
        parts += [f"## {subject}", markdown_table(HEAD, rows)]
    return "\n\n".join(parts)


def _cells(one: Reported) -> tuple[str, ...]:
    row = one.row
    dimension = _DIMENSION_OF[row.unit]
    figures = [
        NONE if value is None else format_quantity(value, dimension) for value in (one.mean, one.p50, one.p95, one.p99)
    ]
    return (f"{row.peer.name} {row.peer.version}", row.called, *figures, str(one.n), row.formula, row.source)
