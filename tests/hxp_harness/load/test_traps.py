"""Every trap of the golden server is a failure of its own kind or no failure at all, and never a wrong latency."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.load.client import Client
from hxp_harness.load.connection import Address, Receipts
from hxp_harness.load.generator import render, stamps_of
from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.request import Renderer
from hxp_harness.load.stamps import WallOffset, stamping
from hxp_harness.trace import ErrorKind, Trace
from tests.hxp_harness.load.conftest import dues, plan_for

QUICK = {"ttft_s": 0.02, "itl_s": 0.002}


def ask(folder: Path, trap: dict[str, object], *, stream: bool = True, timeout_s: float = 10.0) -> Trace:
    """Return the trace of one request for four tokens to a golden server of this behaviour."""
    traces: list[Trace] = []
    with stamping(), golden(folder, Behaviour(**QUICK | trap)) as server:  # type: ignore[arg-type]  # names checked there
        plan: LoadPlan = replace(plan_for(server.base_url, stream=stream, timeout_s=timeout_s), api_model=server.model)
        renderer = Renderer(plan, "", "trap")
        port = int(server.base_url.rpartition(":")[2].removesuffix("/v1"))
        client = Client(
            Address(socket.AF_INET, ("127.0.0.1", port), "localhost"),
            render(renderer, dues(1, tokens=4)),
            Receipts(WallOffset()),
            plan=plan,
            on_trace=traces.append,
            on_idle=lambda: None,
        )
        client.run(time.monotonic_ns())
        client.close()
    (trace,) = traces
    return trace


@pytest.mark.parametrize(
    ("trap", "kind", "tokens"),
    [
        ({"error_at": 2}, ErrorKind.STREAM_ERROR, 2),
        ({"abort_at": 2}, ErrorKind.CUT, 2),
        ({"reset_at": 2}, ErrorKind.RESET, 2),
        ({"usage": False}, ErrorKind.NO_USAGE, 4),
        ({"usage": False, "done": False}, ErrorKind.TRUNCATED, 4),
        ({"finish_reason": ""}, ErrorKind.TRUNCATED, 4),
        ({"finish_reason": "abort"}, ErrorKind.STREAM_ERROR, 4),
        ({"status": 503}, ErrorKind.HTTP, 0),
        ({"stall_at": 2, "stall_s": 30.0}, ErrorKind.TIMEOUT, 2),
    ],
    ids=str,
)
def test_what_breaks_is_its_own_kind(tmp_path: Path, trap: dict[str, object], kind: ErrorKind, tokens: int) -> None:
    """The kind is right, and the tokens that had come by then are kept."""
    trace = ask(tmp_path, trap, timeout_s=1.0)
    assert (trace.error, len(trace.token_hi_s)) == (kind, tokens), trace
    assert trace.detail


@pytest.mark.parametrize(
    ("trap", "chunks"),
    [
        ({"role": "early"}, 4),
        ({"role": "none"}, 4),
        ({"tokens_per_event": 2}, 2),
        ({"split_every": True, "split_s": 0.001}, 4),
        ({"reasoning_tokens": 2}, 4),
        ({"done": False}, 4),
    ],
    ids=str,
)
def test_what_only_looks_odd_is_a_success(tmp_path: Path, trap: dict[str, object], chunks: int) -> None:
    """An early role ends no TTFT, tokens in one event are counted, split segments and reasoning are content."""
    trace = ask(tmp_path, trap)
    assert trace.ok, trace
    assert (trace.output_tokens, len(trace.token_hi_s), trace.chunks) == (4, 4, chunks)
    assert trace.token_hi_s[0] - (trace.sent_s or 0.0) > 0.019


def test_the_record_says_which_stamps_there_are() -> None:
    """The kernel's, the kernel's as far as TLS lets them be exact, or our own."""
    by_kernel, by_us = Receipts(WallOffset(), kernel_reads=3), Receipts(WallOffset(), kernel_reads=3, user_reads=1)
    assert stamps_of(by_kernel, tls=False) == "kernel"
    assert stamps_of(by_kernel, tls=True) == "kernel, at the ends of TLS records"
    assert {stamps_of(by_us, tls=tls) for tls in (True, False)} == {"user"}
