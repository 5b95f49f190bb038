"""Makes run folders as a run leaves them: real traces of a made-up server, judged by the real judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hxp_harness.gates.facts import Asked, Certified, RunFacts
from hxp_harness.gates.gate import demands
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.verdict import judge
from hxp_harness.load.plan import Due, LoadSummary
from hxp_harness.metrics.summary import summarise
from hxp_harness.metrics.table import TraceTable, write_traces
from hxp_harness.report.parts import from_parts, replicates_of
from hxp_harness.report.record import Record, write_record
from hxp_harness.trace import ErrorKind, Trace

HOSTILE = '<script>alert("x")</script> </svg> & | `rm` \x1b[31m \x00 ]]> @everyone \u202e'
STARTED = "2026-11-20T10:00:00+00:00"
RATE_RPS = 5.0  # so that few are in flight, and 800 requests may pass
MakeRun = Callable[..., Path]


def schedule(count: int, requests: int, rate_rps: float, seed: int = 1) -> list[Due]:
    """Return Poisson arrivals: a warm-up of a fifth of a replicate, then `count` replicates."""
    generator = np.random.default_rng(seed)
    sizes = [(-1, requests // 5), *((number, requests) for number in range(count))]
    replicates = [number for number, size in sizes for _ in range(size)]
    times_s = np.cumsum(generator.exponential(1 / rate_rps, len(replicates)))
    return [
        Due(index, number, float(at_s), 128, 64, index)
        for index, (number, at_s) in enumerate(zip(replicates, times_s, strict=True))
    ]


def answers(due: list[Due], median_s: float, failing: float = 0.0, tokens: int = 16, seed: int = 2) -> list[Trace]:
    """Return what a server with log-normal latency of that median answers; a share of `failing` fails, hostilely."""
    generator = np.random.default_rng(seed)
    return [_answer(one, generator, median_s, failing, tokens) for one in due]


def _answer(one: Due, generator: np.random.Generator, median_s: float, failing: float, tokens: int) -> Trace:
    sent_s = one.intended_s + 0.0001
    last_s = sent_s + median_s * float(np.exp(generator.normal(0, 0.12)))
    if generator.random() < failing:
        return Trace(
            one.index, one.replicate, one.intended_s, 128, 64,
            sent_s=sent_s, end_s=sent_s + 0.01, status=500, error=ErrorKind.HTTP, detail=HOSTILE[:200],
        )  # fmt: skip
    first_s = sent_s + 0.15 * (last_s - sent_s)
    gaps = generator.exponential(1.0, tokens - 1)
    times_s = first_s + np.concatenate(([0.0], np.cumsum(gaps / gaps.sum()))) * (last_s - first_s)
    return Trace(
        one.index, one.replicate, one.intended_s, 128, 64, sent_s=sent_s, end_s=float(times_s[-1]) + 1e-4,
        token_lo_s=tuple(times_s - 2e-5), token_hi_s=tuple(times_s), chunks=tokens, prompt_tokens=128,
        output_tokens=64, status=200, finish_reason="length", read_lag_s=1e-4,
    )  # fmt: skip


def record_of(table: TraceTable, facts: RunFacts, gates: tuple[str, ...], evidence: str, title: str) -> Record:
    """Return the record that the judge's findings make."""
    parsed = parse_gates(gates)
    wanted = demands(parsed)
    certificate = {
        "ok": True,
        "reasons": (),
        "bound_s": 0.02,
        "fidelity": {"achieved_rps": 75.2, "send_lag_p99_s": 4e-4},
    }
    return from_parts(
        {
            "id": "20261120T100000Z-mixtral-sim",
            "started": STARTED,
            "evidence": evidence,
            "environment": {"python": "3.11.7", "processor": "Xeon", "cores": "2", "git": "0123abc"},
            "target": {"engine": "sim", "device": "H200 (simulated)"},
        },
        judge(table, parsed, facts),
        summarise(table, wanted),
        replicates=replicates_of(table, wanted),
        certificates=(certificate, None),
        profile={"name": "mixtral", "title": title, "contract": {"rate": RATE_RPS, "timeout_s": 30.0, "stream": True}},
        load=facts.load,
        server={"before": {"requests": 0}, "after": None},
    )


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a maker of run folders; `median_s` decides what the verdict will be."""

    def make(
        *,
        median_s: float = 1.2,
        failing: float = 0.0,
        count: int = 4,
        requests: int = 200,
        gates: tuple[str, ...] = ("e2e p95 <= 2000 ms", "ttft p95 <= 400 ms", "error_rate <= 1 %"),
        evidence: str = "simulated",
        title: str = "Mixtral-8x7B, chat, 128 tokens in, 64 out, 5 requests a second",
        sent: bool = True,
        traces: bool = True,
    ) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        due = schedule(count, requests, RATE_RPS)
        found = answers(due, median_s, failing) if sent else []
        asked = Asked(RATE_RPS, 128, 64, count, requests)
        load = LoadSummary(10.0, 1.7e9, len(due), len(found), "kernel", 0.0, 3.5, 2**25, stopped_early=False)
        facts = RunFacts(asked, Certified(ok=True), load, interrupted=not sent)
        table = TraceTable.from_traces(found)
        write_record(folder, record_of(table, facts, gates, evidence, title))
        if traces:
            write_traces(folder / "traces.parquet", found)
        return folder

    return make
