"""Requests that pile up are told from the swings and the start of a service that keeps up."""

from collections.abc import Callable
from dataclasses import replace

from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.outcome import Outcome, Verdict
from hxp_harness.gates.saturation import saturation
from hxp_harness.gates.verdict import judge
from hxp_harness.metrics.table import TraceTable
from hxp_harness.trace import Trace
from tests.hxp_harness.gates.conftest import RATE_RPS, Run, one_request

MakeRun = Callable[..., Run]


def verdict(run: Run, *gates: str) -> Verdict:
    return judge(run.table, parse_gates([*gates, "error_rate <= 1 %"]), run.facts)


def test_saturation_fails(run: MakeRun) -> None:
    """Requests that pile up while they are sent on time are a FAIL with its evidence, whatever the gates."""
    found = verdict(
        run(*(0.5 + 0.5 * number for number in range(8)), pace=lambda index: 1 + index / 1600), "e2e p95 <= 99 s"
    )

    assert found.outcome is Outcome.FAIL
    assert "does not keep up with 50 requests a second" in found.reasons[0]


def test_an_overload_that_began_in_the_warm_up_is_one(run: MakeRun) -> None:
    """A server that was full before the first measured request, at half the rate it is offered, does not keep up."""
    facts = run(1.0).facts
    made = [one_request(i, -1 if i < 300 else 0, i / RATE_RPS, 1.0 + i / RATE_RPS) for i in range(600)]

    assert "requests in flight grew from" in saturation(TraceTable.from_traces(made), facts)


def test_a_first_token_that_came_sooner_is_no_evidence_of_a_pile(run: MakeRun) -> None:
    """In a pile the slow answers have not come yet; that those which came were quicker at the end is not told."""

    def quicker(trace: Trace) -> Trace:
        times = (trace.intended_s + 1 - trace.index / 1000, *trace.token_hi_s[1:])
        return replace(trace, token_lo_s=times, token_hi_s=times)

    made = [one_request(i, 0, i / RATE_RPS, 4.0 + 2 * i / RATE_RPS) for i in range(300)]
    told = [saturation(TraceTable.from_traces(traces), run(1.0).facts) for traces in (made, map(quicker, made))]

    assert ["requests in flight grew from" in each for each in told] == [True, True]
    assert ["the median TTFT went from" in each for each in told] == [True, False]


def test_a_start_is_no_saturation(run: MakeRun) -> None:
    """Requests in flight that grow to their steady number and stay there are no queue."""
    slow = run(*[4.0] * 6)

    assert verdict(slow, "e2e p50 <= 9 s").outcome is Outcome.PASS


def test_one_request_is_no_saturation(run: MakeRun) -> None:
    """A run of no length has no trend."""
    one = run(1.0)
    alone = replace(one.facts, asked=replace(one.facts.asked, requests=1))

    assert saturation(TraceTable.from_traces(one.traces[:1]), alone) == ""
