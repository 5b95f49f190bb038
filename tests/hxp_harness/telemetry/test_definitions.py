"""What is computed from readings, against cases worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.errors import UsageError
from hxp_harness.metrics.scrape import Scrape
from hxp_harness.telemetry.definitions import SERVER_METRICS, coverage, server_metrics
from hxp_harness.telemetry.gpu import GpuReading
from hxp_harness.telemetry.reading import Reading
from hxp_harness.telemetry.series import NUMBERS, ServerSeries, read_series, write_series

T0_S = 100.0


def at(second: float, scrape: Scrape | None = None, gpu: GpuReading | None = None, error: str = "") -> Reading:
    """A reading whose page was made at `second` of the run."""
    return Reading(T0_S + second - 0.01, T0_S + second - 0.01, 0.02, error, scrape, gpu)


def series(*readings: Reading) -> ServerSeries:
    return ServerSeries.of(readings, T0_S)


def values(*readings: Reading) -> dict[str, float]:
    return {name: found.value for name, found in server_metrics(series(*readings)).items()}


def test_means_are_over_time_and_peaks_over_readings() -> None:
    """A queue of 0, 10 and 10 requests at 0, 1 and 4 s is 8.75 on average: late readings weigh what they stand for."""
    found = values(
        at(0, Scrape(running=2.0, waiting=0.0, kv_cache_usage=0.5)),
        at(1, Scrape(running=2.0, waiting=10.0, kv_cache_usage=1.0)),
        at(4, Scrape(running=2.0, waiting=10.0, kv_cache_usage=0.5)),
    )

    assert found["waiting_mean"] == pytest.approx((5.0 + 30.0) / 4)
    assert found["waiting_peak"] == 10.0
    assert found["running_mean"] == found["running_peak"] == 2.0
    assert found["kv_usage_mean"] == pytest.approx((0.75 + 3 * 0.75) / 4)
    assert found["kv_usage_peak"] == 1.0


def test_counters_are_differences() -> None:
    """Rates, hits and preemptions count from the first reading to the last that told them."""
    found = values(
        at(
            0,
            Scrape(generation_tokens=1000.0, prompt_tokens=0.0, prefix_hits=5.0, prefix_queries=10.0, preemptions=3.0),
        ),
        at(1, error="timeout"),
        at(
            2,
            Scrape(
                generation_tokens=1400.0, prompt_tokens=50.0, prefix_hits=35.0, prefix_queries=50.0, preemptions=7.0
            ),
        ),
    )

    assert found == {
        "generated_rate": pytest.approx(200.0),
        "prompt_rate": pytest.approx(25.0),
        "prefix_hit_ratio": pytest.approx(0.75),
        "preemptions": 4.0,
    }


def test_energy_per_token_takes_both_from_the_same_readings() -> None:
    """The driver's counter and the server's tokens are taken between the same two readings: 600 J / 300 tokens."""
    found = values(
        at(0, None, GpuReading(power_w=300.0, energy_j=1000.0)),
        at(1, Scrape(generation_tokens=0.0), GpuReading(power_w=300.0, energy_j=1300.0)),
        at(3, Scrape(generation_tokens=300.0), GpuReading(power_w=300.0, energy_j=1900.0)),
        at(4, None, GpuReading(power_w=300.0, energy_j=2200.0)),
    )

    assert found["energy_per_token"] == pytest.approx(2.0)
    assert found["gpu_energy"] == pytest.approx(1200.0)
    assert found["gpu_power_mean"] == pytest.approx(300.0)


def test_without_the_counter_energy_is_the_integral_of_power() -> None:
    """100 W rising to 300 W over 2 s are 400 J; 200 tokens in that time cost 2 J each."""
    found = values(
        at(0, Scrape(generation_tokens=0.0), GpuReading(power_w=100.0)),
        at(2, Scrape(generation_tokens=200.0), GpuReading(power_w=300.0)),
    )

    assert found["gpu_energy"] == pytest.approx(400.0)
    assert found["energy_per_token"] == pytest.approx(2.0)


def test_a_server_that_was_started_anew_has_no_growth() -> None:
    """A counter that went back says nothing: no rate and no energy per token comes of it."""
    found = values(
        at(0, Scrape(generation_tokens=500.0), GpuReading(energy_j=10.0)),
        at(1, Scrape(generation_tokens=10.0), GpuReading(energy_j=20.0)),
        at(2, Scrape(generation_tokens=700.0), GpuReading(energy_j=30.0)),
    )

    assert found == {"gpu_energy": 20.0}


def test_too_little_is_nothing() -> None:
    """One reading has a level and no rate; none has nothing at all."""
    assert values(at(0, Scrape(running=3.0, generation_tokens=5.0), GpuReading(power_w=9.0))) == {
        "running_mean": 3.0, "running_peak": 3.0, "gpu_power_mean": 9.0, "gpu_power_peak": 9.0,
    }  # fmt: skip
    assert values() == {}
    assert values(at(0, error="refused")) == {}


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=30), st.lists(st.floats(0.01, 10), min_size=30, max_size=30))
def test_a_mean_lies_between_the_extremes(levels: list[float], gaps_s: list[float]) -> None:
    """Whatever was read when, the mean over time is within what was read, and the peak is its top."""
    times_s = [sum(gaps_s[:number]) for number in range(len(levels))]
    found = values(*(at(second, Scrape(waiting=level)) for second, level in zip(times_s, levels, strict=True)))

    slack = 1e-6 * (1 + max(levels))
    assert min(levels) - slack <= found["waiting_mean"] <= max(levels) + slack
    assert found["waiting_peak"] == max(levels)


def test_coverage_counts_what_did_not_come() -> None:
    """Failed readings by kind, ticks without one, and the worst lateness are told."""
    late = Reading(T0_S + 4.0, T0_S + 4.5, 0.25, "http")
    found = coverage(series(at(0), at(1, error="timeout"), late), 1.0)

    assert (found.readings, found.failed, found.errors) == (3, 2, {"http": 1, "timeout": 1})
    assert found.missed == 2
    assert found.late_max_s == pytest.approx(0.5)
    assert found.took_max_s == pytest.approx(0.25)
    assert coverage(series(), 1.0).readings == 0


def test_the_file_gives_back_what_was_read(tmp_path: Path) -> None:
    """Numbers, gaps and reasons survive server.parquet; a span of it is taken by time."""
    kept = series(
        at(0, Scrape(running=1.0), GpuReading(power_w=5.0)), at(1, error="timeout"), at(2, Scrape(running=2.0))
    )
    write_series(tmp_path, kept)
    found = read_series(tmp_path)

    assert found is not None
    assert found.errors == ("", "timeout", "")
    for name in NUMBERS:
        assert [str(value) for value in found[name]] == [str(value) for value in kept[name]]
    assert found.at_s == pytest.approx([0.0, 1.0, 2.0])
    assert math.isnan(found["running"][1])
    assert found.between(0.5, 2.5).errors == ("timeout", "")


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """What is no Parquet, or another table, is named."""
    (tmp_path / "server.parquet").write_bytes(b"no table")
    with pytest.raises(UsageError, match=r"server\.parquet is damaged"):
        read_series(tmp_path)


def test_names_are_told_once() -> None:
    """No two rows share a name."""
    assert len({row.name for row in SERVER_METRICS}) == len(SERVER_METRICS)
