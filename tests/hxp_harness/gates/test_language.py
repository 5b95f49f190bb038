"""Gates on some requests, gates that warn or abort, and goodput with limits of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.errors import UsageError
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import check_supported, demands
from hxp_harness.gates.grammar import parse_gate, parse_gates
from hxp_harness.gates.outcome import Effect, GateResult, Outcome, Verdict
from hxp_harness.gates.scope import COMPARISONS, Condition, meets, refuse_nobody, within
from hxp_harness.gates.tripwire import tripped
from hxp_harness.gates.verdict import judge
from hxp_harness.instrument import refuse_empty_scopes
from hxp_harness.load.plan import Due
from hxp_harness.metrics.table import TraceTable
from hxp_harness.profile import Profile
from hxp_harness.trace import ErrorKind, Trace
from tests.hxp_harness.gates.conftest import REQUESTS, Run

MakeRun = Callable[..., Run]
LONG, SHORT = 1000, 10


def verdict(run: Run, *gates: str) -> Verdict:
    return judge(run.table, parse_gates(gates), run.facts)


def result(found: Verdict, place: int = 0) -> GateResult:
    return found.gates[place]


def mixed(run: Run, slower: float = 1.0) -> Run:
    """Every fifth request asks with a long prompt, of which the answers take so many times as long."""

    def change(trace: Trace) -> Trace:
        if trace.index % 5:
            return replace(trace, tag="gold")
        late_s = (slower - 1.0) * (trace.token_hi_s[-1] - trace.intended_s)
        times = tuple(time_s + late_s for time_s in trace.token_hi_s)
        end_s = None if trace.end_s is None else trace.end_s + late_s
        return replace(trace, asked_prompt_tokens=LONG, token_lo_s=times, token_hi_s=times, end_s=end_s, tag="free")

    return run.changed(change)


@pytest.mark.parametrize("effect", [Effect.WARN, Effect.ABORT])
def test_what_follows_is_the_first_word(effect: Effect) -> None:
    """`warn` and `abort` stand before the metric and stay in the sentence."""
    gate = parse_gate(f"{effect.value} e2e p95 <= 2 s")

    assert (gate.effect, str(gate), gate.limit) == (effect, f"{effect.value} e2e p95 <= 2 s", 2.0)
    assert parse_gate("e2e p95 <= 2 s").effect is Effect.DECIDE


def test_conditions_are_read() -> None:
    """`where` names requests by their lengths and their tag, and the sentence reads back."""
    gate = parse_gate("ttft p95 <= 300 ms where prompt_tokens <= 512 and output_tokens>64 and tag = in128-out64")

    assert gate.scope == (
        Condition("prompt_tokens", "<=", 512),
        Condition("output_tokens", ">", 64),
        Condition("tag", "=", "in128-out64"),
    )
    assert parse_gate(str(gate)) == gate


def test_goodput_takes_limits_of_its_own() -> None:
    """In brackets, instead of those of the profile's latency gates."""
    gate = parse_gate("goodput(ttft <= 500 ms, tpot < 30 ms) >= 99 %")

    assert gate.own_demands is not None
    assert [(one.metric, one.limit, one.strict) for one in gate.own_demands] == [
        ("ttft", 0.5, False),
        ("tpot", 0.03, True),
    ]
    assert parse_gate("goodput >= 99 %").own_demands is None


@pytest.mark.parametrize(
    ("text", "column", "says", "hint"),
    [
        ("wran e2e p95 <= 3 s", 0, "unknown metric 'wran'", "'warn'"),
        ("abort e2e mean <= 3 s", 6, "e2e mean cannot abort", "percentile"),
        ("abort throughput >= 3 rps", 6, "throughput cannot abort", "percentile"),
        ("e2e(ttft <= 3 s) p95 <= 3 s", 0, "takes no limits in brackets", "goodput"),
        ("goodput() >= 99 %", 8, "expected a metric", "e2e"),
        ("goodput(error_rate <= 1 %) >= 99 %", 8, "no latency", "ttft <= 500 ms"),
        ("goodput(ttft p95 <= 1 s) >= 99 %", 13, "expected one of <=, <", "ttft <="),
        ("goodput(ttft <= 1 s ttft <= 2 s) >= 99 %", 20, "expected , or )", "tpot"),
        ("goodput(ttft <= 1 s, ttft <= 2 s) >= 99 %", 21, "limited twice", "one of them"),
        ("goodput(ttft <= 1 s", 19, "expected , or )", "tpot"),
        ("throughput >= 3 rps where prompt_tokens > 3", 0, "takes no `where`", "latency or a ratio"),
        ("e2e p95 <= 3 s where", 20, "expected one of prompt_tokens", "tag = gold"),
        ("e2e p95 <= 3 s where promt_tokens > 3", 21, "no request has a 'promt_tokens'", "'prompt_tokens'"),
        ("e2e p95 <= 3 s where tag > gold", 25, "cannot be compared", "'='"),
        ("e2e p95 <= 3 s where prompt_tokens == 3", 35, "cannot be compared", "'='"),
        ("e2e p95 <= 3 s where prompt_tokens > 3.5", 37, "a whole number", "512"),
        ("e2e p95 <= 3 s where prompt_tokens > 3 or", 39, "expected nothing more", "where"),
    ],
)
def test_what_is_wrong_is_shown(text: str, column: int, says: str, hint: str) -> None:
    """Each new word is refused at its column, with the nearest right spelling."""
    with pytest.raises(UsageError) as refusal:
        parse_gate(text)

    lines = refusal.value.message.splitlines()
    assert says in lines[0]
    assert lines[2] == " " * (column + 2) + "^"
    assert hint in refusal.value.hint


def test_only_a_deciding_gate_on_all_requests_limits_errors() -> None:
    """A warning about errors, or a limit on those of some requests, does not take the default gate away."""
    for text in ("warn error_rate <= 1 %", "error_rate <= 1 % where tag = gold"):
        assert [str(gate) for gate in parse_gates([text])] == [text, "error_rate <= 0.1 %"]


def test_a_warning_may_stand_before_the_limit() -> None:
    """One statistic may have a limit that warns and one that decides, or one for each kind of request."""
    texts = ["warn e2e p95 <= 1 s", "e2e p95 <= 2 s", "e2e p95 <= 3 s where tag = free", "error_rate <= 1 %"]
    assert [str(gate) for gate in parse_gates(texts)] == texts
    with pytest.raises(UsageError, match="two gates"):
        parse_gates(["abort e2e p95 <= 1 s", "e2e p95 <= 2 s"])


def test_goodput_asks_what_is_asked_of_every_request() -> None:
    """Gates that warn, and gates on some requests, are no demands of goodput."""
    gates = parse_gates(["e2e p95 <= 2 s", "warn ttft p95 <= 1 s", "tpot p95 <= 1 s where tag = gold"])
    assert [demand.metric for demand in demands(gates)] == ["e2e"]


def test_limits_in_brackets_need_streaming_like_others() -> None:
    """What is undefined without a stream is no demand there."""
    asked = Asked(50, 10, 4, 8, REQUESTS, stream=False)
    with pytest.raises(UsageError, match="tpot is undefined without streaming"):
        check_supported(parse_gate("goodput(tpot <= 1 s) >= 99 %"), asked)


def test_a_warning_decides_nothing(run: MakeRun) -> None:
    """A broken gate that warns is shown as broken in a run that passes; nor does it take from what others may err."""
    found = verdict(run(*[1.0] * 8), "warn e2e p95 <= 500 ms", "e2e p95 <= 2 s", "error_rate <= 1 %")

    assert (found.outcome, result(found).outcome, result(found).effect) == (Outcome.PASS, Outcome.FAIL, Effect.WARN)
    assert all("500 ms" not in reason for reason in found.reasons)
    assert Verdict.from_dict(found.to_dict()) == found


def test_a_warning_alone_is_judged_by_errors(run: MakeRun) -> None:
    """Where every gate written warns, the default gate on errors decides, for more requests than it takes."""
    assert verdict(run(*[1.0] * 12), "warn e2e p95 <= 500 ms").outcome is Outcome.PASS
    assert verdict(run(*[1.0] * 8).failing(10), "warn e2e p95 <= 5 s").outcome is Outcome.FAIL


def test_each_kind_of_request_has_its_limit(run: MakeRun) -> None:
    """Slow answers to long prompts break their own gate, and leave that of short ones alone."""
    long, short = "e2e p95 <= 1500 ms where prompt_tokens > 512", "e2e p95 <= 1500 ms where tag = gold"
    found = verdict(mixed(run(*[1.0] * 8), slower=2.0), long, short, "error_rate <= 1 %")

    assert [gate.outcome for gate in found.gates] == [Outcome.FAIL, Outcome.PASS, Outcome.PASS]
    assert [gate.n for gate in found.gates] == [8 * REQUESTS // 5, 8 * REQUESTS * 4 // 5, 8 * REQUESTS]
    assert result(found).estimate == pytest.approx(2.0, rel=0.05)
    assert "of requests with prompt_tokens > 512" in found.reasons[0]


def test_errors_of_some_requests_are_theirs(run: MakeRun) -> None:
    """A failed request counts where its length belongs, though nothing came of it."""
    failing = mixed(run(*[1.0] * 8)).failing(5)
    gates = ("error_rate <= 1 % where prompt_tokens > 512", "error_rate <= 1 % where tag = gold", "error_rate <= 50 %")
    assert [gate.outcome for gate in verdict(failing, *gates).gates] == [Outcome.FAIL, Outcome.PASS, Outcome.PASS]


def test_goodput_by_its_own_limits(run: MakeRun) -> None:
    """The share of requests that meet the limits in brackets is judged, whatever else the profile asks."""
    quick, slow = "goodput(e2e <= 500 ms) >= 90 %", "goodput(e2e <= 3 s, ttft <= 1 s) >= 90 %"
    found = verdict(run(*[1.0] * 8), quick, slow, "e2e p95 <= 2 s", "error_rate <= 1 %")
    assert [gate.outcome for gate in found.gates] == [Outcome.FAIL, Outcome.PASS, Outcome.PASS, Outcome.PASS]


def test_an_abort_gate_stops_and_says_so(run: MakeRun) -> None:
    """A run that an abort gate stopped is INCONCLUSIVE until it is certain, and names the gate and the moment."""
    few = run(1.0, planned=12).failing(10)
    found = verdict(few, "abort error_rate <= 0.5 %", "e2e p50 <= 2 s")

    assert tripped(parse_gates(["abort error_rate <= 0.5 %"]), few.table) != ()
    assert found.outcome is Outcome.INCONCLUSIVE
    stopped = f"abort error_rate <= 0.5 % looked broken after {REQUESTS // 3} requests and stopped the load"
    assert found.reasons[0] == f"{stopped}: 1 of 12 replicates are complete."


@pytest.mark.parametrize("text", ["abort e2e p95 <= 1100 ms", "abort e2e p50 <= 900 ms", "error_rate <= 0.5 %"])
def test_what_is_met_does_not_trip(run: MakeRun, text: str) -> None:
    """A service within the limit is not stopped, and a gate without `abort` never stops by this."""
    assert tripped(parse_gates([text]), run(1.0).table) == ()


CONDITIONS = st.builds(
    Condition, st.sampled_from(["prompt_tokens", "output_tokens"]), st.sampled_from(COMPARISONS), st.integers(0, 20)
)


@given(st.lists(CONDITIONS, max_size=3))
def test_a_table_and_a_schedule_agree_on_who_is_meant(scope: Sequence[Condition]) -> None:
    """A request is within the scope when it is due exactly if it is so when it is judged."""
    traces = [Trace(index, 0, 0.0, index % 19 + 1, 20 - index, error=ErrorKind.RESET) for index in range(20)]
    found = within(TraceTable.from_traces(traces), scope)
    due = [
        one.index
        for one in traces
        if meets(scope, prompt_tokens=one.asked_prompt_tokens, output_tokens=one.asked_output_tokens, tag="")
    ]
    assert found.index.tolist() == due


def test_a_scope_without_requests_is_refused(run: MakeRun) -> None:
    """Judging again under a gate on requests that the run does not have says which it has."""
    table = mixed(run(1.0)).table
    for text, has in (
        ("e2e p50 <= 1 s where prompt_tokens > 5000", "10 to 1000"),
        ("e2e p50 <= 1 s where tag = x", "free, gold"),
    ):
        gate = parse_gate(text)
        with pytest.raises(UsageError, match="no request of the run meets this") as refusal:
            refuse_nobody(table, gate.scope, str(gate))
        assert has in refusal.value.hint
    refuse_nobody(table, (), "")


def schedule(long: int) -> list[Due]:
    """Two windows of 100 requests, so many of each with a long prompt."""
    return [Due(i, i // 100, i / 10, LONG if i % 100 < long else SHORT, 4, i, tag="gold") for i in range(200)]


@pytest.mark.parametrize(
    ("long", "says", "hint"),
    [
        (0, "has no such request", "prompts of 10 to 10 tokens.*tags gold"),
        (89, "89 samples a replicate", "can tell p90"),
    ],
)
def test_too_few_of_a_kind_are_refused_before_the_start(long: int, says: str, hint: str) -> None:
    """A gate on requests that the schedule lacks, or has too few of, is refused by what the schedule has."""
    profile = Profile.model_validate(
        {
            "schema": 1,
            "name": "x",
            "title": "x",
            "service": "x",
            "contract": {"prompt_tokens": 10, "output_tokens": 4, "rate": "10 rps"},
            "gates": ["e2e p95 <= 1 s"],
            "replicates": {"count": 2, "requests": 100},
        }
    )
    gates = parse_gates(["e2e p95 <= 1 s where prompt_tokens > 512", "ttft p50 <= 1 s"])
    with pytest.raises(UsageError, match=says) as refusal:
        refuse_empty_scopes(gates, profile, schedule(long))
    assert re.search(hint, refusal.value.hint)
    refuse_empty_scopes(gates, profile, schedule(90))
