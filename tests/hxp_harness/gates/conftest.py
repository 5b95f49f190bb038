"""Runs of known truth, small enough to make on the spot."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from hxp_harness.gates.canary import CanaryAnswers
from hxp_harness.gates.facts import Asked, Certified, RunFacts
from hxp_harness.load.plan import LoadSummary
from hxp_harness.metrics.scrape import Scrape
from hxp_harness.metrics.table import TraceTable
from hxp_harness.trace import ErrorKind, Trace

REQUESTS = 600
RATE_RPS = 50.0
TOKENS = 4


def one_request(index: int, replicate: int, due_s: float, e2e_s: float) -> Trace:
    """A request with a quarter of its time to each of its tokens."""
    times = tuple(due_s + e2e_s * (token + 1) / TOKENS for token in range(TOKENS))
    return Trace(
        index=index,
        replicate=replicate,
        intended_s=due_s,
        asked_prompt_tokens=10,
        asked_output_tokens=TOKENS,
        sent_s=due_s + 1e-4,
        end_s=times[-1] + 1e-4,
        token_lo_s=times,
        token_hi_s=times,
        chunks=TOKENS,
        prompt_tokens=10,
        output_tokens=TOKENS,
        status=200,
        finish_reason="length",
    )


@dataclass(frozen=True)
class Run:
    """A finished run: its traces, and what is known beside them."""

    traces: tuple[Trace, ...]
    facts: RunFacts
    stream: bool = True

    @property
    def table(self) -> TraceTable:
        return TraceTable.from_traces(self.traces, stream=self.stream)

    def told(self, **changes: object) -> "Run":
        """The same run with other facts."""
        return replace(self, facts=replace(self.facts, **changes))  # type: ignore[arg-type]  # names checked by replace

    def changed(self, change: Callable[[Trace], Trace]) -> "Run":
        """The same run with other traces."""
        return replace(self, traces=tuple(map(change, self.traces)))

    def failing(self, every: int, kind: ErrorKind = ErrorKind.HTTP) -> "Run":
        """The same run with every so many-th request failed."""
        return self.changed(
            lambda trace: (
                trace if trace.index % every else replace(trace, error=kind, output_tokens=None, prompt_tokens=None)
            )
        )


def evenly(index: int) -> float:
    """A pattern of 600 levels from half to a little over 1, in no order; 95 of 100 lie at 1 or below."""
    return 0.5 + 0.5 * ((index * 149) % 600 + 1) / 570


@pytest.fixture
def run() -> Callable[..., Run]:
    """Make a run from the p95 of each replicate; the latencies lie evenly between half of it and a little more."""

    def make(*level_s: float, planned: int | None = None, pace: Callable[[int], float] | None = None) -> Run:
        traces = []
        for index in range(len(level_s) * REQUESTS):
            replicate = index // REQUESTS
            factor = evenly(index) if pace is None else pace(index)
            traces.append(one_request(index, replicate, index / RATE_RPS, level_s[replicate] * factor))
        tokens, prompts = TOKENS * len(traces), 10 * len(traces)
        facts = RunFacts(
            asked=Asked(RATE_RPS, 10, TOKENS, planned or len(level_s), REQUESTS),
            certified=Certified(ok=True),
            canary=CanaryAnswers(*[["same"] * 8] * 3),
            load=LoadSummary(0.0, 0.0, len(traces), len(traces), "kernel", 0.0, 1.0, 0, stopped_early=False),
            before=Scrape(100.0, 50.0, 5.0, prefix_hits=0.0, prefix_queries=100.0, process_start_s=1e9),
            after=Scrape(
                100.0 + prompts,
                50.0 + tokens,
                5.0,
                prefix_hits=0.0,
                prefix_queries=100.0 + prompts,
                process_start_s=1e9,
            ),
        )
        return Run(tuple(traces), facts)

    return make
