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
    """A run too short to have met a stall of all in flight does not pass, whole or not, and says how long one is."""
    # 50 a second for 0.76 s: 38 in flight
    for planned in (8, 4):
        gate = first(verdict(run(*EIGHT[:4], planned=planned), "e2e p95 <= 9 s"))
        assert gate.outcome is Outcome.INCONCLUSIVE
        assert "2,400 requests are too few to have met a rare stall" in gate.sentence
        assert "p95 needs 3,5" in gate.sentence
        assert "which is 2 replicates more (about a minute)" in gate.sentence
    assert gate.more_replicates == 2
    assert first(verdict(run(*EIGHT[:6]), "e2e p95 <= 9 s")).outcome is Outcome.PASS


def test_a_gate_on_some_requests_needs_no_longer_run(run: MakeRun) -> None:
    """Of those in flight a fifth are such requests: a run that is long enough for all is so for them."""
    whole = run(*EIGHT[:6]).changed(lambda trace: replace(trace, tag="free" if trace.index % 5 else "gold"))
    gates = ("e2e p95 <= 9 s where tag = gold", "e2e p95 <= 9 s where tag = free")

    assert [gate.outcome for gate in verdict(whole, *gates).gates[:2]] == [Outcome.PASS, Outcome.PASS]


def test_goodput_needs_the_run_of_its_percentile(run: MakeRun) -> None:
    """A share of late answers hides stalls as a percentile does; a share of errors is counted as it was seen."""
    goodput = "goodput(e2e <= 9 s) >= 95 %"
    short, long = (verdict(run(*EIGHT[:count]), goodput) for count in (4, 6))

    assert [gate.outcome for gate in short.gates] == [Outcome.INCONCLUSIVE, Outcome.PASS]
    assert "goodput needs 3,5" in first(short).sentence
    assert first(long).outcome is Outcome.PASS


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
