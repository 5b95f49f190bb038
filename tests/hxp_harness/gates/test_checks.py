"""Every reason for distrust is found when it is there, silent when it is not, and said when it cannot be looked for."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hxp_harness.errors import UsageError
from hxp_harness.gates.facts import Certified
from hxp_harness.gates.gate import check_supported
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.outcome import CheckOutcome, Outcome, Verdict
from hxp_harness.gates.verdict import judge
from hxp_harness.load.plan import HostShare, LoadSummary
from hxp_harness.metrics.scrape import Scrape
from hxp_harness.trace import ErrorKind, Trace
from tests.hxp_harness.gates.conftest import RATE_RPS, Run, evenly

SIX = (1.0, 1.002, 0.998, 1.001, 0.999, 1.0)
OK, FAILED, NOT_PROVEN = CheckOutcome.OK, CheckOutcome.FAILED, CheckOutcome.NOT_PROVEN


MakeRun = Callable[..., Run]


def verdict(run: Run, *gates: str) -> Verdict:
    return judge(run.table, parse_gates([*gates, "e2e p95 <= 2 s", "error_rate <= 1 %"]), run.facts)


def outcomes(found: Verdict) -> dict[str, CheckOutcome]:
    return {check.name: check.outcome for check in found.checks if check.outcome is not OK}


def load(run: Run, **changes: object) -> LoadSummary:
    assert run.facts.load is not None
    return replace(run.facts.load, **changes)  # type: ignore[arg-type]  # names checked by replace


def after(run: Run, **changes: float | None) -> Scrape:
    assert run.facts.after is not None
    return replace(run.facts.after, **changes)


def test_a_clean_run_has_nothing_against_it(run: MakeRun) -> None:
    """No check cries wolf."""
    found = verdict(run(*SIX))

    assert found.outcome is Outcome.PASS
    assert outcomes(found) == {}
    assert len(found.checks) == 16


def test_sources_that_are_missing_are_said(run: MakeRun) -> None:
    """Without the target's page or the generator's summary the checks on them are not proven, and the run is judged."""
    found = verdict(run(*SIX).told(load=None, before=None, after=None))

    assert found.outcome is Outcome.PASS
    assert outcomes(found) == {
        "every request traced": NOT_PROVEN,
        "clock steady": NOT_PROVEN,
        "prefix cache": NOT_PROVEN,
        "server not restarted": NOT_PROVEN,
    }


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("not interrupted", lambda run: run.told(interrupted=True)),
        ("certificate", lambda run: run.told(certified=None)),
        ("certificate", lambda run: run.told(certified=Certified(ok=False))),
        ("every request traced", lambda run: run.told(load=load(run, due=3601))),
        ("every request traced", lambda run: run.changed(lambda trace: replace(trace, index=trace.index // 2))),
        ("every request traced", lambda run: run.changed(lambda trace: replace(trace, replicate=-1))),
        ("clock steady", lambda run: run.told(load=load(run, clock_step_s=-0.01))),
        ("tokens agree", lambda run: run.told(after=after(run, generation_tokens=4700.0))),
        ("tokens agree", lambda run: run.told(after=after(run, generation_tokens=5000.0))),
        ("tokens agree", lambda run: run.told(after=after(run, prompt_tokens=13000.0))),
        ("tokens agree", lambda run: run.changed(lambda trace: replace(trace, output_tokens=3))),
        ("prefix cache", lambda run: run.told(after=after(run, prefix_hits=4000.0))),
        ("server not restarted", lambda run: run.told(after=after(run, process_start_s=1e9 + 60))),
        ("server not restarted", lambda run: run.told(after=after(run, generation_tokens=7.0))),
        ("prompt length", lambda run: run.told(asked=replace(run.facts.asked, prompt_tokens=12))),
        ("output length", lambda run: run.told(asked=replace(run.facts.asked, output_tokens=3))),
        ("times consistent", lambda run: run.changed(lambda trace: replace(trace, end_s=trace.intended_s))),
        ("times consistent", lambda run: run.changed(lambda trace: replace(trace, sent_s=trace.intended_s - 0.1))),
        ("times consistent", lambda run: run.changed(lambda trace: replace(trace, end_s=None))),
    ],
)
def test_a_reason_for_distrust_is_found(run: MakeRun, name: str, change: Callable[[Run], Run]) -> None:
    """Each defect makes its own check fail and the run INVALID, with the check's sentence as the reason."""
    found = verdict(change(run(*SIX)))

    failed = {check.name: check.sentence for check in found.checks if check.outcome is FAILED}
    assert found.outcome is Outcome.INVALID
    assert failed[name] in found.reasons


def test_late_sending_is_found(run: MakeRun) -> None:
    """A generator that sends 2 % of the requests 30 ms late cannot judge a limit of 2 s, of which 1 % is 20 ms."""

    def late(trace: Trace) -> Trace:
        return replace(trace, sent_s=trace.intended_s + 0.03) if trace.index % 50 == 0 else trace

    assert outcomes(verdict(run(*SIX).changed(late))) == {"sent on time": FAILED}
    assert outcomes(judge_with(run(*SIX).changed(late), "e2e p95 <= 4 s")) == {}


def judge_with(run: Run, gate: str) -> Verdict:
    return judge(run.table, parse_gates([gate, "error_rate <= 1 %"]), run.facts)


def test_unsent_requests_are_found(run: MakeRun) -> None:
    """When more than 1 % of what was due was never sent, another load was measured."""

    def unsent(trace: Trace) -> Trace:
        if trace.index % 50:
            return trace
        return replace(trace, sent_s=None, end_s=None, token_lo_s=(), token_hi_s=(), error=ErrorKind.NOT_SENT)

    assert outcomes(verdict(run(*SIX).changed(unsent)))["requests sent"] is FAILED


def test_nothing_sent_at_all(run: MakeRun) -> None:
    """A run of which nothing was sent is INVALID and breaks no arithmetic."""

    def unsent(trace: Trace) -> Trace:
        return replace(
            trace, sent_s=None, end_s=None, token_lo_s=(), token_hi_s=(), output_tokens=None, error=ErrorKind.NOT_SENT
        )

    found = verdict(run(*SIX).changed(unsent))

    assert found.outcome is Outcome.INVALID
    assert outcomes(found)["sent on time"] is FAILED
    assert outcomes(found)["Little's law"] is NOT_PROVEN
    assert outcomes(found)["prompt length"] is NOT_PROVEN


def test_a_drift_is_found(run: MakeRun) -> None:
    """Latency that rises through the run by a half, without a queue, leaves no one value to judge."""
    found = verdict(run(0.5, 0.56, 0.61, 0.66, 0.7, 0.76))

    assert outcomes(found) == {"stationary": FAILED}
    assert found.reasons[0].startswith("Latency drifted, to 1.5")


@pytest.mark.parametrize("levels", [(0.5, 0.6, 0.5, 0.6, 0.5, 0.6), (0.5, 0.501, 0.502, 0.503, 0.504, 0.505)])
def test_noise_and_a_hair_are_no_drift(run: MakeRun, levels: tuple[float, ...]) -> None:
    """Scatter without a trend is no drift, nor is a trend of one percent."""
    assert outcomes(verdict(run(*levels))) == {}


def test_a_jump_is_found(run: MakeRun) -> None:
    """Latency that steps up in the middle of the run leaves no one value to judge; where it did is said."""
    found = verdict(run(0.5, 0.5, 0.5, 0.8, 0.8, 0.8))

    assert outcomes(found) == {"settled": FAILED, "stationary": FAILED}
    assert "jumped after 50% of the run, to 1.6" in " ".join(found.reasons)


def test_nothing_that_succeeded_has_no_trend(run: MakeRun) -> None:
    """Without an answer a trend is not proven."""
    assert outcomes(verdict(run(0.5, 0.5).failing(1)))["stationary"] is NOT_PROVEN


def test_a_cold_start_is_cut(run: MakeRun) -> None:
    """Requests that were slow because the server was cold are not judged, and how many is said."""
    cold = run(*SIX, 1.0, pace=lambda index: evenly(index) * (1 + 3 * 0.98**index))
    found = verdict(cold)

    assert found.outcome is Outcome.PASS
    (settled,) = (check for check in found.checks if check.name == "settled")
    assert "measured requests were still warm-up (MSER-5)" in settled.sentence


def test_a_start_that_never_ends_is_found(run: MakeRun) -> None:
    """A run that is cold for most of its time is INVALID, with the remedy."""
    found = verdict(run(*SIX, pace=lambda index: evenly(index) * (1.5 if index < 1700 else 0.7)))

    assert outcomes(found)["settled"] is FAILED
    assert "set replicates.warm_up to more" in " ".join(found.reasons)


def test_without_a_gate_on_latency_its_course_does_not_matter(run: MakeRun) -> None:
    """A drift of latency is no reason to distrust a throughput."""
    drifting = run(0.5, 0.56, 0.61, 0.66, 0.7, 0.76)
    found = judge(drifting.table, parse_gates(["throughput >= 40 rps", "error_rate <= 1 %"]), drifting.facts)

    assert outcomes(found) == {}


def test_a_queue_is_no_drift(run: MakeRun) -> None:
    """When requests pile up the trend is the service's doing: a FAIL, not INVALID."""
    found = verdict(run(*(0.5 + 0.7 * number for number in range(6)), pace=lambda index: 1 + index / 1200))

    assert found.outcome is Outcome.FAIL
    assert "stationary" not in outcomes(found)


def test_chunks_of_unknown_size_prove_nothing(run: MakeRun) -> None:
    """Where chunks carry several tokens and no counter tells, usage stands alone: not proven, or failed if gated."""

    def merged(trace: Trace) -> Trace:
        return replace(trace, token_lo_s=trace.token_lo_s[::2], token_hi_s=trace.token_hi_s[::2], chunks=2)

    alone = run(*SIX).changed(merged).told(before=None, after=None)

    assert outcomes(verdict(alone))["tokens agree"] is NOT_PROVEN
    found = verdict(alone, "tpot p95 <= 1 s")
    assert outcomes(found)["tokens agree"] is FAILED
    assert "tpot p95 <= 1 s needs it" in found.reasons[0]


def test_chunks_of_unknown_size_beside_a_counter(run: MakeRun) -> None:
    """The server's own counter confirms its usage where chunks cannot."""

    def merged(trace: Trace) -> Trace:
        return replace(trace, token_lo_s=trace.token_lo_s[::2], token_hi_s=trace.token_hi_s[::2], chunks=2)

    assert "tokens agree" not in outcomes(verdict(run(*SIX).changed(merged), "tpot p95 <= 1 s"))


def test_what_failed_requests_cost_is_allowed_for(run: MakeRun) -> None:
    """A failed request may have made the server count up to what it asked for, and no more."""
    broken = run(*SIX).failing(100)
    assert outcomes(verdict(broken)) == {}

    few = broken.told(after=after(broken, generation_tokens=50.0 + 4 * 3564))
    assert outcomes(verdict(few)) == {}


def test_cached_tokens_by_usage(run: MakeRun) -> None:
    """Without the counters, usage may tell how much of the prompts was cached."""

    def cached(count: int) -> Callable[[Trace], Trace]:
        return lambda trace: replace(trace, cached_tokens=count)

    blind = run(*SIX).told(before=None, after=None)
    assert outcomes(verdict(blind.changed(cached(0)))).get("prefix cache") is None
    assert outcomes(verdict(blind.changed(cached(5))))["prefix cache"] is FAILED


def test_lengths_are_not_proven_without_usage(run: MakeRun) -> None:
    """Where no request tells its prompt's length it is not proven."""
    silent = run(*SIX).changed(lambda trace: replace(trace, prompt_tokens=None)).told(before=None, after=None)

    assert outcomes(verdict(silent))["prompt length"] is NOT_PROVEN


def test_gaps_that_contradict_the_whole_are_found(run: MakeRun) -> None:
    """e2e = ttft + tpot (n - 1): gaps that do not add up to last minus first token are found."""
    table = run(*SIX).table
    wrong = replace(table, gaps_lo_s=table.gaps_lo_s * 2, gaps_hi_s=table.gaps_hi_s * 2)
    short = replace(table, gaps_lo_s=table.gaps_lo_s / 2, gaps_hi_s=table.gaps_hi_s / 2)
    gates, facts = parse_gates(["e2e p95 <= 2 s"]), run(*SIX).facts

    for broken in (wrong, short):
        assert outcomes(judge(broken, gates, facts))["times consistent"] is FAILED


def test_without_streaming_all_is_well(run: MakeRun) -> None:
    """A run without streaming has one arrival a request and every check holds."""

    def whole(trace: Trace) -> Trace:
        return replace(trace, token_lo_s=trace.token_lo_s[-1:], token_hi_s=trace.token_hi_s[-1:], chunks=1)

    plain = replace(run(*SIX).changed(whole), stream=False)

    assert outcomes(verdict(plain)) == {}


def test_one_token_answers_have_no_gaps(run: MakeRun) -> None:
    """Answers of one token pass the check on gaps, having none."""

    def single(trace: Trace) -> Trace:
        return replace(
            trace, token_lo_s=trace.token_lo_s[-1:], token_hi_s=trace.token_hi_s[-1:], chunks=1, output_tokens=1
        )

    short = run(*SIX).changed(single)
    told = short.told(asked=replace(short.facts.asked, output_tokens=1), before=None, after=None)

    assert "times consistent" not in outcomes(verdict(told))


def test_littles_law_sees_imbalance(run: MakeRun) -> None:
    """A service that stalls when the measured time ends leaves far more open than there was at the beginning."""
    found = verdict(run(*SIX, pace=lambda index: 0.8 if index < 3300 else 12.0))

    assert outcomes(found)["Little's law"] is FAILED


def test_littles_law_needs_time(run: MakeRun) -> None:
    """Requests that were all sent at once have no rate of arrival."""
    found = verdict(run(*SIX).changed(lambda trace: replace(trace, sent_s=1.0, intended_s=1.0)))

    assert outcomes(found)["Little's law"] is NOT_PROVEN


def closed(run: Run, rate_rps: float) -> Run:
    return replace(run, facts=replace(run.facts, asked=replace(run.facts.asked, open_loop=False, rate_rps=rate_rps)))


def test_a_target_that_sets_the_pace_is_judged_within_the_certificate(run: MakeRun) -> None:
    """Without a schedule a rate beyond 1.5 times the contract's was not proved: INVALID, with the rate to write."""
    assert "rate proved" not in {check.name for check in verdict(run(*SIX)).checks}
    fine = verdict(closed(run(*SIX), RATE_RPS))
    assert {check.name: check.outcome for check in fine.checks}["rate proved"] is OK
    assert fine.outcome is Outcome.PASS
    fast = verdict(closed(run(*SIX), RATE_RPS / 2))
    assert fast.outcome is Outcome.INVALID
    assert outcomes(fast) == {"rate proved": FAILED}
    assert f"set the contract's rate to {RATE_RPS:.0f} rps" in fast.reasons[0]


def test_a_throughput_that_nothing_offered_is_taken_as_it_is(run: MakeRun) -> None:
    """A closed loop may gate a throughput above the contract's rate, and what was reached decides."""
    looped = closed(run(*SIX), RATE_RPS / 1.4)
    reached, missed = f"throughput >= {RATE_RPS * 0.8} rps", f"throughput >= {RATE_RPS * 1.3} rps"
    check_supported(parse_gates([missed])[0], looped.facts.asked)
    with pytest.raises(UsageError, match="offers only"):
        check_supported(parse_gates([missed])[0], run(*SIX).facts.asked)
    assert verdict(looped, reached).gates[0].outcome is Outcome.PASS
    assert verdict(looped, missed).gates[0].outcome is Outcome.FAIL
    assert verdict(looped, reached).gates[0].estimate == pytest.approx(RATE_RPS, rel=0.05)


def from_hosts(run: Run, *hosts: HostShare) -> Run:
    return replace(run, facts=replace(run.facts, load=load(run, hosts=hosts)))


def test_workers_that_stay_and_keep_step_are_fine(run: MakeRun) -> None:
    """The check on them is there only where workers sent the load."""
    assert "workers stayed" not in {check.name for check in verdict(run(*SIX)).checks}
    a, b = HostShare("a", 2, 60, 60), HostShare("b", 1, 30, 30, offset_s=1e3, uncertainty_s=0.0003)
    found = verdict(from_hosts(run(*SIX), a, b))
    assert found.outcome is Outcome.PASS
    assert {check.name: check.sentence for check in found.checks}["workers in step"].startswith(
        "Their clocks were together to within 0.3 ms; 20 ms is allowed."
    )


def test_a_lost_worker_makes_the_run_invalid(run: MakeRun) -> None:
    """Its name, what it had and what came back are said."""
    found = verdict(from_hosts(run(*SIX), HostShare("a", 1, 60, 60), HostShare("b", 1, 60, 7, lost="cut off")))
    assert found.outcome is Outcome.INVALID
    assert outcomes(found)["workers stayed"] is FAILED
    sentence = "Worker b was lost (cut off); it had 60 requests, and 7 traces of them came back."
    assert sentence in {check.sentence for check in found.checks}


def test_clocks_that_are_too_far_apart_make_the_run_invalid(run: MakeRun) -> None:
    """A worker that may have begun later than a request may be sent is as bad as one that sends late."""
    found = verdict(from_hosts(run(*SIX), HostShare("a", 1, 60, 60, uncertainty_s=0.021)))
    assert found.outcome is Outcome.INVALID
    assert outcomes(found) == {"workers in step": FAILED}
