"""What the server said stands in the record by time, under the latencies in the picture, and in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hxp_harness.metrics.scrape import Scrape
from hxp_harness.report.record import Figures, Record, Replicate, read_record, write_record
from hxp_harness.report.telemetry import joined, sentences
from hxp_harness.report.views import write_views
from hxp_harness.target import Evidence
from hxp_harness.telemetry.reading import Reading
from hxp_harness.telemetry.series import ServerSeries, write_series

MakeRun = Callable[..., Path]


def series(seconds: int, waiting: Callable[[int], float], lost: int = -1) -> ServerSeries:
    """One reading a second, half full; the one at `lost` did not come."""
    readings = [
        Reading(second, second, 0.01, "timeout")
        if second == lost
        else Reading(second, second, 0.01, "", Scrape(running=2.0, waiting=waiting(second), kv_cache_usage=0.5))
        for second in range(seconds)
    ]
    return ServerSeries.of(readings, 0.0)


def record(**telemetry: float) -> Record:
    figures = {name: Figures(mean=value, unit="requests", n=9) for name, value in telemetry.items()}
    return Record(id="r", started="", verdict="PASS", evidence=Evidence.MEASURED, telemetry=figures)


def test_each_replicate_gets_the_readings_of_its_window() -> None:
    """A queue in the second window alone is in the second replicate alone; the warm-up before counts nowhere."""
    replicates = [
        Replicate(index=0, n=1, started_s=4.0, ended_s=9.5),
        Replicate(index=1, n=1, started_s=9.5, ended_s=15.0),
        Replicate(index=2, n=0),
    ]
    found, telemetry, during = joined(replicates, series(20, lambda second: 8.0 if 10 <= second <= 14 else 0.0, lost=6))

    assert found[0].telemetry["waiting_peak"].mean == 0.0
    assert found[1].telemetry["waiting_mean"].mean == 8.0
    assert found[2].telemetry == {}
    assert telemetry["waiting_peak"].mean == 8.0
    assert telemetry["waiting_peak"].n == 11
    assert during["during"] == {
        "every_s": 1.0, "readings": 11, "failed": 1, "errors": {"timeout": 1}, "missed": 0,
        "late_max_s": 0.0, "took_max_s": pytest.approx(0.01),
    }  # fmt: skip


def test_a_server_that_says_nothing_adds_nothing() -> None:
    """Without readings the record is as it was; without a measured window all readings count."""
    replicates = [Replicate(index=0, n=0)]
    assert joined(replicates, None) == (tuple(replicates), {}, {})
    assert joined(replicates, series(3, lambda _: 1.0))[1]["waiting_mean"].mean == 1.0


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"waiting_mean": 5.0, "running_mean": 5.0}, "50% of the time .* queue, 5 of them"),
        ({"waiting_mean": 0.01, "running_mean": 5.0}, "5 requests on average and let hardly any"),
        ({"preemptions": 3.0}, "put back 3 requests for want of KV memory"),
        ({"kv_usage_peak": 0.99}, "full to 99%"),
        ({"energy_per_token": 0.251}, "An output token took 0.251 J"),
    ],
)
def test_where_requests_waited_is_said(told: dict[str, float], said: str) -> None:
    """Queue, preemptions, a full KV cache and energy each have their sentence."""
    assert re.search(said, " ".join(sentences(record(**told))))
    assert sentences(record()) == []


def test_the_report_draws_the_server_under_the_latencies(make_run: MakeRun) -> None:
    """Queue, batch, KV cache and lost readings share the picture and the time axis of the latencies."""
    run = make_run()
    before = len((run / "run.json").read_text(encoding="utf-8"))
    write_series(run, series(12, lambda second: float(np.sin(second) ** 2), lost=5))
    kept = read_record(run)
    write_record(run, kept.model_copy(update={"telemetry": {"waiting_mean": Figures(mean=0.5, unit="requests", n=11)}}))
    write_views(run)
    html, markdown = ((run / f"report.{end}").read_text(encoding="utf-8") for end in ("html", "md"))

    assert before > 0
    for words in ("waiting in its queue", "KV cache in use", "no reading (1)", "What the server said meanwhile"):
        assert words in html
    assert "requests in the server&#39;s queue, over time" in html
    assert "| `waiting_mean` | 0.5 requests" in markdown


def test_damaged_readings_cost_only_their_part(make_run: MakeRun) -> None:
    """A damaged server.parquet leaves the report as it would be without one."""
    run = make_run()
    (run / "server.parquet").write_bytes(b"no table")
    write_views(run)

    assert "waiting in its queue" not in (run / "report.html").read_text(encoding="utf-8")
    assert "End-to-end latency of every request" in (run / "report.html").read_text(encoding="utf-8")
