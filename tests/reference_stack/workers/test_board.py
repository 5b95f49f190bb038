"""Promises of the memory that workers share, and of the page that is made of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from reference_stack.counting import Level, adding, observing
from reference_stack.workers.board import MOST_SERIES, Board, Series, Slab
from reference_stack.workers.counts import Mirror, count_in
from reference_stack.workers.page import page_of

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave the client library's own way of counting to other tests."""
    before = values.ValueClass
    yield
    values.ValueClass = before


def samples(board: Board, registry: CollectorRegistry | None = None) -> Samples:
    text = page_of(board)(registry or CollectorRegistry()).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def worker(slab: Slab, pid: int) -> CollectorRegistry:
    """Be worker `pid` from now on."""
    slab.take(pid)
    count_in(slab)
    return CollectorRegistry()


@given(st.lists(st.lists(st.floats(0, 400) | st.sampled_from([0.1, 1.0, 10.0]), max_size=20), min_size=1, max_size=4))
def test_workers_add_up_to_what_one_would_have_counted(seen: list[list[float]]) -> None:
    """However observations are spread over workers, counted without checks, the page is that of one that saw all."""
    alone = CollectorRegistry()
    one = Histogram("took", "How long.", ("route",), buckets=(0.1, 1, 10), registry=alone)
    total = Counter("things", "How many.", ("route",), registry=alone)
    Gauge("open", "How many are open.", registry=alone).set(sum(map(len, seen)))
    took_alone, things_alone = one.labels("a"), total.labels("a")
    for value in (value for each in seen for value in each):
        took_alone.observe(value)
        things_alone.inc()
    expected = {(s.name, tuple(sorted(s.labels.items()))): s.value for m in alone.collect() for s in m.samples}
    before = values.ValueClass
    try:
        board = Board(len(seen))
        for pid, each in enumerate(seen, 1):
            registry = worker(board.slabs[pid - 1], pid)
            took = Histogram("took", "How long.", ("route",), buckets=(0.1, 1, 10), registry=registry)
            things = Counter("things", "How many.", ("route",), registry=registry)
            observe, add = observing(took.labels("a")), adding(things.labels("a"))
            for _ in each:
                add(1)
            observe(each[:3])
            observe(each[3:])
            Level(Gauge("open", "How many are open.", registry=registry)).set(len(each))
        found = samples(board)
    finally:
        values.ValueClass = before
    kept = {key: value for key, value in expected.items() if not key[0].endswith("_created")}
    assert found.keys() == kept.keys()
    for key, value in kept.items():
        assert found[key] == pytest.approx(value), key


def test_one_process_counts_alike_without_the_checks() -> None:
    """Where no memory is shared the numbers are in the library's own page."""
    registry = CollectorRegistry()
    things = Counter("things", "How many.", registry=registry)
    took = Histogram("took", "How long.", buckets=(1, 2), registry=registry)
    adding(things)(3)
    observing(took)([2])
    Level(Gauge("open", "How many are open.", registry=registry)).set(4)

    found = {name: registry.get_sample_value(name) for name in ("things_total", "took_count", "took_sum", "open")}
    assert found == {"things_total": 3, "took_count": 1, "took_sum": 2, "open": 4}
    assert registry.get_sample_value("took_bucket", {"le": "2.0"}) == 1


def test_counts_of_the_dead_stay_and_their_gauges_go() -> None:
    """What a worker counted stays after its end; how things stood in it does not; its successor counts on."""
    board = Board(2)
    for pid, slab in enumerate(board.slabs, 1):
        registry = worker(slab, pid)
        Counter("things", "How many.", registry=registry).inc(5)
        Gauge("open", "How many are open.", registry=registry).set(3)
        Gauge("up", "Whether it is up.", registry=registry, multiprocess_mode="livemin").set(pid)
        Gauge("most", "The most.", registry=registry, multiprocess_mode="livemax").set(pid)
    assert samples(board) == {("things_total", ()): 10, ("open", ()): 6, ("up", ()): 1, ("most", ()): 2}
    board.slabs[0].pid = 0
    assert samples(board) == {("things_total", ()): 10, ("open", ()): 3, ("up", ()): 2, ("most", ()): 2}
    assert board.free() is board.slabs[0]
    Counter("things", "How many.", registry=worker(board.slabs[0], 3)).inc()
    assert samples(board)["things_total", ()] == 11
    assert board.free() is None
    assert board.room == 0


def test_what_only_one_process_knows_is_shown_too() -> None:
    """A metric that keeps its numbers elsewhere is on the page of the worker that is asked."""
    board, elsewhere = Board(1), CollectorRegistry()
    Counter("own", "Counted before the slab was there.", registry=elsewhere).inc()
    Counter("shared", "Counted in the slab.", registry=worker(board.slabs[0], 1)).inc(2)
    assert samples(board, elsewhere)["own_total", ()] == 1
    assert samples(board, elsewhere)["shared_total", ()] == 2


class Late(Collector):
    """Makes its metrics when it is asked."""

    seen = 0.0

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily("late", "Counted late.", labels=("a",))
        counter.add_metric(("x",), self.seen)
        gauge = GaugeMetricFamily("late_open", "How many are open.")
        gauge.add_metric((), self.seen)
        yield from (counter, gauge)


def test_what_is_made_when_asked_adds_up_too() -> None:
    """Collectors of several workers are one page; counters go on from those of a worker that is gone."""
    board, late = Board(2), (Late(), Late())
    for pid, (slab, collector) in enumerate(zip(board.slabs, late, strict=True), 1):
        slab.take(pid)
        collector.seen = 5.0 * pid
        Mirror(slab, [collector]).copy()
    assert samples(board) == {("late_total", (("a", "x"),)): 15, ("late_open", ()): 15}
    board.slabs[0].pid = 0
    board.slabs[0].take(3)
    new = Late()
    mirror = Mirror(board.slabs[0], [new])
    for seen in (1.0, 2.0):
        new.seen = seen
        mirror.copy()
    assert samples(board) == {("late_total", (("a", "x"),)): 17, ("late_open", ()): 12}


def test_there_is_an_end_to_labels() -> None:
    """Series beyond the room are counted nowhere, the slab says how many, and nothing breaks."""
    board = Board(1)
    registry = worker(board.slabs[0], 1)
    things = Counter("things", "How many.", ("name",), registry=registry)
    for name in range(MOST_SERIES + 10):
        things.labels(f"name-{name}").inc()
    assert len(samples(board)) == MOST_SERIES
    assert board.slabs[0].left_out == 10


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=30, unique=True))
def test_any_label_is_read_as_it_was_written(rows: list[tuple[str, str, str]]) -> None:
    """What another process reads of a slab is what was written, whatever the labels hold."""
    board = Board(1)
    board.slabs[0].take(1)
    written = [Series("counter", "m", "m_total", ((name, value),), text, "") for name, value, text in rows]
    assert [board.slabs[0].slot(series) for series in written] == list(range(len(rows)))
    assert board.slabs[0].series() == written


@given(st.dictionaries(st.text(), st.integers(0, 99), max_size=9))
def test_any_label_is_shown_as_prometheus_reads_it(counts: dict[str, int]) -> None:
    """Quotes, line ends and backslashes of a label are read back as they were."""
    before = values.ValueClass
    try:
        board = Board(1)
        things = Counter("a_sum_of", "How many \\ of\nthem.", ("name",), registry=worker(board.slabs[0], 1))
        for name, count in counts.items():
            things.labels(name).inc(count)
        found = samples(board)
    finally:
        values.ValueClass = before
    assert found == {("a_sum_of_total", (("name", name),)): float(count) for name, count in counts.items()}


def test_a_killed_process_loses_no_count() -> None:
    """Every count of a process that is killed in the middle of counting is on the page."""
    board = Board(1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        things = Counter("things", "How many.", registry=worker(board.slabs[0], os.getpid()))
        for _ in range(1000):
            things.inc()
        os.write(writer, b"1")
        signal.pause()
    assert os.read(reader, 1) == b"1"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert samples(board)["things_total", ()] == 1000
