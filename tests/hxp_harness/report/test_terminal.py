"""What a person sees: live in a terminal, a bounded number of plain lines elsewhere."""

from __future__ import annotations

import io
import itertools
import os
import pty
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hxp_harness.load.plan import Due
from hxp_harness.report.progress import Goal
from hxp_harness.report.record import read_record
from hxp_harness.report.terminal import QUIET_LINES, Screen
from hxp_harness.trace import ErrorKind, Trace

MakeRun = Callable[..., Path]

GOAL = Goal("e2e", 0.95, 0.1)


def due(replicates: int, requests: int = 2) -> list[Due]:
    return [Due(i, i // requests - 1, i * 0.1, 8, 8, i) for i in range((replicates + 1) * requests)]


def traces(ones: list[Due], latency_s: float = 0.05) -> list[Trace]:
    found = []
    for one in ones:
        end_s = one.intended_s + latency_s
        found.append(
            Trace(one.index, one.replicate, one.intended_s, 8, 8, "", one.intended_s, end_s, (end_s,), (end_s,))
        )
    return found


@contextmanager
def terminal() -> Iterator[tuple[io.TextIOWrapper, list[bytes]]]:
    """Yield a real terminal to write to, and what it got."""
    ours, theirs = pty.openpty()
    got: list[bytes] = []

    def read() -> None:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the last writer is gone
                return
            got.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    stream = os.fdopen(theirs, "w", encoding="utf-8")
    try:
        yield stream, got
    finally:
        stream.close()
        reader.join(10)
        os.close(ours)


def show(stream: io.TextIOBase, environ: dict[str, str], ones: list[Due], latency_s: float = 0.05) -> None:
    """Play a run whose traces come in one by one, as they end."""
    now_s = itertools.count(100.0, 0.1)
    at_s = [100.0]
    with Screen("Mixtral [b]x[/b]", GOAL, stream=stream, out=stream, environ=environ, clock=lambda: at_s[0]) as screen:  # type: ignore[arg-type]  # text streams all
        screen.say("certificate")
        screen.see([])
        screen.load(ones)
        for one in traces(ones, latency_s):
            at_s[0] = next(now_s) + latency_s
            screen.see([one])
        screen.say("judging")


def test_elsewhere_a_bounded_number_of_plain_lines_is_printed() -> None:
    """Without a terminal a run of a thousand replicates prints some twenty lines, none of them with escapes."""
    sink = io.StringIO()
    show(sink, {}, due(1000, 1))
    lines = sink.getvalue().splitlines()
    assert lines[0] == "hxp: certificate"
    assert lines[-1] == "hxp: judging"
    assert "replicate 1 of 1000" in sink.getvalue()
    assert QUIET_LINES / 2 < len(lines) <= QUIET_LINES + 4
    assert "\x1b" not in sink.getvalue()


def test_plain_lines_carry_the_figures() -> None:
    """A line says the rates, the percentile so far against its limit, errors and the time left."""
    sink = io.StringIO()
    show(sink, {}, due(3, 20))
    line = next(line for line in sink.getvalue().splitlines() if "replicate 2 of 3" in line)
    for part in (" of 9.9 rps", "e2e p95 so far 50 ms (limit 100 ms)", "errors 0", "left"):
        assert part in line


def test_a_terminal_shows_colours_and_the_title_as_text() -> None:
    """On a terminal the figures are drawn live, and a title cannot bring its own markup."""
    with terminal() as (stream, got):
        show(stream, {"TERM": "xterm-256color"}, due(2, 20), latency_s=0.5)
    text = b"".join(got).decode()
    assert "\x1b[" in text
    assert "Mixtral [b]x[/b]" in text
    assert "replicate 2 of 2" in text
    assert "500 ms / 100 ms" in text


def test_no_color_is_honoured() -> None:
    """NO_COLOR takes the colours from a terminal."""
    with terminal() as (stream, got):
        show(stream, {"TERM": "xterm-256color", "NO_COLOR": "1"}, due(2, 20), latency_s=0.5)
    text = b"".join(got).decode()
    assert "replicate 2 of 2" in text
    assert "\x1b[31m" not in text
    assert "\x1b[36m" not in text


def test_a_dumb_terminal_gets_plain_lines() -> None:
    """A terminal that cannot move its cursor is treated as none."""
    with terminal() as (stream, got):
        show(stream, {"TERM": "dumb"}, due(2, 4))
    assert "hxp: certificate" in b"".join(got).decode()


@pytest.mark.parametrize(
    ("median_s", "verdict", "evidence"),
    [(1.2, "PASS", "measured"), (1.9, "FAIL", "simulated"), (1.62, "INCONCLUSIVE", "tiny")],
)
def test_the_result_is_told_with_its_evidence(make_run: MakeRun, median_s: float, verdict: str, evidence: str) -> None:
    """At the end stand verdict, evidence, gates and where the report is; the interval is told with the estimate."""
    folder = make_run(median_s=median_s, evidence=evidence, gates=("e2e p95 <= 2000 ms", "error_rate <= 1 %"))
    sink = io.StringIO()
    with Screen("t", GOAL, stream=sink, out=sink, environ={}) as screen:
        screen.end(read_record(folder), folder)
    text = sink.getvalue()
    assert text.startswith(verdict)
    assert f"{evidence.upper()}: " in text
    assert "e2e p95 <= 2000 ms" in text
    assert str(folder / "report.html") in text.replace("\n", "")
    assert "not proven: tokens agree" in text
    assert text.count("e2e p95 was") == 1
    assert "\x1b" not in text


def test_a_run_of_nothing_has_a_result(make_run: MakeRun) -> None:
    """An INVALID run without traces or gates is told plainly."""
    folder = make_run(sent=False)
    record = read_record(folder).model_copy(update={"gates": (), "metrics": {}})
    sink = io.StringIO()
    Screen("t", GOAL, stream=sink, out=sink, environ={}).end(record, folder)
    assert sink.getvalue().startswith("INVALID")
    assert "gate " not in sink.getvalue()


def test_a_percentile_beyond_failures_is_called_infinite() -> None:
    """Too many failures make the percentile so far infinite, and the line says so."""
    sink = io.StringIO()
    ones = due(1, 4)
    failed = [Trace(o.index, o.replicate, o.intended_s, 8, 8, end_s=o.intended_s, error=ErrorKind.RESET) for o in ones]
    with Screen("t", Goal(), stream=sink, out=sink, environ={}) as screen:
        screen.load(ones)
        screen.see(failed)
    assert "errors 8" in sink.getvalue()
    assert "infinite" in sink.getvalue()
