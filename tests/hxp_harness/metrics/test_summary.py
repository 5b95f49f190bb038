"""Percentiles are order statistics, told only where the sample can; infinite is infinite."""

import json
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.metrics.definitions import METRICS, Demand
from hxp_harness.metrics.summary import needed_samples, percentile, percentiles, summarise, summarise_replicates
from hxp_harness.metrics.table import TraceTable
from hxp_harness.trace import ErrorKind, Trace

MakeTrace = Callable[..., Trace]
QUANTILES = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), QUANTILES)
def test_a_percentile_is_a_value_that_was_seen(values: list[float], q: float) -> None:
    """No interpolation: the percentile is a sample, with at least the share q at or below and less than q below it."""
    found = percentile(np.array(values), q)
    exact = Fraction(str(q)) * len(values)

    assert found in values
    assert sum(value <= found for value in values) >= exact
    assert sum(value < found for value in values) < exact


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), QUANTILES, st.integers(0, 20))
def test_failures_are_beyond_every_value(values: list[float], q: float, infinite: int) -> None:
    """Counting failures as infinite is the same as putting infinity into the sample."""
    assert percentile(np.array(values), q, infinite) == percentile(np.array([*values, *[math.inf] * infinite]), q)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=60), QUANTILES)
def test_percentiles_are_monotone(values: list[float], q: float) -> None:
    """Raising every value raises the percentile: so bounds of the values give bounds of the percentile."""
    array = np.array(values)

    assert percentile(array, q) <= percentile(array + 1.0, q)
    assert percentile(array, 0.5) <= percentile(array, q)


@given(st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=200), st.lists(QUANTILES), st.integers(0, 20))
def test_several_percentiles_are_those_of_each(values: list[float], shares: list[float], infinite: int) -> None:
    """Asked together they are what each is alone, in the order asked for."""
    array = np.array(values, np.float32)

    assert percentiles(array, shares, infinite) == [percentile(array, q, infinite) for q in shares]


@pytest.mark.parametrize(("q", "needed"), [(0.5, 7), (0.9, 44), (0.95, 90), (0.99, 459), (0.999, 4603)])
def test_needed_samples(q: float, needed: int) -> None:
    """Below 90 samples there is no p95, below 459 no p99."""
    assert needed_samples(q) == needed


def test_percentiles_appear_with_enough_samples(trace: MakeTrace) -> None:
    """With 89 requests p95 is not told, with 90 it is; p99 needs 459."""
    few = summarise(TraceTable.from_traces(trace(index) for index in range(89)))["e2e"]
    more = summarise(TraceTable.from_traces(trace(index) for index in range(90)))["e2e"]

    assert few.n == 89
    assert few.hi.p50 == pytest.approx(0.8)
    assert few.hi.p95 is None
    assert more.hi.p95 == pytest.approx(0.8)
    assert more.hi.p99 is None


def test_too_many_failures_make_a_percentile_infinite(trace: MakeTrace) -> None:
    """With 6 % of requests failed p95 is infinite; the mean is over those that succeeded."""
    traces = [trace(index, error=ErrorKind.TIMEOUT if index < 6 else ErrorKind.NONE) for index in range(100)]

    e2e = summarise(TraceTable.from_traces(traces))["e2e"]

    assert e2e.hi.p95 == math.inf
    assert e2e.hi.p50 == pytest.approx(0.8)
    assert e2e.hi.mean == pytest.approx(0.8)
    assert json.loads(json.dumps(e2e.to_dict()))["p95"] == "inf"


def test_warm_up_is_not_summarised(trace: MakeTrace) -> None:
    """Only measured requests count, but what warm-up leaves behind ends in the window."""
    table = TraceTable.from_traces([trace(0, -5.0, (0.1, 5.5), replicate=-1), trace(1), trace(2, 1.0)])

    found = summarise(table)

    assert found["e2e"].n == 2
    assert found["throughput"].hi.mean == pytest.approx(3 / 2)


def test_what_was_open_when_a_run_ended_has_not_failed(trace: MakeTrace) -> None:
    """Where some replicates are complete the others are left out; where none is, all that there is counts."""
    traces = [trace(0), trace(1, 1.0), trace(2, 2.0, replicate=1, error=ErrorKind.UNFINISHED)]
    table = TraceTable.from_traces(traces)

    assert summarise(table, complete=1)["error_rate"].hi.mean == 0.0
    assert summarise(table, complete=1)["e2e"].n == 2
    assert summarise(table, complete=1)["throughput"].n == 2
    assert summarise(table)["error_rate"].hi.mean == pytest.approx(1 / 3)


def test_mean_itl_is_known_better_than_each_gap(trace: MakeTrace) -> None:
    """Gaps add up to last minus first token, so a merged read in the middle does not blur their mean."""
    found = summarise(TraceTable.from_traces([trace(tokens=(0.1, (0.1, 0.5), 0.5))]))["itl"]

    assert found.lo.mean == pytest.approx(0.2)
    assert found.hi.mean == pytest.approx(0.2)


def test_nothing_has_no_mean(trace: MakeTrace) -> None:
    """Where no request has a value there is no number, rather than a zero."""
    found = summarise(TraceTable.from_traces([trace(error=ErrorKind.HTTP)]))

    assert found["e2e"].hi.mean is None
    assert found["error_rate"].hi.mean == 1.0


def test_an_empty_table_has_a_summary() -> None:
    """A run without requests has every metric, with no number in any."""
    found = summarise(TraceTable.from_traces([]))

    assert set(found) == set(METRICS)
    assert all(row.n == 0 and row.hi.mean is None for row in found.values())


def test_each_replicate_has_its_own(trace: MakeTrace) -> None:
    """Replicates are summarised apart, goodput under the same demands, rates over their own windows."""
    table = TraceTable.from_traces(
        [trace(0), trace(1, 0.5), trace(2, 2.0, (0.1, 0.2), replicate=1), trace(3, 2.5, (0.1, 0.2), replicate=1)]
    )

    found = summarise_replicates(table, [Demand("e2e", 0.5)])

    assert [found[number]["e2e"].hi.mean for number in (0, 1)] == [pytest.approx(0.8), pytest.approx(0.2)]
    assert [found[number]["goodput"].hi.mean for number in (0, 1)] == [0.0, 1.0]
    assert found[1]["throughput"].hi.mean == pytest.approx(2.0)
    assert found[0]["throughput"].n == 2
