"""Allure results: complete, the same for the same run, and never a mixture of two."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from hxp_harness.report.allure import performance, write_allure
from hxp_harness.report.record import Record, read_record

MakeRun = Callable[..., Path]


def results(folder: Path) -> dict[str, dict[str, object]]:
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*-result.json")]
    return {result["fullName"]: result for result in found}


def test_every_gate_and_check_is_a_result(make_run: MakeRun) -> None:
    """Verdict, gates and checks are there with status, message and parameters."""
    run = make_run()
    record = read_record(run)
    found = results(write_allure(run, record))
    assert len(found) == 1 + len(record.gates) + len(record.checks)
    gate = found["hxp.mixtral.gates.e2e p95 <= 2000 ms"]
    assert gate["status"] == "passed"
    assert {"name": "limit", "value": "2000 ms"} in gate["parameters"]  # type: ignore[operator]  # a list in the file
    assert found["hxp.mixtral.checks.tokens agree"]["status"] == "skipped"
    assert gate["start"] == int(datetime.fromisoformat(record.started).timestamp() * 1000)
    assert gate["stop"] > gate["start"]  # type: ignore[operator]  # numbers in the file


@pytest.mark.parametrize(
    ("median_s", "sent", "status"), [(1.9, True, "failed"), (1.62, True, "broken"), (1, False, "broken")]
)
def test_nothing_but_a_pass_is_passed(make_run: MakeRun, median_s: float, sent: bool, status: str) -> None:
    """FAIL is failed; INCONCLUSIVE and INVALID are broken, since the product's state is not known."""
    run = make_run(median_s=median_s, sent=sent)
    assert results(write_allure(run, read_record(run)))["hxp.mixtral.verdict.verdict"]["status"] == status


def test_what_lies_beside_the_record_is_attached(make_run: MakeRun) -> None:
    """run.json, and the reports that exist, are attachments whose files are there."""
    run = make_run()
    (run / "report.html").write_text("<p>", encoding="utf-8")
    folder = write_allure(run, read_record(run))
    attached = next(iter(results(folder).values()))["attachments"]
    assert isinstance(attached, list)
    assert {one["name"] for one in attached} == {"report.html", "run.json"}
    for one in attached:
        assert (folder / one["source"]).read_bytes() == (run / one["name"]).read_bytes()


def test_writing_again_leaves_the_same_files(make_run: MakeRun) -> None:
    """The results of a run are the same whenever they are made, and nothing old stays among them."""
    run = make_run()
    before = {file.name: file.read_bytes() for file in write_allure(run, read_record(run)).iterdir()}
    (run / "allure-results" / "stale-result.json").write_text("{}", encoding="utf-8")
    after = {file.name: file.read_bytes() for file in write_allure(run, read_record(run)).iterdir()}
    assert after == before
    assert not list(run.glob(".allure*"))


def test_history_is_one_over_runs_of_a_profile(make_run: MakeRun) -> None:
    """Two runs have different results with the same history ids, so that Allure draws a trend."""
    run = make_run()
    record = read_record(run)
    first = results(write_allure(run, record))
    second = results(write_allure(run, record.model_copy(update={"id": "another"})))
    assert [one["historyId"] for one in first.values()] != []
    for name, result in first.items():
        assert second[name]["historyId"] == result["historyId"]
        assert second[name]["uuid"] != result["uuid"]


def test_percentiles_become_performance_metrics(make_run: MakeRun) -> None:
    """Allure 3 gets every figure that is known, times in ms."""
    run = make_run()
    record = read_record(run)
    (file,) = write_allure(run, record).glob("*-perf.json")
    found = {one["key"]: one["value"] for one in json.loads(file.read_text(encoding="utf-8"))}
    p95_s = record.metrics["e2e"].p95
    assert p95_s is not None
    assert found["mixtral.e2e.p95 [ms]"] == pytest.approx(p95_s * 1000)
    assert "mixtral.error_rate.p95 [ratio]" not in found


def test_a_start_that_is_no_time_is_no_obstacle() -> None:
    """A record with a broken date still has results."""
    record = Record.model_validate(
        {
            "id": "a",
            "started": "yesterday",
            "verdict": "PASS",
            "evidence": "tiny",
            "metrics": {"e2e": {"unit": "s", "n": 1, "mean": 1}},
        }
    )
    assert performance(record)[0]["start"] == 0
