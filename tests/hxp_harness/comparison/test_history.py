"""A change of level in stored runs is found where it is, and noise is not taken for one."""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hxp_harness.comparison.history import LEAST_RUNS, changes, series_of, stored_records
from hxp_harness.comparison.history_words import history
from hxp_harness.errors import UsageError
from hxp_harness.report.record import read_record, write_record
from tests.hxp_harness.report.conftest import make_run

__all__ = ["make_run"]


def noisy(levels: Sequence[float], spread: float = 0.02, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [level * math.exp(chance.gauss(0, spread)) for level in levels]


@pytest.mark.parametrize("at", [4, 10, 16])
@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_a_jump_is_found_where_it_is(at: int, ratio: float) -> None:
    """One jump by a quarter among 20 runs with 2 % of noise is found at its run, with its size."""
    found = changes(noisy([1.0] * at + [ratio] * (20 - at)), margin=0.05)

    assert [point.at for point in found] == [at]
    assert found[0].change == pytest.approx(ratio - 1, abs=0.03)
    assert found[0].p < 0.01


def test_two_jumps_are_two() -> None:
    """Up and down again are two changes."""
    at = 8
    found = changes(noisy([1.0] * at + [1.3] * at + [1.0] * at), margin=0.05)

    assert [point.at for point in found] == [at, 2 * at]
    assert found[0].change > 0 > found[1].change


def test_noise_is_seldom_a_change() -> None:
    """Of 300 steady histories of 30 runs hardly any shows a change beyond the margin."""
    alarms = sum(bool(changes(noisy([1.0] * 30, 0.05, seed), margin=0.05)) for seed in range(300))

    assert alarms <= 6


@pytest.mark.parametrize(
    "values", [[], [1.0] * (LEAST_RUNS - 1), [1.0] * 12, noisy([1.0] * 10 + [1.02] * 10, spread=0.001)]
)
def test_little_and_few_are_no_change(values: list[float]) -> None:
    """Too few runs, runs that are all alike, and a sure change within the margin are none."""
    assert changes(values, margin=0.05) == []


def test_a_jump_between_levels_without_noise_is_found() -> None:
    """A simulation repeats itself to the last digit: its change is sure."""
    assert [point.at for point in changes([1.0] * 5 + [1.2] * 5, margin=0.05)] == [5]


@pytest.fixture
def reports(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    """Eight stored runs, of which the last four are a third slower."""
    folder = tmp_path / "reports"
    for number in range(8):
        record = read_record(make_run(median_s=1.0 if number < 4 else 1.33 + number / 1000))
        (folder / f"run-{number}").mkdir(parents=True)
        told = {"id": f"run-{number}", "started": f"2026-11-2{number}T10:00:00+00:00"}
        write_record(folder / f"run-{number}", record.model_copy(update=told))
    (folder / "latest").symlink_to("run-7")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "run.json").write_text("{", encoding="utf-8")
    return folder


def test_stored_runs_become_series(reports: Path) -> None:
    """Each gated latency of a workload is one series, oldest first; links and damaged records are left out."""
    series = series_of(stored_records(reports))

    assert {one.figure for one in series} == {"e2e p95", "ttft p95"}
    assert [moment.run for moment in series[0].moments] == [f"run-{number}" for number in range(8)]


def test_the_history_says_since_when(reports: Path) -> None:
    """The change is told with the run that began it, its levels and its direction; another profile has none."""
    told = history(reports, profile=None, margin=0.05)

    assert "e2e p95, 8 runs" in told
    assert "worse since run-4" in told
    assert "+3" in told
    assert "no run of hermes" in history(reports, profile="hermes", margin=0.05)
    assert "no change beyond 100%" in history(reports, profile="mixtral", margin=1.0)


def test_invalid_runs_and_few_runs_are_told(reports: Path) -> None:
    """An INVALID run is left out of the series; with fewer than six runs no change is claimed."""
    for number in (0, 1, 2):
        folder = reports / f"run-{number}"
        write_record(folder, read_record(folder).model_copy(update={"verdict": "INVALID"}))

    assert len(stored_records(reports)) == 5
    assert "too few to see a change" in history(reports, profile=None, margin=0.05)
    with pytest.raises(UsageError, match="no run that can be used"):
        history(reports / "run-1", profile=None, margin=0.05)
