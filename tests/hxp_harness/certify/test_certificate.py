"""The certificate lets a true instrument judge, and no other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hxp_harness.certify.certificate import Certificate, certify, judge_instrument, timing
from hxp_harness.certify.truth import Truth, TruthEvent
from hxp_harness.certify.wording import told
from hxp_harness.errors import InvalidRun
from hxp_harness.load.plan import ClientShare, Due, HostShare, LoadPlan, LoadSummary
from hxp_harness.profile import Contract
from hxp_harness.trace import ErrorKind, Trace

T0_S = 1000.0
RPS = 100.0
TOKENS = 4
LIMIT_S = 0.5  # bound 5 ms
CONTRACT = Contract.model_validate({"prompt_tokens": 8, "output_tokens": 8, "rate": "40 rps"})
SUMMARY = LoadSummary(
    t0_monotonic_s=T0_S,
    t0_unix_s=0.0,
    due=200,
    sent=200,
    stamps="kernel",
    clock_step_s=0.0,
    cpu_s=0.2,
    peak_rss_bytes=1 << 24,
    stopped_early=False,
)
Change = Callable[[Trace], Trace]


def schedule() -> list[Due]:
    return [Due(index, index // 100, index / RPS, 8, TOKENS, index) for index in range(200)]


def truth_of(due: Due) -> Truth:
    """The server sent token k 50 ms + k * 10 ms after the intended time, known to 20 us."""
    times = [T0_S + due.intended_s + 0.05 + number * 0.01 for number in range(TOKENS)]
    events = [TruthEvent(at, at, at + 2e-5, 1) for at in times]
    at = T0_S + due.intended_s + 2e-4
    return Truth(f"r{due.index}", at, at, at, stream=True, prompt_tokens=8, asked_tokens=TOKENS, events=events)


def trace_of(due: Due, late_s: float = 0.0) -> Trace:
    """The client saw each token in an interval of 30 us that touches the true one, plus `late_s`."""
    times = [due.intended_s + 0.05 + number * 0.01 + late_s for number in range(TOKENS)]
    return Trace(
        index=due.index,
        replicate=due.replicate,
        intended_s=due.intended_s,
        asked_prompt_tokens=8,
        asked_output_tokens=TOKENS,
        sent_s=due.intended_s + 1e-4,
        end_s=times[-1],
        token_lo_s=tuple(times),
        token_hi_s=tuple(at + 3e-5 for at in times),
        chunks=TOKENS,
        request_id=f"r{due.index}",
    )


def judged(
    traces: Sequence[Trace], *, truths: Sequence[Truth] | None = None, summary: LoadSummary = SUMMARY
) -> Certificate:
    known = [truth_of(due) for due in schedule()] if truths is None else truths
    by_id = {truth.request_id: truth for truth in known}
    return judge_instrument(schedule(), traces, summary, by_id, limit_s=LIMIT_S, scale=1.5, asked_rps=RPS)


def test_true_instrument_may_judge() -> None:
    """An instrument whose intervals touch the truth has no error and gets the certificate."""
    certificate = judged([trace_of(due) for due in schedule()])

    assert certificate.ok, certificate.reasons
    assert certificate.requests == 200
    assert certificate.bound_s == pytest.approx(0.005)
    assert certificate.send_lag_bound_s == pytest.approx(0.005)
    assert {name: error.n for name, error in certificate.errors.items()} == {
        "ttft": 200,
        "e2e": 200,
        "itl": 600,
        "tpot": 200,
        "sent": 200,
    }
    assert certificate.errors["e2e"].max_s == 0
    assert certificate.errors["e2e"].bias_mean_s == pytest.approx(5e-6, abs=1e-9)
    assert certificate.errors["e2e"].width_p99_s == pytest.approx(3e-5, abs=1e-9)
    assert certificate.fidelity.rate_ratio == pytest.approx(1.0)
    assert certificate.fidelity.send_lag_p99_s == pytest.approx(1e-4)


def test_bound_is_never_under_a_millisecond() -> None:
    """Where 1 % of the limit is less than 1 ms (5 ms for sending), that much is allowed."""
    by_id = {truth.request_id: truth for truth in map(truth_of, schedule())}
    traces = [trace_of(due) for due in schedule()]
    certificate = judge_instrument(schedule(), traces, SUMMARY, by_id, limit_s=0.01, scale=1, asked_rps=RPS)

    assert certificate.bound_s == 0.001
    assert certificate.send_lag_bound_s == 0.005


def test_error_is_the_distance_between_the_intervals() -> None:
    """An instrument that is 7 ms late has an error of 7 ms less what both intervals cover."""
    certificate = judged([trace_of(due, late_s=0.007) for due in schedule()])

    assert not certificate.ok
    for metric in ("ttft", "e2e"):
        error = certificate.errors[metric]
        assert (error.p50_s, error.p99_s) == pytest.approx((0.007 - 2e-5,) * 2, abs=1e-9)
        assert error.p95_statistic_s == pytest.approx(0.007 - 2e-5, abs=1e-9)
        assert any(reason.startswith(f"{metric} is off by up to 6.98 ms") for reason in certificate.reasons)
    assert certificate.errors["itl"].p99_s == 0
    assert all("stop other work here" in reason for reason in certificate.reasons)


def test_wide_intervals_are_uncertainty_and_no_error() -> None:
    """A client that saw tokens late, and says since when they may have been there, is vague but not wrong."""
    traces = [trace_of(due) for due in schedule()]
    vague = [replace(trace, token_hi_s=tuple(at + 0.02 for at in trace.token_lo_s)) for trace in traces]
    certificate = judged(vague)

    assert certificate.ok
    assert certificate.errors["e2e"].width_p99_s == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda trace: replace(trace, error=ErrorKind.RESET, detail="gone"), "1 requests failed"),
        (lambda trace: replace(trace, token_lo_s=(0.0,), token_hi_s=(0.0,)), "1 answers were not read"),
        (lambda trace: replace(trace, request_id="another"), "1 answers were not read"),
    ],
)
def test_one_bad_answer_is_too_many(change: Change, reason: str) -> None:
    """One request that failed, or was not read as it was sent, against a server that never fails, is no proof."""
    traces = [trace_of(due) for due in schedule()]
    certificate = judged([change(traces[0]), *traces[1:]])

    assert not certificate.ok
    assert certificate.reasons[0].startswith(reason)
    if "failed" in reason:
        assert certificate.reasons[-1] == "the first failure: reset: gone"


def test_a_missing_trace_is_noticed() -> None:
    """A request that was due and left no trace is a reason."""
    certificate = judged([trace_of(due) for due in schedule()][:-1])
    assert certificate.reasons[0].startswith("1 requests that were due left no trace")


def test_warm_up_is_not_compared() -> None:
    """Requests of the warm-up do not count."""
    traces = [trace_of(due) for due in schedule()]
    warm_up = replace(trace_of(schedule()[0], late_s=1.0), replicate=-1)
    assert judged([warm_up, *traces]).ok


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (
            lambda trace: replace(trace, sent_s=trace.intended_s + 0.02),
            ("sent is off", "one request in a hundred was sent 20.0 ms late"),
        ),
        (
            lambda trace: replace(trace, sent_s=trace.intended_s * 1.02),
            ("sent is off", "the client sent 98 of 100 rps"),
        ),
        (lambda trace: replace(trace, sent_s=trace.intended_s - 0.03), ("sent is off",)),
    ],
)
def test_sending_late_or_lying_about_it(change: Change, reasons: tuple[str, ...]) -> None:
    """Late sending, a stretched schedule, and times of sending that the server's arrival contradicts are reasons."""
    certificate = judged([change(trace_of(due)) for due in schedule()])
    for reason in reasons:
        assert any(said.startswith(reason) for said in certificate.reasons), certificate.reasons


def test_counting_from_when_it_was_sent_is_no_schedule() -> None:
    """A client that sends later than asked and takes that for the schedule hides what waited, and is told so."""
    traces = [trace_of(due) for due in schedule()]
    moved = [replace(trace, intended_s=trace.intended_s + 2e-5) for trace in traces[:3]]
    certificate = judged([*moved, *traces[3:]])

    assert certificate.reasons == ("3 requests were given other times than the schedule's: waiting would not show",)


def test_unsent_requests_are_late_without_bound() -> None:
    """A request that was never sent counts as infinitely late."""
    traces = [trace_of(due) for due in schedule()]
    unsent = [replace(trace, sent_s=None, error=ErrorKind.NOT_SENT) for trace in traces[:5]]
    certificate = judged([*unsent, *traces[5:]], summary=replace(SUMMARY, sent=195))

    assert certificate.fidelity.send_lag_p99_s == float("inf")
    assert any(reason.startswith("only 97.5% of the requests") for reason in certificate.reasons)


def test_a_client_at_its_ceiling_is_told_so() -> None:
    """Above 70 % of a core the advice names the rate that this machine holds and the workers that it would take."""
    late = [trace_of(due, late_s=0.01) for due in schedule()]
    certificate = judged(late, summary=replace(SUMMARY, cpu_s=2.07))

    assert "so many hold about 70 rps, or use --clients 2" in certificate.reasons[0]


def test_vague_truth_proves_nothing() -> None:
    """A golden server that lost its core while it sent cannot vouch for anybody."""
    vague = [truth_of(due) for due in schedule()]
    for truth in vague:
        truth.events = [TruthEvent(event.due_s, event.lo_s, event.hi_s + 0.03, 1) for event in truth.events]
    certificate = judged([trace_of(due) for due in schedule()], truths=vague)
    assert certificate.reasons == (
        "the golden server lost its core, so its truth is vague; stop other work on this machine",
    )


def test_tokens_or_chunks_may_be_counted() -> None:
    """Where an event carries several tokens the client may count events or tokens."""
    truths = [truth_of(due) for due in schedule()]
    for truth in truths:
        truth.events = [replace_tokens(event, 2) for event in truth.events]
    chunks = [trace_of(due) for due in schedule()]
    tokens = [
        replace(
            trace,
            token_lo_s=tuple(at for at in trace.token_lo_s for _ in range(2)),
            token_hi_s=tuple(at for at in trace.token_hi_s for _ in range(2)),
        )
        for trace in chunks
    ]

    assert judged(chunks, truths=truths).ok
    assert judged(tokens, truths=truths).errors["itl"].n == 200 * 7


def replace_tokens(event: TruthEvent, tokens: int) -> TruthEvent:
    return TruthEvent(event.due_s, event.lo_s, event.hi_s, tokens)


@pytest.mark.parametrize(
    ("traces", "why"),
    [
        ([], "the client left no trace"),
        ([replace(trace_of(schedule()[0]), error=ErrorKind.REFUSED)], "refused"),
        ([replace(trace_of(schedule()[0]), request_id="another")], "no trace has its like"),
    ],
)
def test_nothing_to_compare(traces: list[Trace], why: str) -> None:
    """An empty run is never a certificate."""
    with pytest.raises(InvalidRun, match=why):
        judged(traces)


@pytest.mark.parametrize(
    ("change", "limit_s", "e2e_s"),
    [({}, 2.0, 0.5), ({}, 60.0, 1.0), ({"stream": False}, 0.1, 0.025), ({"output_tokens": 1}, 1.0, 0.25)],
)
def test_timing_is_of_the_contracts_size(change: dict[str, object], limit_s: float, e2e_s: float) -> None:
    """The golden server takes a quarter of the limit, and at most a second."""
    contract = CONTRACT.model_copy(update=change)
    behaviour = timing(contract, limit_s)
    assert behaviour.ttft_s + (contract.output_tokens - 1) * behaviour.itl_s == pytest.approx(e2e_s)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certify(tmp_path_factory.mktemp("certificate"), CONTRACT, limit_s=2.0, duration_s=1.0, seed=5)


def test_the_real_client_gets_its_certificate(certificate: Certificate) -> None:
    """The client that every run uses, at a small load, tells the truth about a real server."""
    assert certificate.ok, certificate.reasons
    assert certificate.requests == 60
    assert certificate.errors["itl"].n == 60 * 7
    assert certificate.errors["e2e"].p99_s < 0.005
    assert certificate.fidelity.asked_rps == 60
    assert certificate.fidelity.cpu_s > 0


def test_certificate_is_json(certificate: Certificate) -> None:
    """What goes into the record survives JSON unchanged."""
    stored = json.loads(json.dumps(certificate.to_json()))

    assert stored["errors"]["ttft"]["p99_s"] == certificate.errors["ttft"].p99_s
    assert set(stored) == {field.name for field in dataclasses.fields(Certificate)}


def test_a_certificate_can_be_read(certificate: Certificate) -> None:
    """In a terminal every metric has bias and spread, and client and golden server say what they used."""
    text = told(json.loads(json.dumps(certificate.to_json())))

    for word in ("bias", "spread", *certificate.errors):
        assert word in text
    assert f"{certificate.fidelity.asked_rps:.1f} rps" in text
    assert f"golden server: {certificate.golden_cpu_share:.0%} of a core" in text
    assert certificate.golden_cpu_share > 0


def test_a_dead_client_is_no_certificate(tmp_path: Path) -> None:
    """A client that sends nothing ends in InvalidRun, not in a certificate."""

    def idle(folder: Path, plan: LoadPlan, due: Sequence[Due]) -> tuple[list[Trace], LoadSummary]:
        assert folder.is_relative_to(tmp_path)
        assert plan.base_url.startswith("http://127.0.0.1:")
        assert len(due) == 30 + 60
        return [], SUMMARY

    with pytest.raises(InvalidRun, match="left no trace"):
        certify(tmp_path, CONTRACT, limit_s=2.0, duration_s=1.0, seed=5, drive=idle)


def apart(uncertainty_s: float, lost: str = "") -> LoadSummary:
    """Return the summary of a load from two hosts whose clocks are so uncertain."""
    here, there = HostShare("a", 1, 100, 100), HostShare("b", 1, 100, 100, lost, 1e3, uncertainty_s)
    return replace(SUMMARY, hosts=(here, there))


def test_two_clocks_widen_what_goes_from_one_to_the_other() -> None:
    """A distance that the clocks may account for is no error of ttft, e2e or sending; gaps are times of one clock."""
    late = [trace_of(due, late_s=0.004) for due in schedule()]
    alone, both = judged(late), judged(late, summary=apart(0.003))

    assert both.ok
    assert both.clocks_apart_s == 0.003
    for metric in ("ttft", "e2e"):
        assert both.errors[metric].p99_s == pytest.approx(alone.errors[metric].p99_s - 0.003)
        assert both.errors[metric].width_p99_s == pytest.approx(alone.errors[metric].width_p99_s + 0.006)
    assert both.errors["sent"].width_p99_s == pytest.approx(0.006)
    assert both.errors["itl"] == alone.errors["itl"]


def test_clocks_that_are_hardly_known_prove_nothing() -> None:
    """What would excuse every error is a reason against."""
    certificate = judged([trace_of(due) for due in schedule()], summary=apart(0.006))

    assert not certificate.ok
    assert certificate.reasons == (
        "the clocks of the hosts are known only to within 6.00 ms, 5.00 ms is allowed; use a quieter network",
    )


def test_a_certificate_needs_all_its_workers() -> None:
    """One that was lost while it was made is named."""
    certificate = judged([trace_of(due) for due in schedule()], summary=apart(0.0, lost="cut off"))

    assert certificate.reasons == (
        "worker b was lost (cut off); it had 100 requests, and 100 traces of them came back",
    )


def test_the_busiest_of_several_clients_is_what_counts() -> None:
    """The advice names how many would do: not the sum of what they used, but the one at its limit."""
    late = [replace(trace_of(due), sent_s=due.intended_s + 0.02) for due in schedule()]
    whole_s = 2.07
    shares = tuple(ClientShare(100, 100, cpu_s, 1 << 20) for cpu_s in (0.9 * whole_s, 0.2 * whole_s))
    certificate = judged(late, summary=replace(SUMMARY, cpu_s=1.1 * whole_s, clients=shares))

    assert certificate.fidelity.clients == 2
    assert certificate.fidelity.cpu_share < 1
    assert "the busiest of 2 clients used" in certificate.reasons[0]
    assert "or use --clients 3" in certificate.reasons[0]
