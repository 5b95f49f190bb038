"""All views of a run, made from its folder alone."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hxp_harness.errors import UsageError
from hxp_harness.report.files import write_whole
from hxp_harness.report.record import TRACES_FILE, Record, read_record
from hxp_harness.report.text import one_line

if TYPE_CHECKING:
    from hxp_harness.metrics.table import TraceTable
    from hxp_harness.telemetry.series import ServerSeries


def write_views(run_dir: Path) -> list[Path]:
    """Write report.html, report.md, junit.xml and allure-results/ into `run_dir` and return them.

    Traces that are missing or damaged cost the pictures, never the report. Raises UsageError when there is no record,
    InvalidRun when the disk does not take a file.
    """
    from hxp_harness.metrics.rosetta import PointGaps
    from hxp_harness.report.allure import write_allure
    from hxp_harness.report.html import html
    from hxp_harness.report.junit import junit
    from hxp_harness.report.markdown import markdown
    from hxp_harness.report.rosetta import demands_of, rosetta

    record = read_record(run_dir)
    named = shlex.quote(str(run_dir))
    table, remark = _traces(run_dir)
    plots = {} if table is None else pictures(record, table, _series(run_dir))
    others = {} if table is None else rosetta(table, PointGaps.read(run_dir / TRACES_FILE), demands_of(record))
    written = [
        write_whole(run_dir / "report.html", html(record, plots, named, remark=remark, others=others)),
        write_whole(run_dir / "report.md", markdown(record, named, others)),
        write_whole(run_dir / "junit.xml", junit(record)),
    ]
    return [*written, write_allure(run_dir, record)]


def _series(run_dir: Path) -> ServerSeries | None:
    """Damaged readings cost their part of one picture."""
    from hxp_harness.telemetry.series import read_series

    try:
        return read_series(run_dir)
    except UsageError:
        return None


def pictures(record: Record, table: TraceTable, series: ServerSeries | None = None) -> dict[str, str]:
    """Return the SVG of each picture that these traces allow, under its heading."""
    from hxp_harness.metrics.definitions import METRICS
    from hxp_harness.report.distributions import cdf, distributions, replicate_estimates
    from hxp_harness.report.plots import latency_over_time, rates

    found = {"The verdict: every replicate against the limit": replicate_estimates(record)}
    found["Latency over time"] = latency_over_time(record, table, series)
    for number, gate in enumerate(record.gates):
        if gate.unit == "s" and gate.metric in METRICS and not gate.scope:
            found[f"Distribution under the gate {one_line(gate.text)}"] = cdf(gate, table, number)
    found["First token, and gaps between tokens"] = distributions(table)
    found["Rate offered and achieved, requests in flight"] = rates(table)
    return {heading: picture for heading, picture in found.items() if picture is not None}


def _traces(run_dir: Path) -> tuple[TraceTable | None, str]:
    from hxp_harness.metrics.table import TraceTable

    file = run_dir / TRACES_FILE
    if not file.exists():
        return None, f"There are no pictures: the run left no {TRACES_FILE}."
    try:
        table = TraceTable.read(file)
    except UsageError as error:
        return None, f"There are no pictures: {error.message}."
    if len(table) == 0:
        return None, f"There are no pictures: {TRACES_FILE} holds no request."
    return table, ""
