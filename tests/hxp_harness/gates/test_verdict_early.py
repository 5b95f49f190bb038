"""Verdicts on runs that are not whole: at a look, when time is up, and when a failure is obvious."""

from dataclasses import replace

from hxp_harness.gates.outcome import Outcome
from hxp_harness.gates.verdict import complete_replicates
from hxp_harness.trace import ErrorKind
from tests.hxp_harness.gates.test_verdict import EIGHT, MakeRun, first, verdict


def test_part_of_a_run_does_not_pass(run: MakeRun) -> None:
    """Six good replicates of eight are no PASS: that is no look; what is missing is said."""
    found = verdict(run(*EIGHT[:6], planned=8), "e2e p95 <= 2 s")

    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.reasons[0] == "Only 6 of 8 replicates are complete."
    assert "a PASS needs every replicate" in found.reasons[1]


def test_half_of_a_run_may_pass(run: MakeRun) -> None:
    """At half of the run what is clear passes: that look is planned, and has its share of the chance of error."""
    half = run(*EIGHT[:6], planned=12)

    assert verdict(half, "e2e p95 <= 2 s").outcome is Outcome.PASS
    assert verdict(half, "e2e p95 <= 1010 ms").outcome is Outcome.INCONCLUSIVE


def test_used_up_time_is_inconclusive(run: MakeRun) -> None:
    """A run that its budget ended is INCONCLUSIVE, however good it looks, and says why."""
    found = verdict(run(*EIGHT[:6], planned=8).told(budget_minutes=1.5), "e2e p95 <= 2 s")

    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.reasons[0] == "The 1.5 min allowed are used up: only 6 of 8 replicates are complete."


def test_too_few_requests_for_a_stall(run: MakeRun) -> None:
    """Half of a run that is too short to have met a stall of all in flight does not pass; how long it takes is said."""
    half = run(*EIGHT[:4], planned=8)  # 50 a second for 0.76 s: 38 in flight
    gate = first(verdict(half, "e2e p95 <= 9 s"))

    assert gate.outcome is Outcome.INCONCLUSIVE
    assert "2400 values are too few to have met a rare stall" in gate.sentence
    assert first(verdict(run(*EIGHT[:4]), "e2e p95 <= 9 s")).outcome is Outcome.PASS


def test_part_of_a_run_fails_only_when_obvious(run: MakeRun) -> None:
    """What would be a FAIL at the planned end is none before it: looking at every step must not add up chances."""
    early = verdict(run(*EIGHT[:5], planned=8), "e2e p95 <= 980 ms")
    at_the_end = verdict(run(*EIGHT[:5]), "e2e p95 <= 980 ms")

    assert (first(early).outcome, first(at_the_end).outcome) == (Outcome.INCONCLUSIVE, Outcome.FAIL)


def test_an_obvious_failure_needs_no_whole_run(run: MakeRun) -> None:
    """Three replicates of nothing but slow answers fail a run of eight."""
    found = verdict(run(*EIGHT[:3], planned=8), "e2e p95 <= 400 ms")

    assert found.outcome is Outcome.FAIL
    assert found.replicates == 3


def test_an_unfinished_replicate_is_not_judged(run: MakeRun) -> None:
    """Requests cut off by the end of the run are the harness's doing: their replicate does not count."""
    cut = run(*EIGHT).changed(
        lambda trace: replace(trace, error=ErrorKind.UNFINISHED) if trace.index == 8 * 600 - 1 else trace
    )

    assert complete_replicates(cut.table, cut.facts) == list(range(7))
