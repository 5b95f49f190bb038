"""Proof, before and after a run, that this client on this machine measures the contract's load right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hxp_harness.certify import SCALE
from hxp_harness.certify.accuracy import MetricError, Pair, metric_errors, pair
from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.ceiling import Ceiling
from hxp_harness.certify.golden_process import golden
from hxp_harness.certify.truth import Truth
from hxp_harness.errors import InvalidRun
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.schedule import draw, peak_rps, steady
from hxp_harness.load.session import LoadSession, OpenSession
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import Trace

WARM_UP_S = 0.5
MIN_REQUESTS = 40
_SAME_S = 1e-6  # two readings of one intended time: clients keep it in nanoseconds
Drive = Callable[[Path, LoadPlan, Sequence[Due]], tuple[list[Trace], LoadSummary]]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How the client kept the schedule, and what it cost."""

    asked_rps: float
    achieved_rps: float
    sent_ratio: float  # sent / due
    failed: int
    events_per_s: float
    send_lag_p50_s: float
    send_lag_p99_s: float
    read_lag_p99_s: float
    cpu_s: float
    cpu_share: float  # of one core, over the run: the busiest client
    peak_rss_bytes: int
    clients: int = 1

    @property
    def rate_ratio(self) -> float:
        return self.achieved_rps / self.asked_rps


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether the instrument may judge, and why not. All times in seconds."""

    ok: bool
    reasons: tuple[str, ...]  # empty when ok; each says what to do
    bound_s: float  # what an error may be: 1 % of the limit or 1 ms
    send_lag_bound_s: float
    scale: float  # of the contract's rate
    requests: int  # that were compared with the truth
    errors: Mapping[str, MetricError]
    fidelity: Fidelity
    golden_lag_p99_s: float  # how late the golden server itself was; no error, its log has the true times
    golden_width_p99_s: float  # how well it knows them
    golden_cpu_share: float  # of one core: well below 1, or it was the limit itself
    stamps: str  # kernel | user
    clocks_apart_s: float = 0.0  # how far apart the clocks of several hosts may have been; 0: one clock
    lost: tuple[str, ...] = ()  # a sentence for each worker that was lost
    ceilings: tuple[Ceiling, ...] = ()  # where measuring ends on this machine, as far as it was searched

    def to_json(self) -> dict[str, object]:
        """Return what goes into the record."""
        return asdict(self)


def certify(
    folder: Path,
    contract: Contract,
    *,
    limit_s: float,
    seed: int,
    scale: float = SCALE,
    duration_s: float = 5.0,
    drive: Drive | None = None,
    host: str = "127.0.0.1",
) -> Certificate:
    """Drive a golden server at `scale` times the contract's highest rate for `duration_s` and compare with its truth.

    `limit_s` is the limit of the latency that gates; `folder` keeps the evidence. `drive` sends the load, by default
    in the processes that every run uses, to the golden server at `host`. Raises InvalidRun when the load could not be
    sent at all.
    """
    rate_rps = peak_rps(contract) * scale
    behaviour = timing(contract, limit_s)
    schedule = _schedule(contract, rate_rps, duration_s, seed)
    with golden(folder, behaviour, seed=seed, host=host) as server:
        plan = LoadPlan(server.base_url, server.model, contract.api, contract.stream, contract.timeout_s)
        begun_cpu_s = server.cpu_s
        traces, summary = (drive or driven_by())(folder / "load", plan, schedule)
        golden_cpu_s = server.cpu_s - begun_cpu_s
    return judge_instrument(
        schedule,
        traces,
        summary,
        server.truths(),
        limit_s=limit_s,
        scale=scale,
        asked_rps=rate_rps,
        golden_cpu_s=golden_cpu_s,
    )


def timing(contract: Contract, limit_s: float) -> Behaviour:
    """Return a timing of the contract's size: end to end a quarter of the limit, at most 1 s, a third of it TTFT."""
    e2e_s = min(limit_s / 4, 1.0)
    if contract.output_tokens == 1 or not contract.stream:
        return Behaviour(ttft_s=e2e_s, itl_s=0.0)
    return Behaviour(ttft_s=e2e_s / 3, itl_s=e2e_s * 2 / 3 / (contract.output_tokens - 1))


def judge_instrument(
    schedule: Sequence[Due],
    traces: Sequence[Trace],
    summary: LoadSummary,
    truths: Mapping[str, Truth],
    *,
    limit_s: float,
    scale: float,
    asked_rps: float,
    golden_cpu_s: float = 0.0,
) -> Certificate:
    """Return the certificate of a run whose truth is known. Pure; raises InvalidRun when nothing can be compared."""
    measured = [trace for trace in traces if trace.replicate >= 0]
    known = {trace.index: truths.get(trace.request_id) for trace in measured}
    pairs = [
        each
        for trace in measured
        if trace.ok and (truth := known[trace.index]) and (each := pair(trace, truth, summary.t0_monotonic_s))
    ]
    if not pairs:
        raise InvalidRun(f"nothing to compare: {_first_failure(measured)}", hint="see the files of the load folder")
    events = [event for truth in truths.values() for event in truth.events]
    certificate = Certificate(
        ok=False,
        reasons=(),
        bound_s=max(0.01 * limit_s, 0.001),
        send_lag_bound_s=max(0.01 * limit_s, 0.005),
        scale=scale,
        requests=len(pairs),
        errors=metric_errors(pairs, summary.clock_uncertainty_s),
        fidelity=_fidelity(schedule, measured, pairs, summary, asked_rps),
        golden_lag_p99_s=_p99([event.lo_s - event.due_s for event in events]),
        golden_width_p99_s=_p99([event.hi_s - event.lo_s for event in events if event.hi_s]),
        golden_cpu_share=golden_cpu_s / _whole_s(schedule, pairs),
        stamps=summary.stamps,
        clocks_apart_s=summary.clock_uncertainty_s,
        lost=summary.lost,
    )
    unlike = len(measured) - len(pairs)
    reasons = _reasons(certificate, missing=_missing(schedule, measured), unlike=unlike, moved=_moved(schedule, traces))
    if reasons and certificate.fidelity.failed:
        reasons = (*reasons, f"the first failure: {_first_failure(measured)}")
    return replace(certificate, ok=not reasons, reasons=reasons)


def _schedule(contract: Contract, rate_rps: float, duration_s: float, seed: int) -> list[Due]:
    requests = max(math.ceil(rate_rps * duration_s / 2), MIN_REQUESTS // 2)
    return draw(steady(contract).at_rate(rate_rps), Replicates(count=2, requests=requests, warm_up_s=WARM_UP_S), seed)


def driven_by(open_session: OpenSession = LoadSession) -> Drive:
    """Return what sends a load as a run does."""

    def drive(folder: Path, plan: LoadPlan, schedule: Sequence[Due]) -> tuple[list[Trace], LoadSummary]:
        traces: list[Trace] = []
        folder.mkdir(parents=True, exist_ok=True)
        with open_session(folder, plan, schedule) as session:
            while not session.finished:
                traces += session.poll(0.5)
            traces += session.poll(0.0)
            return traces, session.summary

    return drive


def _fidelity(
    schedule: Sequence[Due], measured: Sequence[Trace], pairs: Sequence[Pair], summary: LoadSummary, asked_rps: float
) -> Fidelity:
    lags = [math.inf if trace.sent_s is None else trace.sent_s - trace.intended_s for trace in measured]
    sent = sorted(trace.sent_s for trace in measured if trace.sent_s is not None)
    intended = sorted(trace.intended_s for trace in measured if trace.sent_s is not None)
    stretch = (sent[-1] - sent[0]) / max(intended[-1] - intended[0], 1e-9)
    first_s = min(float(each.observed.lo[0]) for each in pairs)
    last_s = max(float(each.observed.hi[-1]) for each in pairs)
    return Fidelity(
        asked_rps=asked_rps,
        achieved_rps=asked_rps / max(stretch, 1e-9),
        sent_ratio=summary.sent / max(summary.due, 1),
        failed=sum(not trace.ok for trace in measured),
        events_per_s=sum(len(each.observed.lo) for each in pairs) / max(last_s - first_s, 1e-9),
        send_lag_p50_s=_quantile(lags, 0.5),
        send_lag_p99_s=_quantile(lags, 0.99),
        read_lag_p99_s=_p99([trace.read_lag_s for trace in measured]),
        cpu_s=summary.cpu_s,
        cpu_share=summary.busiest_cpu_s / _whole_s(schedule, pairs),
        peak_rss_bytes=summary.peak_rss_bytes,
        clients=max(len(summary.clients), 1),
    )


def _whole_s(schedule: Sequence[Due], pairs: Sequence[Pair]) -> float:
    """Return how long the load lasted, warm-up and the last answer included."""
    return max(schedule[-1].intended_s, *(float(each.observed.hi[-1]) for each in pairs))


def _missing(schedule: Sequence[Due], measured: Sequence[Trace]) -> int:
    return sum(due.replicate >= 0 for due in schedule) - len(measured)


def _moved(schedule: Sequence[Due], traces: Sequence[Trace]) -> int:
    """Count requests that do not count from when they were due: who counts from sending hides what waited."""
    due_s = {due.index: due.intended_s for due in schedule}
    return sum(abs(trace.intended_s - due_s.get(trace.index, math.inf)) > _SAME_S for trace in traces)


def _reasons(certificate: Certificate, *, missing: int, unlike: int, moved: int) -> tuple[str, ...]:
    """Return why the instrument cannot judge, each with what to do."""
    fidelity = certificate.fidelity
    advice = _advice(fidelity)
    allowed = f"{certificate.bound_s * 1e3:.2f} ms is allowed"
    reasons = [
        f"{error.metric} is off by up to {error.worst_s * 1e3:.2f} ms, {allowed}; {advice}"
        for error in certificate.errors.values()
        if error.worst_s > certificate.bound_s
    ]
    if missing > 0:
        reasons.append(f"{missing} requests that were due left no trace; {advice}")
    if moved:
        reasons.append(f"{moved} requests were given other times than the schedule's: waiting would not show")
    if fidelity.failed:
        reasons.append(f"{fidelity.failed} requests failed against a server that never fails; {advice}")
    if unlike > fidelity.failed:
        reasons.append(f"{unlike - fidelity.failed} answers were not read as they were sent")
    if fidelity.sent_ratio < 0.99:
        reasons.append(f"only {fidelity.sent_ratio:.1%} of the requests that were due were sent; {advice}")
    if fidelity.rate_ratio < 0.99:
        rates = f"{fidelity.achieved_rps:.0f} of {fidelity.asked_rps:.0f} rps"
        reasons.append(f"the client sent {rates}; {advice}")
    if fidelity.send_lag_p99_s > certificate.send_lag_bound_s:
        lag = f"one request in a hundred was sent {fidelity.send_lag_p99_s * 1e3:.1f} ms late or more"
        reasons.append(f"{lag}, {certificate.send_lag_bound_s * 1e3:.1f} ms is allowed; {advice}")
    if certificate.golden_width_p99_s > certificate.bound_s:
        reasons.append("the golden server lost its core, so its truth is vague; stop other work on this machine")
    if certificate.clocks_apart_s > certificate.bound_s:
        apart = f"{certificate.clocks_apart_s * 1e3:.2f} ms"
        reasons.append(f"the clocks of the hosts are known only to within {apart}, {allowed}; use a quieter network")
    reasons += certificate.lost
    return tuple(reasons)


def _advice(fidelity: Fidelity) -> str:
    """Return what lifts the ceiling. Above 70 % of a core the client itself is the limit, below it the machine."""
    client = "client" if fidelity.clients == 1 else f"busiest of {fidelity.clients} clients"
    used = f"the {client} used {fidelity.cpu_share:.0%} of a core"
    if fidelity.cpu_share < 0.7:
        return f"{used}: stop other work here, or use more cores or a host of its own"
    ceiling_rps = fidelity.achieved_rps * 0.7 / fidelity.cpu_share
    needed = math.ceil(fidelity.clients * fidelity.asked_rps / ceiling_rps)
    return (
        f"{used}: lower the rate, so many hold about {ceiling_rps:.0f} rps, "
        f"or use --clients {needed} where each has a core, or more hosts"
    )


def _first_failure(traces: Sequence[Trace]) -> str:
    for trace in traces:
        if not trace.ok:
            return f"{trace.error.value}: {trace.detail}" if trace.detail else trace.error.value
    return "no trace has its like in the golden server's log" if traces else "the client left no trace"


def _p99(values: Sequence[float]) -> float:
    return _quantile(values, 0.99)


def _quantile(values: Sequence[float], q: float) -> float:
    """Return the order statistic; 0 of nothing."""
    return sorted(values)[max(math.ceil(q * len(values)), 1) - 1] if values else 0.0
