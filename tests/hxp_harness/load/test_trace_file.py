"""Traces survive their writer."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hxp_harness.load.trace_file import Tail, TraceWriter, by_end, decode, encode, read_traces
from hxp_harness.trace import ErrorKind, Trace

TRACE = Trace(3, 0, 1.25, 128, 64, token_lo_s=(1.5, 1.625), token_hi_s=(1.5, 1.75), error=ErrorKind.TIMEOUT)


@given(st.lists(st.floats(0, 1e6), max_size=5), st.text(max_size=20), st.sampled_from(ErrorKind))
def test_a_trace_reads_back_as_it_was(times: list[float], detail: str, error: ErrorKind) -> None:
    """No reading is rounded, no text is lost, and a trace is one line."""
    trace = Trace(1, -1, 0.1, 1, 1, token_lo_s=tuple(times), token_hi_s=tuple(times), detail=detail, error=error)
    assert decode(encode(trace)) == trace
    assert encode(trace).count(b"\n") == 1


def test_a_tail_takes_whole_lines_only(tmp_path: Path) -> None:
    """A line that is half written is taken when it is whole; nothing is taken twice."""
    file = tmp_path / "traces.part"
    tail = Tail(file)
    assert tail.read() == []
    line = encode(TRACE)
    with file.open("ab", buffering=0) as stream:
        stream.write(line + line[:20])
        assert tail.read() == [TRACE]
        assert tail.read() == []
        stream.write(line[20:])
        assert tail.read() == [TRACE]


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    """What a killed writer left behind can be read."""
    file = tmp_path / "traces.part"
    file.write_bytes(encode(TRACE) * 2 + encode(TRACE)[:-5])
    assert list(read_traces(file)) == [TRACE, TRACE]


def test_a_damaged_line_is_an_error(tmp_path: Path) -> None:
    """A whole line that is no trace is not passed over."""
    file = tmp_path / "traces.part"
    file.write_bytes(b"{}\n")
    with pytest.raises(msgspec.DecodeError):
        list(read_traces(file))


def test_what_was_flushed_is_on_disk(tmp_path: Path) -> None:
    """A flush writes what was added, once, behind what was there."""
    file = tmp_path / "traces.part"
    for _ in range(2):
        with TraceWriter(file) as writer:
            writer.add(TRACE)
            writer.flush()
            writer.flush()
    assert list(read_traces(file)) == [TRACE, TRACE]


def test_a_full_disk_is_an_error() -> None:
    """No room is never silent."""
    with TraceWriter(Path("/dev/full")) as writer:
        writer.add(TRACE)
        with pytest.raises(OSError, match="No space left"):
            writer.flush()


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 100)), max_size=4), st.data())
def test_what_several_clients_wrote_is_merged_by_time(clients: list[list[float]], data: st.DataObject) -> None:
    """Traces that come up to the slack out of order are put in order, and none is lost."""
    ends = sorted(end_s for client in clients for end_s in client)
    late = [data.draw(st.floats(0, 2.0), label="late by") for _ in ends]
    came = sorted(zip(ends, late, strict=True), key=lambda one: one[0] + one[1])
    traces = [Trace(index, 0, 0.0, 1, 1, end_s=end_s) for index, (end_s, _) in enumerate(came)]
    merged = list(by_end(traces, 2.0))
    assert [trace.end_s for trace in merged] == ends
    assert sorted(trace.index for trace in merged) == list(range(len(ends)))


def test_a_trace_that_comes_too_late_is_not_lost() -> None:
    """It is out of order then, and so is one that never ended at its intended time."""
    traces = [
        Trace(index, 0, at_s, 1, 1, end_s=end_s) for index, (at_s, end_s) in enumerate([(0, 9), (0, 1), (3, None)])
    ]
    assert [trace.index for trace in by_end(traces, 1.0)] == [1, 2, 0]
    traces = [Trace(index, 0, 0, 1, 1, end_s=end_s) for index, end_s in enumerate([5, 20, 1])]
    assert [trace.index for trace in by_end(traces, 2.0)] == [0, 2, 1]
