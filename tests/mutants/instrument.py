"""Mutants of the measuring client: real loads against a golden server, and what the certificate says of each.

The client is broken by wrapping what sends (`Bend`: the times at which it is told to send) and what it writes down
(`Lie`: its traces). Limits are wide, so that no busy machine looks like a mutant: 100 ms are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.certificate import driven_by, judge_instrument
from hxp_harness.certify.golden_process import golden
from hxp_harness.certify.truth import Truth
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.schedule import draw
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import ErrorKind, Trace
from tests.mutants.mutant import Mutant, Workshop

RPS = 100.0
LIMIT_S = 10.0
E2E_S = 0.48
SEED = 11
CONTRACT = Contract.model_validate({"prompt_tokens": 8, "output_tokens": 8, "rate": f"{RPS:g} rps"})
GOLDEN = Behaviour(ttft_s=0.2, itl_s=0.04)
LOAD = Replicates(count=2, requests=50, warm_up_s=0.2)
STALL_S = 1.0
USERS = 24  # of a closed loop: half of what the rate would have in flight

Bend = Callable[[Sequence[Due]], list[Due]]
Lie = Callable[[list[Trace]], list[Trace]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One load: what was due, what the client wrote down, and what is true."""

    schedule: Sequence[Due]
    traces: list[Trace]
    summary: LoadSummary
    truths: dict[str, Truth]

    def certificate(self, lie: Lie) -> str:
        """Return why the instrument may not judge; empty where it may."""
        found = judge_instrument(
            self.schedule,
            lie(self.traces),
            self.summary,
            self.truths,
            limit_s=LIMIT_S,
            scale=1.0,
            asked_rps=RPS,
        )
        return "; ".join(found.reasons)


def as_due(schedule: Sequence[Due]) -> list[Due]:
    return list(schedule)


def as_seen(traces: list[Trace]) -> list[Trace]:
    return traces


def _measured(workshop: Workshop, bend: Bend) -> Measured:
    """Send the load with these times; once for all mutants that bend them alike."""
    if bend not in workshop.kept:
        schedule = draw(CONTRACT, LOAD, SEED)
        folder = workshop.folder / bend.__name__
        with golden(folder, GOLDEN) as server:
            plan = LoadPlan(server.base_url, server.model, CONTRACT.api, CONTRACT.stream, CONTRACT.timeout_s)
            traces, summary = driven_by()(folder / "load", plan, bend(schedule))
        workshop.kept[bend] = Measured(schedule, traces, summary, server.truths())
    found: Measured = workshop.kept[bend]
    return found


def _mutant(name: str, how: str, says: str, *, bend: Bend = as_due, lie: Lie = as_seen) -> Mutant:
    def trial(workshop: Workshop, broken: bool) -> str:
        return _measured(workshop, bend if broken else as_due).certificate(lie if broken else as_seen)

    return Mutant(name, "a trusted instrument", "certificate (judge_instrument)", how, trial, says)


def stretched(schedule: Sequence[Due]) -> list[Due]:
    return [replace(due, intended_s=due.intended_s * 1.25) for due in schedule]


def stalled(schedule: Sequence[Due]) -> list[Due]:
    """Everything due within STALL_S from the middle on waits for the end of that time."""
    middle_s = schedule[len(schedule) // 2].intended_s
    return [
        replace(due, intended_s=middle_s + STALL_S) if 0 < due.intended_s - middle_s < STALL_S else due
        for due in schedule
    ]


def closed(schedule: Sequence[Due]) -> list[Due]:
    """Each of the USERS sends when its answer is there."""
    times_s: list[float] = []
    for number, due in enumerate(schedule):
        free_s = times_s[number - USERS] + E2E_S if number >= USERS else 0.0
        times_s.append(max(due.intended_s, free_s))
    return [replace(due, intended_s=time_s) for due, time_s in zip(schedule, times_s, strict=True)]


def _each(change: Callable[[Trace], Trace]) -> Lie:
    return lambda traces: [change(trace) for trace in traces]


def _halved(trace: Trace) -> Trace:
    """Report half of the time to each token."""

    def half(times_s: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(trace.intended_s + (time_s - trace.intended_s) / 2 for time_s in times_s)

    return replace(trace, token_lo_s=half(trace.token_lo_s), token_hi_s=half(trace.token_hi_s))


def _from_the_schedule(traces: list[Trace]) -> list[Trace]:
    """Say when a request should have been sent by the true schedule."""
    due_s = {due.index: due.intended_s for due in draw(CONTRACT, LOAD, SEED)}
    return [replace(trace, intended_s=due_s[trace.index]) for trace in traces]


def _fast_errors(trace: Trace) -> Trace:
    """Take every tenth answer for a success as soon as it is sent."""
    if trace.index % 10 or trace.sent_s is None:
        return trace
    return replace(trace, token_lo_s=(trace.sent_s,), token_hi_s=(trace.sent_s,), chunks=1, end_s=trace.sent_s)


def _one_chunk(trace: Trace) -> Trace:
    """See all tokens with the last of them."""
    return replace(trace, token_lo_s=trace.token_lo_s[-1:] * 8, token_hi_s=trace.token_hi_s[-1:] * 8)


INSTRUMENT = (
    _mutant("latency under-reported", "halves the time to each token", "e2e is off by", lie=_each(_halved)),
    _mutant("tokens coalesced", "sees all tokens with the last of them", "ttft is off by", lie=_each(_one_chunk)),
    _mutant(
        "errors counted as fast successes", "takes every tenth answer for done as soon as it is sent",
        "were not read as they were sent", lie=_each(_fast_errors),
    ),
    _mutant(
        "dropped requests left out of the sample", "leaves every tenth trace away", "left no trace",
        lie=lambda traces: [trace for trace in traces if trace.index % 10],
    ),
    _mutant(
        "lost worker", "leaves the second half of the traces away", "left no trace",
        lie=lambda traces: [trace for trace in traces if trace.index < 60],
    ),
    _mutant(
        "failures of the client's own", "loses every tenth connection", "requests failed",
        lie=_each(lambda trace: trace if trace.index % 10 else replace(trace, error=ErrorKind.RESET)),
    ),
    _mutant(
        "late client", "holds back what is due for a second, and says so", "was sent", bend=stalled,
        lie=_from_the_schedule,
    ),
    _mutant(
        "coordinated omission", "holds back what is due for a second, and counts from when it sent",
        "other times than the schedule", bend=stalled,
    ),
    _mutant(
        "schedule rescaled", "sends at four fifths of the rate, and says that this was asked",
        "other times than the schedule", bend=stretched,
    ),
    _mutant(
        "closed loop posing as open", f"{USERS} users wait for their answers, and count from when they sent",
        "other times than the schedule", bend=closed,
    ),
)  # fmt: skip
