"""Traces become columns and a file, and come back as they were."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.errors import UsageError
from hxp_harness.metrics import columns, digest
from hxp_harness.metrics.table import TraceTable, write_traces
from hxp_harness.trace import ErrorKind, Trace

MakeTrace = Callable[..., Trace]


def same(one: TraceTable, other: TraceTable) -> bool:
    """Whether two tables hold the same values, NaN at the same places."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=getattr(one, name).dtype.kind == "f")
        for name in (
            "index",
            "replicate",
            "sent_s",
            "end_s",
            "first_lo_s",
            "last_hi_s",
            "error",
            "tokens_seen",
            "status",
        )
    ) and all(np.array_equal(a, b) for a, b in zip(one.gaps_s(), other.gaps_s(), strict=True))


def test_a_file_holds_what_the_traces_were(trace: MakeTrace, tmp_path: Path) -> None:
    """Writing and reading gives the table that the traces themselves give."""
    traces = [trace(0), trace(1, 1.0, error=ErrorKind.RESET, tokens=()), trace(2, 2.0, tokens=((0.1, 0.2), 0.3))]

    count = write_traces(tmp_path / "traces.parquet", traces)

    assert count == 3
    assert same(TraceTable.read(tmp_path / "traces.parquet"), TraceTable.from_traces(traces))
    assert [path.name for path in tmp_path.iterdir()] == ["traces.parquet"]


def test_columns_are_named_as_the_fields_of_a_trace(trace: MakeTrace, tmp_path: Path) -> None:
    """Any Parquet reader finds every field of a Trace by its own name, None as null, token times as lists."""
    write_traces(tmp_path / "t", [trace(0, tokens=((0.25, 0.5), 0.75)), trace(1, sent=False, error=ErrorKind.NOT_SENT)])

    rows = pq.read_table(tmp_path / "t").to_pylist()

    assert set(rows[0]) == {*Trace.__slots__, *digest.TYPES}
    assert rows[0]["token_lo_s"] == [0.25, 0.75]
    assert rows[0]["token_hi_s"] == [0.5, 0.75]
    assert rows[0]["request_id"] == "id-0"
    assert rows[1]["sent_s"] is None
    assert rows[1]["error"] == "not_sent"


def test_what_is_unknown_is_nan_or_minus_one(trace: MakeTrace) -> None:
    """A time that is None becomes NaN and a number that is None -1, never 0."""
    table = TraceTable.from_traces([trace(tokens=(), sent=False, error=ErrorKind.NOT_SENT)])

    assert np.isnan(table.sent_s[0])
    assert np.isnan(table.first_lo_s[0])
    assert np.isnan(table.last_hi_s[0])
    assert table.output_tokens[0] == -1
    assert not table.ok[0]


def test_row_groups_stay_small(trace: MakeTrace, tmp_path: Path) -> None:
    """A long run is written a few thousand requests at a time, so that memory does not grow with it."""
    write_traces(tmp_path / "t", (trace(index) for index in range(columns.BATCH_ROWS + 1)))

    with pq.ParquetFile(tmp_path / "t") as file:
        assert file.metadata.num_row_groups == 2
    assert len(TraceTable.read(tmp_path / "t")) == columns.BATCH_ROWS + 1


def test_long_files_are_read_in_parts(trace: MakeTrace, tmp_path: Path) -> None:
    """Every row arrives, however many batches the file is read in."""
    write_traces(tmp_path / "t", (trace(index, tokens=(0.1,)) for index in range(columns.BATCH_ROWS * 9)))

    assert TraceTable.read(tmp_path / "t").index.tolist() == list(range(columns.BATCH_ROWS * 9))


def test_no_traces_make_an_empty_table(tmp_path: Path) -> None:
    """A run without any trace can be stored and read: it is for the judge to call it INVALID."""
    write_traces(tmp_path / "t", [])

    table = TraceTable.read(tmp_path / "t")

    assert len(table) == 0
    assert table.replicates == []
    assert len(table.measured) == 0


@pytest.mark.parametrize("stream", [True, False])
def test_the_file_tells_whether_it_streamed(trace: MakeTrace, tmp_path: Path, *, stream: bool) -> None:
    """Without streaming tpot and itl are undefined, so the file remembers which it was."""
    write_traces(tmp_path / "t", [trace()], stream=stream)

    assert TraceTable.read(tmp_path / "t").stream is stream


def test_replicates_are_told_apart_from_warm_up(trace: MakeTrace) -> None:
    """Warm-up is replicate -1: selectable, and no part of what is measured."""
    table = TraceTable.from_traces([trace(0, replicate=-1), trace(1), trace(2, replicate=1), trace(3)])

    assert table.replicates == [0, 1]
    assert table.select(0).index.tolist() == [1, 3]
    assert table.select(-1).index.tolist() == [0]
    assert table.measured.index.tolist() == [1, 2, 3]


def test_gaps_follow_their_requests(trace: MakeTrace) -> None:
    """Gaps are those within a request: at least and at most so long; none of failures or warm-up."""
    table = TraceTable.from_traces(
        [
            trace(0, tokens=(0.5, (0.6, 0.7), 1.0)),
            trace(1, 1.0, tokens=(0.2, 0.9), error=ErrorKind.TIMEOUT),
            trace(2, 2.0, tokens=(0.1, 0.9), replicate=-1),
            trace(3, 3.0, tokens=(0.4,), replicate=1),
            trace(4, 4.0, tokens=(0.25, 0.5), replicate=1),
        ]
    )

    lo_s, hi_s = table.gaps_s()

    assert lo_s.tolist() == pytest.approx([0.1, 0.3, 0.25])
    assert hi_s.tolist() == pytest.approx([0.2, 0.4, 0.25])
    assert table.select(1).gaps_s()[0].tolist() == pytest.approx([0.25])
    assert table.select(0).gaps_s()[1].tolist() == pytest.approx([0.2, 0.4])
    assert table.select(-1).gaps_s()[1].tolist() == []


@given(st.lists(st.lists(st.floats(0, 100), max_size=6).map(sorted), min_size=1, max_size=8))
def test_first_last_and_gaps_agree(arrivals: list[list[float]]) -> None:
    """First token plus all gaps is the last token, for any number of tokens in any request."""
    traces = [
        Trace(index, 0, 0.0, 1, 1, sent_s=0.0, end_s=200.0, token_lo_s=tuple(times), token_hi_s=tuple(times))
        for index, times in enumerate(arrivals)
    ]
    table = TraceTable.from_traces(traces)

    for number, times in enumerate(arrivals):
        gaps = table.where(table.index == number).gaps_s()[1]
        assert len(gaps) == max(len(times) - 1, 0)
        if times:
            assert table.first_lo_s[number] + gaps.sum() == pytest.approx(table.last_hi_s[number], abs=1e-4)


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    """What cannot be read is a usage error that names the file, not a stack trace."""
    (tmp_path / "broken").write_bytes(b"PAR1 no more")

    with pytest.raises(UsageError, match="is not there"):
        TraceTable.read(tmp_path / "missing")
    with pytest.raises(UsageError, match="cannot be read"):
        TraceTable.read(tmp_path / "broken")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """A Parquet file without our columns is named with the first that is missing."""
    pq.write_table(pa.table({"index": [1, 2]}), tmp_path / "other.parquet")

    with pytest.raises(UsageError, match="column index"):
        TraceTable.read(tmp_path / "other.parquet")


arrivals = st.lists(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 0.01)), max_size=6).map(
        lambda pairs: tuple((low, low + width) for low, width in sorted(pairs))
    ),
    min_size=1,
    max_size=5,
)


@given(arrivals)
def test_the_digest_is_what_the_token_times_give(found: list[tuple[tuple[float, float], ...]]) -> None:
    """First, last and the sum of the gaps of each request are those that plain arithmetic on its own times gives."""
    lo_s, hi_s = (np.array([pair[side] for row in found for pair in row]) for side in (0, 1))
    seen = digest.digest(lo_s, hi_s, np.array([len(row) for row in found], np.int32))

    for place, row in enumerate(found):
        got = {name: float(values[place]) for name, values in seen.items()}
        assert got["tokens_seen"] == len(row)
        if not row:
            assert all(np.isnan(value) for name, value in got.items() if name != "tokens_seen")
            continue
        pairs = list(itertools.pairwise(row))
        assert (got["first_lo_s"], got["first_hi_s"], got["last_lo_s"], got["last_hi_s"]) == (*row[0], *row[-1])
        assert got["gaps_lo_s"] == pytest.approx(sum(max(b[0] - a[1], 0.0) for a, b in pairs), abs=1e-9)
        assert got["gaps_hi_s"] == pytest.approx(sum(b[1] - a[0] for a, b in pairs), abs=1e-9)


def test_judging_reads_the_digest_alone(trace: MakeTrace, tmp_path: Path) -> None:
    """Without gaps a table has every other column, and says so rather than show no gaps."""
    traces = [trace(0), trace(1, 1.0, error=ErrorKind.RESET, tokens=()), trace(2, 2.0, tokens=((0.1, 0.2), 0.3))]
    write_traces(tmp_path / "t", traces)

    short, whole = TraceTable.read(tmp_path / "t", gaps=False), TraceTable.read(tmp_path / "t")

    assert len(short) == 3
    for name in (*columns.NUMPY_TYPES, *digest.TYPES, "gap_count", "gap_start"):
        one, other = getattr(short, name), getattr(whole, name)
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), name
    with pytest.raises(RuntimeError, match="without gaps"):
        short.where(short.index > 0).gaps_s()


@pytest.mark.parametrize("gaps", [True, False])
def test_a_file_without_digest_is_read_from_its_token_times(trace: MakeTrace, tmp_path: Path, gaps: bool) -> None:
    """Traces that another program wrote, with the plain columns only, give the same table."""
    traces = [trace(0), trace(1, 1.0, tokens=((0.1, 0.2), 0.3))]
    write_traces(tmp_path / "ours", traces)
    pq.write_table(pq.read_table(tmp_path / "ours").drop_columns(list(digest.TYPES)), tmp_path / "theirs")

    found, ours = TraceTable.read(tmp_path / "theirs", gaps=gaps), TraceTable.read(tmp_path / "ours")

    assert len(found) == 2
    assert all(np.array_equal(getattr(found, name), getattr(ours, name)) for name in digest.TYPES)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(2, 4))
def test_joined_parts_are_the_whole(tokens: list[int], parts: int) -> None:
    """Tables of consecutive traces, joined, are the table of them all, gaps included or left out of each."""
    traces = [
        Trace(number, number % 2, float(number), 1, 1, sent_s=0.0, end_s=9.0, token_lo_s=times, token_hi_s=times)
        for number, times in enumerate(tuple(1.0 + 0.5 * token for token in range(count)) for count in tokens * parts)
    ]
    whole = TraceTable.from_traces(traces)
    pieces = [TraceTable.from_traces(traces[at : at + len(tokens)]) for at in range(0, len(traces), len(tokens))]

    assert same(TraceTable.joined(pieces), whole)
    assert same(TraceTable.joined(pieces[:1]), pieces[0])
    bare = TraceTable.joined([piece.without_gaps() for piece in pieces])
    assert bare.last_hi_s.tolist() == pytest.approx(whole.last_hi_s.tolist(), nan_ok=True)
    assert bare.gap_count.tolist() == whole.gap_count.tolist()
    with pytest.raises(RuntimeError, match="without gaps"):
        bare.gaps_s()
