"""The story of a verdict, for somebody who never took statistics."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hxp_harness.gates.explain import WIDTH, explain
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.verdict import judge
from hxp_harness.trace import Trace
from tests.hxp_harness.gates.conftest import Run

EIGHT = (1.0, 1.002, 0.998, 1.001, 0.999, 1.0, 1.003, 0.997)


MakeRun = Callable[..., Run]


def story(run: Run, *gates: str) -> str:
    text = explain(judge(run.table, parse_gates([*gates, "error_rate <= 1 %"]), run.facts))
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert text.endswith("\n")
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("gate", "opening", "ending"),
    [
        ("e2e p95 <= 2 s", "PASS: every gate is met", "keep the run folder"),
        ("e2e p95 <= 800 ms", "FAIL: the service does not do", "latency over time"),
        ("e2e p95 <= 1010 ms", "INCONCLUSIVE: nothing is known to be wrong", "Change the limit or the service."),
    ],
)
def test_each_outcome_has_its_story(run: MakeRun, gate: str, opening: str, ending: str) -> None:
    """The story opens with what it means and ends with what to do."""
    text = story(run(*EIGHT), gate)

    assert text.startswith(opening)
    assert text.endswith(ending) or ending in text[-200:]
    assert "8 of 8 replicates are complete." in text
    assert "2% below the limit" in text
    assert "Replicate by replicate: 1000 ms, 1002 ms, 998 ms" in text
    assert "All 16 checks are clean." in text


def test_more_replicates_are_advised(run: MakeRun) -> None:
    """Where more of the same would decide, the story says what to write into the profile."""
    assert "Run again with replicates.count: " in story(run(0.8, 1.2, 0.7, 1.3), "e2e p95 <= 1400 ms")


def test_distrust_is_listed(run: MakeRun) -> None:
    """An INVALID run lists the checks that failed and those that could not be made."""
    text = story(run(*EIGHT).told(certified=None, load=None), "e2e p95 <= 2 s")

    assert text.startswith("INVALID: the measurement cannot be trusted")
    assert "certificate, FAILED: The measuring client has no certificate" in text
    assert "clock steady, not proven:" in text
    assert "e2e p95 <= 2 s: not judged." in text
    assert "hxp certify" in text


def test_uncertain_arrivals_are_explained(run: MakeRun) -> None:
    """Where arrivals are known only within bounds, the story says that the worse end was judged."""

    def blurred(trace: Trace) -> Trace:
        late = tuple(time + 0.001 for time in trace.token_hi_s)
        return replace(trace, token_hi_s=late, end_s=late[-1])

    assert "the worse end is shown" in story(run(*EIGHT).changed(blurred), "e2e p95 <= 2 s")


def test_no_latency_no_guard(run: MakeRun) -> None:
    """Without a latency gate the guard band is not explained."""
    assert "below its limit" not in story(run(*EIGHT), "output_tokens mean >= 3 tokens")
    assert "0 of 1 replicates" in story(
        run(1.0).told(asked=replace(run(1.0).facts.asked, requests=999)), "e2e p95 <= 1 s"
    )
