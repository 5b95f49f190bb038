"""Each tool's figure of the same traces is the one that its source gives, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hxp_harness.metrics import columns
from hxp_harness.metrics.definitions import Demand
from hxp_harness.metrics.peers import PEERS, VALUES, rows
from hxp_harness.metrics.rosetta import PointGaps, Reported, translate
from hxp_harness.metrics.table import TraceTable, write_traces
from hxp_harness.trace import ErrorKind, Trace

TOOLS = ("hxp", "vllm-bench", "guidellm", "aiperf", "inference-perf", "llmperf", "mlperf")


def trace(index: int, times_s: Sequence[float], *, late_s: float = 0.0, end_s: float = 0.0, n: int = 0) -> Trace:
    """Return a request that was due at index seconds, sent `late_s` after that, with tokens at times since then."""
    at_s = float(index)
    arrivals = tuple(at_s + time_s for time_s in times_s)
    return Trace(
        index, 0, at_s, 8, 4, sent_s=at_s + late_s, end_s=at_s + (end_s or times_s[-1]), token_lo_s=arrivals,
        token_hi_s=arrivals, chunks=len(set(times_s)), prompt_tokens=8, output_tokens=n or len(times_s), status=200,
        finish_reason="length",
    )  # fmt: skip


def told(traces: Sequence[Trace], demands: Sequence[Demand] = ()) -> dict[str, dict[str, Reported]]:
    table = TraceTable.from_traces(traces)
    found = translate(table, PointGaps.of(columns.batches(traces)), demands)
    names = {peer: key for key, peer in PEERS.items()}
    return {subject: {names[one.row.peer]: one for one in all_} for subject, all_ in found.items()}


def means(found: dict[str, Reported]) -> dict[str, float | None]:
    return {tool: one.mean and round(one.mean, 9) for tool, one in found.items()}


# Due at 0 and sent at 0.1; tokens at 0.3, then two in one chunk at 0.5, and 0.9; the stream ends at 1.0.
ONE = trace(0, (0.3, 0.5, 0.5, 0.9), late_s=0.1, end_s=1.0)


def test_one_request_in_every_tongue() -> None:
    """Where a clock starts, which token ends it and what divides it: by hand for one request."""
    found = told([ONE])
    assert means(found["ttft"]) == {
        "hxp": 0.3, "vllm-bench": 0.2, "guidellm": 0.2, "aiperf": 0.2, "inference-perf": 0.2, "llmperf": 0.2,
        "mlperf": 0.3,
    }  # fmt: skip
    assert means(found["e2e"]) == {
        "hxp": 0.9, "vllm-bench": 0.8, "guidellm": 0.9, "aiperf": 0.8, "inference-perf": 0.9, "llmperf": 0.9,
        "mlperf": 1.0,
    }  # fmt: skip
    assert means(found["tpot"]) == {
        "hxp": 0.2, "vllm-bench": 0.2, "guidellm": 0.2, "aiperf": 0.2, "inference-perf": 0.2, "llmperf": 0.2,
        "mlperf": round(0.7 / 3, 9),
    }  # fmt: skip
    assert {tool: one.n for tool, one in found["itl"].items()} == {
        "hxp": 3, "vllm-bench": 2, "guidellm": 1, "aiperf": 2, "inference-perf": 3, "llmperf": 0, "mlperf": 0,
    }  # fmt: skip
    itl = {tool: one.mean for tool, one in found["itl"].items() if one.mean is not None}
    assert itl == pytest.approx(
        {"hxp": 0.2, "vllm-bench": 0.3, "guidellm": 0.2, "aiperf": 0.3, "inference-perf": 0.2}, abs=1e-6
    )


def test_the_first_token_is_in_some_tpots() -> None:
    """A long wait for the first token makes GuideLLM's and LLMPerf's tpot long, and nobody else's."""
    found = means(told([trace(0, (2.0, 2.1, 2.2, 2.3))])["tpot"])
    assert found == {
        "hxp": 0.1, "vllm-bench": 0.1, "guidellm": 0.575, "aiperf": 0.1, "inference-perf": 0.1, "llmperf": 0.575,
        "mlperf": 0.1,
    }  # fmt: skip


def test_an_answer_of_one_token_has_its_own_treatment() -> None:
    """Nobody has gaps; inference-perf leaves its first token out; tpots that include the first token have one."""
    found = told([trace(0, (0.5,))])
    assert found["ttft"]["inference-perf"].n == 0
    assert found["ttft"]["vllm-bench"].mean == 0.5
    assert {tool: one.n for tool, one in found["tpot"].items() if one.n} == {"guidellm": 1, "llmperf": 1}
    assert all(one.n == 0 for one in found["itl"].values())


def test_percentiles_are_those_of_each_tool() -> None:
    """Of 1..10 s the p95: order statistic 10, linear 9.55, sorted[int(9.5)] 10; the median 5, 5.5 and 6."""
    found = told([trace(index, (index + 1.0,)) for index in range(10)])["ttft"]
    p95 = {tool: one.p95 for tool, one in found.items() if one.n}
    p50 = {tool: one.p50 for tool, one in found.items() if one.n}
    assert p95 == pytest.approx(
        {"hxp": 10, "vllm-bench": 9.55, "guidellm": 10, "aiperf": 9.55, "llmperf": 9.55, "mlperf": 10}
    )
    assert p50 == pytest.approx(
        {"hxp": 5, "vllm-bench": 5.5, "guidellm": 5, "aiperf": 5.5, "llmperf": 5.5, "mlperf": 6}
    )


@pytest.mark.parametrize(
    ("kind", "fooled"),
    [
        (ErrorKind.STREAM_ERROR, {"vllm-bench", "aiperf", "inference-perf"}),
        (ErrorKind.TRUNCATED, {"vllm-bench", "guidellm", "aiperf", "inference-perf", "llmperf"}),
        (ErrorKind.RESET, set()),
        (ErrorKind.HTTP, set()),
    ],
)
def test_what_some_count_as_successes(kind: ErrorKind, fooled: set[str]) -> None:
    """A stream that failed after a token is a success for those who do not look; without a token for none."""
    broken = replace(trace(1, (0.1, 0.2)), error=kind)
    found = told([ONE, broken])["ttft"]
    assert {tool for tool, one in found.items() if one.n == 2} == fooled
    assert {one.n for one in told([ONE, replace(broken, token_lo_s=(), token_hi_s=())])["ttft"].values()} == {1}


def test_goodput_by_each_count() -> None:
    """Of four, one failed, one was late and one is of one token: shares and rates by each tool's denominator."""
    traces = [
        trace(0, (0.1, 0.2)),
        trace(1, (0.1, 2.0)),
        trace(2, (0.1,)),
        replace(trace(3, (0.1, 0.2), end_s=1.0), error=ErrorKind.RESET),
    ]
    found = means(told(traces, [Demand("tpot", 0.5)])["goodput"])
    # attempted 4, successful 3, from the first sending at 0 to the last end at 4
    assert found == {
        "hxp": 0.5, "vllm-bench": 0.5, "guidellm": 0.25, "aiperf": 0.25, "inference-perf": round(1 / 3, 9),
        "llmperf": None, "mlperf": None,
    }  # fmt: skip


def test_goodput_needs_limits_that_a_tool_can_set() -> None:
    """Without limits there is none, nor with one that a tool does not know."""
    assert {one.n for one in told([ONE])["goodput"].values()} == {0}
    assert {one.n for one in told([ONE], [Demand("itl", 1.0)])["goodput"].values()} == {0}
    even = [trace(0, (0.25, 0.5))]
    assert means(told(even, [Demand("ttft", 0.25)])["goodput"])["hxp"] == 1.0
    assert means(told(even, [Demand("ttft", 0.25, strict=True)])["goodput"])["hxp"] == 0.0


def test_rates_by_each_window() -> None:
    """Three answers of 2, 2 and 4 tokens from 0 to 3 s, due at 0, 1 and 2."""
    traces = [trace(0, (0.1, 0.2)), trace(1, (0.1, 0.2)), trace(2, (0.1, 0.2, 0.3, 1.0))]
    found = told(traces)
    requests = {tool: one.mean for tool, one in found["throughput"].items() if one.mean is not None}
    tokens = {tool: one.mean for tool, one in found["output_throughput"].items() if one.mean is not None}
    assert set(requests) == set(tokens) == set(TOOLS) - {"hxp"}
    assert requests == pytest.approx(dict.fromkeys(requests, 1.0))
    assert tokens == pytest.approx(dict.fromkeys(tokens, 8 / 3))


def test_warm_up_is_in_nobodys_figures() -> None:
    """Only measured requests are told of."""
    found = told([replace(trace(0, (5.0, 6.0)), replicate=-1), trace(1, (0.1, 0.2))])
    assert found["ttft"]["vllm-bench"].mean == pytest.approx(0.1)
    assert found["itl"]["hxp"].n == 1


def test_nothing_measured_is_nothing_told() -> None:
    """A run of no request has no figure, and raises nothing."""
    assert all(one.n == 0 for all_ in told([]).values() for one in all_.values())


def test_gaps_are_read_from_the_file(tmp_path: Path) -> None:
    """Points of the stored traces give the same gaps as those in memory, across row groups."""
    traces = [trace(index, (0.1, 0.3, 0.6)[: 1 + index % 3]) for index in range(5000)]
    write_traces(tmp_path / "traces.parquet", traces)
    found, expected = PointGaps.read(tmp_path / "traces.parquet"), PointGaps.of(columns.batches(traces))
    assert found.counts.tolist() == expected.counts.tolist() == [index % 3 for index in range(5000)]
    assert found.values_s.tolist() == expected.values_s.tolist()
    assert found.values_s[:3].tolist() == pytest.approx([0.2, 0.2, 0.3], abs=1e-6)


def test_every_row_has_a_source_and_every_tool_every_subject() -> None:
    """Seven tools, seven subjects, one row for each pair; no function stands there unused."""
    assert len({(row.peer, row.subject) for row in rows()}) == len(rows()) == 49
    assert all(row.source and row.formula for row in rows())
    assert {row.values for row in rows()} - {None} == set(VALUES.values())
