"""Reasons to distrust the measurement itself: each one looked for, and each one that could not be, said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hxp_harness.certify import SCALE
from hxp_harness.gates.canary import check_canary
from hxp_harness.gates.course import Course
from hxp_harness.gates.facts import RunFacts
from hxp_harness.gates.gate import Gate
from hxp_harness.gates.ledgers import check_cache, check_lengths, check_restart, check_tokens
from hxp_harness.gates.outcome import Check, CheckOutcome
from hxp_harness.gates.saturation import in_flight
from hxp_harness.gates.stationary import MOST_CUT
from hxp_harness.metrics.summary import percentile
from hxp_harness.metrics.table import Bools, TraceTable
from hxp_harness.units import format_quantity

LEAST_SENT = 0.99
LAG_SHARE, LAG_S = 0.01, 0.005  # send_lag p99 may be this share of the tightest latency limit, or this, if larger
CLOCK_STEP_S = 0.001  # the error that a certificate forgives
LITTLE_TOLERANCE = 0.05

OK, FAILED, NOT_PROVEN = CheckOutcome.OK, CheckOutcome.FAILED, CheckOutcome.NOT_PROVEN


def check_run(
    table: TraceTable, gates: Sequence[Gate], facts: RunFacts, course: Course, *, saturated: bool
) -> list[Check]:
    """Return every check, failed ones too; `saturated` says that a trend is the service's doing."""
    return [
        _whole(facts),
        _certificate(facts),
        *_within_certificate(table, facts),
        _all_traced(table, facts),
        *_hosts(gates, facts),
        _sent(table),
        _send_lag(table, gates),
        _clock(facts),
        _sane(table),
        _little(table, saturated=saturated),
        check_tokens(table, gates, facts),
        *check_lengths(table, facts),
        check_cache(table, facts),
        check_restart(facts),
        check_canary(facts.canary),
        _settled(course, gates, saturated=saturated),
        _stationary(course, gates, saturated=saturated),
    ]


def _whole(facts: RunFacts) -> Check:
    if facts.interrupted:
        return Check("not interrupted", FAILED, "The run was stopped by hand or by a signal before it was complete.")
    return Check("not interrupted", OK, "The run ended by itself.")


def _certificate(facts: RunFacts) -> Check:
    name = "certificate"
    if facts.certified is None:
        return Check(name, FAILED, "The measuring client has no certificate: nothing says that its times are right.")
    if not facts.certified.ok:
        reasons = "; ".join(facts.certified.reasons) or "its certificate failed"
        return Check(name, FAILED, f"The measuring client cannot be trusted: {reasons}.")
    return Check(name, OK, "Before and after the run the client measured a server of known timing rightly.")


def _within_certificate(table: TraceTable, facts: RunFacts) -> list[Check]:
    """Where the target sets the pace, that must be one at which the client was proved."""
    sent_s = np.sort(table.sent_s[~np.isnan(table.sent_s)])
    if facts.asked.open_loop or len(sent_s) < 2 or sent_s[0] == sent_s[-1]:
        return []
    reached_rps = (len(sent_s) - 1) / float(sent_s[-1] - sent_s[0])
    proved_rps = SCALE * facts.asked.rate_rps
    sentence = f"The target took {reached_rps:.4g} requests a second; the client is proved up to {proved_rps:.4g}"
    if reached_rps <= proved_rps:
        return [Check("rate proved", OK, f"{sentence}.")]
    return [Check("rate proved", FAILED, f"{sentence}: set the contract's rate to {reached_rps:.0f} rps.")]


def _all_traced(table: TraceTable, facts: RunFacts) -> Check:
    name = "every request traced"
    if len(table) == 0:
        return Check(name, FAILED, "There is no trace of any request.")
    if not table.replicates:
        return Check(name, FAILED, "There is no trace of any measured request, only of the warm-up.")
    if facts.load is None:
        return Check(name, NOT_PROVEN, "The load generator left no word of how many requests were due.")
    if len(table) < facts.load.due or bool((np.diff(np.sort(table.index)) == 0).any()):
        return Check(name, FAILED, f"{facts.load.due} requests were due, but there are {len(table)} traces of them.")
    return Check(name, OK, f"All {facts.load.due} requests that were due have a trace.")


def _hosts(gates: Sequence[Gate], facts: RunFacts) -> list[Check]:
    """Where workers sent the load: all stayed, and began at one time as far as their clocks tell."""
    load = facts.load
    if load is None or not load.hosts:
        return []
    stayed, count = "workers stayed", len(load.hosts)
    lost = "; ".join(load.lost)
    here = Check(stayed, FAILED, f"{lost[:1].upper()}{lost[1:]}.") if lost else Check(stayed, OK, f"All {count} did.")
    apart, allowed = (format_quantity(one, "time") for one in (load.clock_uncertainty_s, _allowed_lag_s(gates)))
    fine = load.clock_uncertainty_s <= _allowed_lag_s(gates)
    sentence = f"Their clocks were together to within {apart}; {allowed} is allowed."
    return [here, Check("workers in step", OK if fine else FAILED, sentence)]


def _sent(table: TraceTable) -> Check:
    name = "requests sent"
    sent_s = table.sent_s[table.replicate >= 0]
    if len(sent_s) == 0:
        return Check(name, FAILED, "No measured request was due.")
    share = 1.0 - float(np.isnan(sent_s).mean())
    sentence = f"{share:.2%} of the requests that were due were sent; it takes {LEAST_SENT:.0%}."
    return Check(name, OK if share >= LEAST_SENT else FAILED, sentence)


def _send_lag(table: TraceTable, gates: Sequence[Gate]) -> Check:
    """Judge those that were sent: requests that were not are the business of the check on them."""
    name = "sent on time"
    allowed_s = _allowed_lag_s(gates)
    lag_s = (table.sent_s - table.intended_s)[(table.replicate >= 0) & ~np.isnan(table.sent_s)]
    if len(lag_s) == 0:
        return Check(name, FAILED, "No measured request was sent.")
    late_s = percentile(lag_s, 0.99)
    most, seen = format_quantity(allowed_s, "time"), format_quantity(late_s, "time")
    sentence = f"99 % of requests were sent within {seen} of their time; {most} is allowed."
    return Check(name, OK if late_s <= allowed_s else FAILED, sentence)


def _allowed_lag_s(gates: Sequence[Gate]) -> float:
    """Return how late a request may be sent, or a whole worker begin."""
    limits_s = [gate.limit for gate in gates if gate.row.dimension == "time"]
    return max(LAG_SHARE * min(limits_s, default=0.0), LAG_S)


def _clock(facts: RunFacts) -> Check:
    name = "clock steady"
    if facts.load is None:
        return Check(name, NOT_PROVEN, "The load generator left no word of the clock.")
    step = format_quantity(abs(facts.load.clock_step_s), "time")
    fine = abs(facts.load.clock_step_s) <= CLOCK_STEP_S
    sentence = f"The wall clock moved by at most {step} against the monotonic clock."
    return Check(name, OK if fine else FAILED, sentence)


def _sane(table: TraceTable) -> Check:
    """Look for traces that contradict themselves, and for e2e = ttft + tpot (n - 1) within the bounds of each."""
    name = "times consistent"
    done = table.where(table.ok & (table.tokens_seen > 0))
    slip_s = 1e-6
    wrong = (done.sent_s < done.intended_s - slip_s) | (done.first_hi_s < done.sent_s - slip_s)
    wrong |= (done.last_hi_s < done.first_lo_s - slip_s) | (done.end_s < done.last_lo_s - slip_s)
    wrong |= (done.first_lo_s > done.first_hi_s + slip_s) | (done.last_lo_s > done.last_hi_s + slip_s)
    wrong |= np.isnan(done.sent_s) | np.isnan(done.end_s)
    if table.stream:
        wrong |= _identity_broken(done)
    count = int(wrong.sum())
    if count:
        return Check(
            name,
            FAILED,
            f"The times of {count} requests contradict themselves (the first: index {int(done.index[wrong][0])}).",
        )
    return Check(name, OK, "In every request sending, first token, last token and end follow each other.")


def _identity_broken(done: TraceTable) -> Bools:
    """e2e must lie between the least and the most that ttft and the gaps between tokens add up to."""
    slip_s = 1e-6 + 1e-6 * done.gaps_hi_s
    wrong = done.gaps_lo_s > done.last_hi_s - done.first_lo_s + slip_s
    wrong |= done.gaps_hi_s < done.last_lo_s - done.first_hi_s - slip_s
    return np.asarray(wrong & (done.tokens_seen > 1))


def _little(table: TraceTable, *, saturated: bool) -> Check:
    """L = lambda W: requests in flight on average = arrivals a second times the mean time that one is open.

    From traces alone the two differ only by what was open when the measured time began and when it ended; in a
    balanced run that is as much on both sides. Four standard deviations of a random number in flight are allowed for.
    """
    name = "Little's law"
    sent = table.where(~np.isnan(table.sent_s) & ~np.isnan(table.end_s))
    due_s = sent.sent_s[sent.replicate >= 0]
    if len(due_s) < 2 or due_s.min() == due_s.max():
        return Check(name, NOT_PROVEN, "There are too few requests to compare arrivals with requests in flight.")
    start_s, end_s = float(due_s.min()), float(due_s.max())
    level = float(in_flight(sent, start_s, end_s, 1)[0])
    open_s = (sent.end_s - sent.sent_s)[(sent.sent_s >= start_s) & (sent.sent_s <= end_s)]
    expected = float(open_s.sum()) / (end_s - start_s)
    allowed = LITTLE_TOLERANCE * level + 4.0 * np.sqrt(level) * float(open_s.mean()) / (end_s - start_s)
    sentence = f"{level:.1f} requests were in flight on average; arrivals times time open give {expected:.1f}."
    if saturated:
        return Check(name, OK, f"{sentence} They piled up: that is a FAIL.")
    if abs(level - expected) > allowed:
        return Check(name, FAILED, f"{sentence} The load was out of balance between beginning and end.")
    return Check(name, OK, sentence)


def _settled(course: Course, gates: Sequence[Gate], *, saturated: bool) -> Check:
    """The warm-up ends early in the measured time, at the latest."""
    name = "settled"
    if course.ever or saturated or not _on_latency(gates):
        left = f"The first {course.cut} measured requests were still warm-up (MSER-5) and are not judged."
        return Check(name, OK, left if course.cut else "Latency had settled when the measurement began.")
    return Check(
        name, FAILED, f"Latency had not settled after {MOST_CUT:.0%} of the run: set replicates.warm_up to more."
    )


def _stationary(course: Course, gates: Sequence[Gate], *, saturated: bool) -> Check:
    """Latency neither drifts through the run nor jumps within it by more than 10 % and more than chance does."""
    name, found = "stationary", course.change
    if saturated:
        return Check(name, OK, "Latency changed through the run because requests piled up: that is a FAIL.")
    if not _on_latency(gates):
        return Check(name, OK, "No gate is on latency, so none needs one level of it.")
    if not course.looked:
        return Check(name, NOT_PROVEN, "There are too few requests to see a trend.")
    if found is None:
        return Check(name, OK, "Latency neither drifted nor jumped in the course of the run by more than chance does.")
    how = "drifted" if found.place is None else f"jumped after {found.place:.0%} of the run"
    to = f"to {found.factor:.2f} times what it was"
    return Check(name, FAILED, f"Latency {how}, {to}: there is no one value to judge.")


def _on_latency(gates: Sequence[Gate]) -> bool:
    return any(gate.row.dimension == "time" for gate in gates)
