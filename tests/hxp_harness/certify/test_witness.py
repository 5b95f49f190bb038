"""The golden server's log against an independent witness; and a log that lies is found out."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from hxp_harness.certify.truth import Truth, TruthEvent, read_truths
from hxp_harness.certify.witness import Call, Difference, calls_in, compare, told, witness
from hxp_harness.errors import NotReady

OFFSET_S = 1_000_000.0


def _line(at: str, said: str, rest: str) -> str:
    return rf'97  {at} sendto(9, "{said}"..., 184, 0, NULL, 0{rest}'


def _chunk(request_id: str, delta: str) -> str:
    return rf"b0\r\ndata: {{\"id\":\"chatcmpl-{request_id}\",\"choices\":[{{\"delta\":{{{delta}\"}}}}]}}"


TRACE = "\n".join(
    [
        _line("1000010.500000", r"HTTP/1.1 200 OK\r\nx-request-id: a", ") = 184 <0.000100>"),
        _line("1000010.600000", _chunk("a", r"\"role\":\"assistant\",\"content\":\""), ") = 184 <0.000020>"),
        _line("1000010.600100", _chunk("a", r"\"content\":\" t0"), ") = 184 <0.000020>"),
        _line("1000010.610000", _chunk("b", r"\"content\":\" t0"), ") = 184 <0.000030>"),
        _line("1000010.620000", _chunk("a", r"\"content\":\" t1"), " <unfinished ...>"),
        "97  1000010.630000 +++ exited with 0 +++",
    ]
)


def truth(request_id: str, *events: tuple[float, float]) -> Truth:
    logged = [TruthEvent(lo, lo, hi, 1) for lo, hi in events]
    return Truth(request_id, 0.0, 0.0, 0.0, stream=True, prompt_tokens=1, asked_tokens=len(events), events=logged)


def call(request_id: str, begun_s: float, ended_s: float) -> Call:
    return Call(request_id, OFFSET_S + begun_s, OFFSET_S + ended_s)


def test_calls_are_known_by_their_content() -> None:
    """Heads, role chunks and calls that did not end are no tokens; each token has its request and both its times."""
    found = calls_in(TRACE)

    assert [(one.request_id, one.begun_s) for one in found] == [("a", 1000010.6001), ("b", 1000010.61)]
    assert found[1].ended_s == pytest.approx(1000010.61003, abs=1e-6)


def test_the_difference_is_worked_out_by_hand() -> None:
    """Two tokens whose calls lie 10 and 30 us inside their intervals at one end, 20 and 40 at the other."""
    calls = [call("a", 1.00001, 1.00003), call("a", 2.00003, 2.00006)]
    found = compare(calls, {"a": truth("a", (1.0, 1.00005), (2.0, 2.0001))}, OFFSET_S)

    assert found.proven
    assert dataclasses.astuple(found)[3:] == pytest.approx((1e-5, 3e-5, 3e-5, 2e-5, 4e-5, 4e-5), abs=1e-9)
    assert "proven" in told(found)
    assert "10        30        30" in told(found)


@pytest.mark.parametrize("lie_s", [-0.001, 0.001])
def test_a_log_that_is_off_by_a_millisecond_is_found_out(lie_s: float) -> None:
    """Times written a millisecond too early or too late leave the calls outside."""
    found = compare([call("a", 1.00001, 1.00003)], {"a": truth("a", (1.0 + lie_s, 1.00005 + lie_s))}, OFFSET_S)

    assert (found.tokens, found.outside, found.proven) == (1, 1, False)
    assert "NOT proven; 1 outside" in told(found)


def test_tokens_that_were_never_sent_are_found_out() -> None:
    """A log of more tokens than calls, or of a request that nobody saw, is no proof."""
    found = compare(
        [call("a", 1.0, 1.1)], {"a": truth("a", (1.0, 1.1), (2.0, 2.1)), "b": truth("b", (1.0, 1.1))}, OFFSET_S
    )

    assert (found.tokens, found.unlike, found.proven) == (0, 2, False)
    assert "not proven" in told(found)
    assert not compare([], {}, OFFSET_S).proven


def test_the_golden_servers_log_is_true(tmp_path: Path) -> None:
    """Under strace every token of a real load was sent within its logged interval; the same log moved is no proof."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here: the golden server's log is not proven on this machine")
    try:
        found = witness(tmp_path)
    except NotReady as error:
        pytest.skip(f"tracing is forbidden here, so the golden server's log is not proven: {error.hint}")
    calls = calls_in((tmp_path / "strace.txt").read_text(encoding="utf-8"))
    logged = {one.request_id: one for one in read_truths(tmp_path / "golden.jsonl")}
    first = logged[calls[0].request_id].events[0]
    moved = compare(calls, logged, calls[0].begun_s - first.lo_s + 0.005)  # as if every time were 5 ms off

    assert found.tokens == 40 * 16
    assert found.proven, told(found)
    assert moved.outside == moved.tokens


def test_without_strace_it_is_not_proven(tmp_path: Path) -> None:
    """A missing program, and one that cannot run the server, say so and what to do."""
    with pytest.raises(NotReady, match="not proven") as missing:
        witness(tmp_path, program="no-such-tracer")
    assert "apt-get install strace" in missing.value.hint
    with pytest.raises(NotReady, match="could not run the golden server"):
        witness(tmp_path, program="false")


def test_nothing_compared_is_said() -> None:
    """An empty difference never reads as a proof."""
    assert "not proven" in told(Difference(0, 0, 0))
