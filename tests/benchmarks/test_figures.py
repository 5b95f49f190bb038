from __future__ import annotations

from dataclasses import replace
from math import nan

from benchmarks.gateway.experiments import CLOSED, FAST, FIRST_EVENT, PACED, STREAMS, growth_of
from benchmarks.gateway.figures import (
    DEMANDS,
    DIRECT,
    NGINX,
    ROUTER,
    Readings,
    comparison_table,
    complaints,
    cost_table,
    demands_table,
    figure,
    limits,
    points_table,
)
from benchmarks.gateway.measure import Reading

_ONE = Reading(
    subject=DIRECT,
    experiment=CLOSED,
    round=0,
    cpu_us=0.0,
    core_share=1.0,
    requests_per_s=90_000.0,
    events_per_s=0.0,
    p50_us=50.0,
    p99_us=100.0,
    first_event_p50_us=20.0,
    memory_bytes=0,
    largest_bytes=0,
    errors=0,
    first_error="",
)


def _readings(ours: float = 1.0) -> Readings:
    """Return two rounds, the second twice as slow; ours costs `ours` times what just meets every demand."""
    found: list[Reading] = []
    for number, slow in enumerate((1.0, 2.0)):
        base = replace(_ONE, round=number)
        costs = {
            NGINX: (10.0, 10.0, 100.0),
            ROUTER: (40.0, 100 / 6, 220.0),
            "us": (20.0 * ours, 15.0 * ours, 20 + 100.0 * ours),
        }
        for experiment in (CLOSED, PACED, STREAMS, FIRST_EVENT):
            found.append(replace(base, experiment=experiment, events_per_s=51_600.0))
            for name, (request_us, event_us, first_us) in costs.items():
                found.append(
                    replace(
                        base,
                        subject=name,
                        experiment=experiment,
                        cpu_us=slow * (event_us if experiment == STREAMS else request_us),
                        requests_per_s=35_000 / ours,
                        events_per_s=51_000 / ours,
                        p50_us=50 + 200 * ours,
                        p99_us=100 + 1000 * ours,
                        first_event_p50_us=first_us,
                        memory_bytes=90_000_000,
                        largest_bytes=int(80_000_000 * ours),
                    )
                )
    return Readings(found)


def test_a_figure_is_a_median_with_its_range() -> None:
    """The median is between the lowest and the highest; a reading that is none does not count."""
    found = figure([3.0, 1.0, nan, 2.0])
    assert (found.middle, found.low, found.high, found.of) == (2.0, 1.0, 3.0, 3)
    assert found.shown(1) == "2.0 (1.0 to 3.0)"
    assert figure([7.0]).shown() == "7"
    assert figure([]).shown() == "-"


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is slow for a whole round does not spread the ratios."""
    ratio = _readings().ratio("us", NGINX, CLOSED)
    assert (ratio.middle, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_demands_are_met_at_their_limit_and_missed_beyond() -> None:
    """At the limit all are met, one per cent beyond it all are missed, and without readings none is judged."""
    verdicts = [line.split(" | ")[-1] for line in demands_table(_readings(), "us").splitlines()[2:]]
    assert verdicts == ["met |"] * len(DEMANDS)
    verdicts = [line.split(" | ")[-1] for line in demands_table(_readings(1.01), "us").splitlines()[2:]]
    assert verdicts == ["missed |"] * len(DEMANDS)
    verdicts = [line.split(" | ")[-1] for line in demands_table(Readings([]), "us").splitlines()[2:]]
    assert verdicts == ["not measured |"] * len(DEMANDS)


def test_tables_have_a_line_for_each_subject() -> None:
    """Every subject is in the table once, the direct way without costs of its own."""
    lines = comparison_table(_readings()).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| direct", "| nginx", "| vllm-router", "| us"]
    assert lines[2].startswith("| direct |  | 90,000 (90,000 to 90,000) |  |")
    assert "| us | 30.0 (20.0 to 40.0) | 22.5 (15.0 to 30.0) | 90 (90 to 90) |" in cost_table(_readings(), "with")


def test_a_subject_that_was_not_the_limit_is_told() -> None:
    """Where the client was what could not do more, the figure of requests a second says so."""
    idle = replace(_ONE, subject="us", core_share=0.5)
    told = limits(Readings([_ONE, idle, replace(idle, subject="busy", core_share=0.95)]))
    assert [line[:7] for line in told] == ["us: 50%"]


def test_errors_are_told() -> None:
    """Errors of a subject under a load are one line with their number and the first of them."""
    wrong = [replace(_ONE, errors=2, first_error="status 503"), replace(_ONE, errors=1, round=1)]
    assert complaints(Readings([_ONE, *wrong])) == [f"direct, {CLOSED}: 3 errors; status 503"]


def test_a_point_says_what_failed() -> None:
    """A figure of a load that some streams did not survive has their number beside it."""
    well = replace(_ONE, subject="us", cpu_us=20.0, experiment="10 streams")
    found = Readings([well, replace(well, experiment="5,000 streams", errors=780)])
    lines = points_table(found, "CPU us").splitlines()
    assert lines[2:] == ["| 10 streams | 20.0 |", "| 5,000 streams | 20.0, 780 FAILED |"]


def test_growing_numbers_of_streams_have_their_time() -> None:
    """All loads of streams have as many events a second, outlast their reading, and may end."""
    loads = {name: load for name, load in growth_of(FAST, 0.75).items() if load.events}
    assert [load.connections for load in loads.values()] == [10, 100, 1000, 5000]
    for load in loads.values():
        lasts_s = load.events * load.gap_us / 1e6
        assert abs(load.connections * 1e6 / load.gap_us - 25_600) < 300
        assert load.warm_s + load.seconds < lasts_s < load.drain_s
        assert load.warm_s + load.seconds + load.drain_s < 30
