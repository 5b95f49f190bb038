"""Whole runs whose arrivals wait for answers, through the program itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.metrics.table import TraceTable
from tests.hxp_harness.run.conftest import Done, run_program, write_profile

CLOSED = "arrival: {kind: closed, concurrency: 3, think: 10 ms}"
SESSIONS = "sessions: {turns: 5, think: 50 ms}\n  cache: any"


def run_with(folder: Path, lines: str, rate: int) -> Done:
    file = write_profile(folder, rate=rate)
    text = file.read_text(encoding="utf-8")
    text = text.replace("count: 2", "count: 4")  # two replicates of a busy machine may decide nothing
    file.write_text(text.replace("  timeout:", f"  {lines}\n  timeout:"), encoding="utf-8")
    with golden(folder / "golden", Behaviour(ttft_s=0.02, itl_s=0.002)) as target:
        at = ("--target", target.base_url, "--api-model", target.model)
        return run_program(folder, "perf", "--profile", str(file), *at, "--out", str(folder / "run"))


@pytest.mark.parametrize(("lines", "rate"), [(CLOSED, 65), (SESSIONS, 50)], ids=["closed", "sessions"])
def test_a_run_that_waits_for_answers_is_judged(tmp_path: Path, lines: str, rate: int) -> None:
    """Each request has a trace, intended when its wait was over, until a PASS is certain; it can be judged again."""
    done = run_with(tmp_path, lines, rate)

    assert done.code == 0, done.err + done.out
    schedule = [json.loads(line) for line in (done.folder / "schedule.jsonl").read_text().splitlines()]
    table = TraceTable.read(done.folder / "traces.parquet")
    assert len(schedule) >= len(table) >= len(schedule) // 4  # no look passes sooner
    times = {int(index): row for row, index in enumerate(table.index)}
    sent = [due for due in schedule if due["index"] in times]
    waited = [(times[due["index"]], times[due["after"]], due["think_s"]) for due in sent if due["after"] >= 0]
    for row, before, think_s in waited:
        assert table.intended_s[row] == pytest.approx(table.end_s[before] + think_s, abs=1e-6)
    assert len(waited) >= (len(table) // 2 if "sessions" in lines else 0)
    assert run_program(tmp_path, "judge", str(done.folder)).code == 0
