"""Runs of known truth get the verdict they deserve."""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from hxp_harness.errors import ExitCode
from hxp_harness.gates.facts import Asked, Certified
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.outcome import GateResult, Outcome, Verdict
from hxp_harness.gates.verdict import judge
from hxp_harness.metrics.table import TraceTable
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import ErrorKind, Trace
from tests.hxp_harness.gates.conftest import Run

EIGHT = (1.0, 1.002, 0.998, 1.001, 0.999, 1.0, 1.003, 0.997)  # seconds: the p95 of each replicate


MakeRun = Callable[..., Run]


def verdict(run: Run, *gates: str) -> Verdict:
    return judge(run.table, parse_gates([*gates, "error_rate <= 1 %"]), run.facts)


def first(found: Verdict) -> GateResult:
    return found.gates[0]


def test_well_within_passes(run: MakeRun) -> None:
    """A p95 of 1 s under a limit of 2 s is a PASS, with bounds around what was seen."""
    found = verdict(run(*EIGHT), "e2e p95 <= 2000 ms")

    assert (found.outcome, found.exit_code) == (Outcome.PASS, ExitCode.PASS)
    gate = first(found)
    assert gate.estimate == pytest.approx(1.0, rel=0.01)
    assert gate.low is not None
    assert gate.high is not None
    assert 0.95 < gate.low < 1.0 < gate.high < 1.05
    assert gate.n == 8 * 600
    assert [high for _, high in gate.values] == pytest.approx(EIGHT)
    assert "99 % sure" in gate.sentence
    assert found.distrusted == ()


def test_well_beyond_fails(run: MakeRun) -> None:
    """The same p95 under a limit of 800 ms is a FAIL that names bound and limit."""
    found = verdict(run(*EIGHT), "e2e p95 <= 800 ms")

    assert (found.outcome, found.exit_code) == (Outcome.FAIL, ExitCode.FAIL)
    assert "breaks the limit of 800 ms" in found.reasons[0]
    assert [gate.outcome for gate in found.gates] == [Outcome.FAIL, Outcome.PASS]


def test_a_mean_is_planned_by_the_spread_of_its_replicates(run: MakeRun) -> None:
    """So many more decide it as the sentence says, and the length that shows headroom stands beside."""
    levels = (0.8, 1.2, 0.7, 1.3)
    gate = first(verdict(run(*levels), "e2e mean <= 1000 ms"))

    assert (gate.outcome, gate.more_replicates) == (Outcome.INCONCLUSIVE, 12)
    assert "12 more replicates (about 2 min) would decide" in gate.sentence
    assert "413 replicates in all pass a service that lies 10% within its limit" in gate.sentence
    assert first(verdict(run(*(levels * 4)), "e2e mean <= 1000 ms")).outcome is Outcome.PASS


@pytest.mark.parametrize("limit_ms", [1003, 1010, 1020])
def test_at_the_limit_is_inconclusive(run: MakeRun, limit_ms: int) -> None:
    """With the truth at the limit, or within the guard band below it, nothing is decided."""
    found = verdict(run(*EIGHT), f"e2e p95 <= {limit_ms} ms")

    assert (found.outcome, found.exit_code) == (Outcome.INCONCLUSIVE, ExitCode.INCONCLUSIVE)
    assert "does not decide" in found.reasons[0]
    assert first(found).detectable == pytest.approx(0.010, abs=0.003)


def test_the_guard_band_is_named(run: MakeRun) -> None:
    """In the guard band no number of replicates decides, and the sentence says so."""
    gate = first(verdict(run(*EIGHT), "e2e p95 <= 1010 ms"))

    assert gate.more_replicates is None
    assert "guard band" in gate.sentence


def test_more_replicates_are_counted(run: MakeRun) -> None:
    """A noisy run well under its limit says how many replicates to make next, and how long they take."""
    gate = first(verdict(run(0.8, 1.2, 0.7, 1.3), "e2e p95 <= 1400 ms"))

    assert gate.outcome is Outcome.INCONCLUSIVE
    assert gate.more_replicates is not None
    assert gate.more_replicates > 4
    assert gate.more_minutes == pytest.approx(gate.more_replicates * 600 / 50 / 60)
    assert f"{gate.more_replicates + 4} replicates (about" in gate.sentence


def test_as_many_more_do_decide(run: MakeRun) -> None:
    """Who does as the sentence says is decided: here the run to plan from is long enough itself."""
    levels = (0.95, 1.1, 0.92, 1.1, 0.93, 1.12, 0.95, 1.1)
    count, outcomes = len(levels), []
    for _ in range(2):
        gate = first(verdict(run(*(levels * count)[:count]), "e2e p95 <= 1400 ms"))
        outcomes.append(gate.outcome)
        count += gate.more_replicates or 0

    assert outcomes == [Outcome.INCONCLUSIVE, Outcome.PASS]


def test_uncertain_arrivals_cost_certainty_not_truth(run: MakeRun) -> None:
    """When every arrival lies somewhere in 1 s, a limit within that second is neither passed nor failed."""

    def blurred(trace: Trace) -> Trace:
        late = tuple(time + 1.0 for time in trace.token_hi_s)
        return replace(trace, token_hi_s=late, end_s=late[-1] + 1e-4)

    blurry = run(*EIGHT).changed(blurred)

    assert first(verdict(blurry, "e2e p90 <= 1500 ms")).outcome is Outcome.INCONCLUSIVE
    assert first(verdict(blurry, "e2e p90 <= 2500 ms")).outcome is Outcome.PASS
    assert first(verdict(blurry, "e2e p90 <= 500 ms")).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    "gate",
    [
        "ttft p95 <= 400 ms",
        "ttft_service p95 <= 400 ms",
        "e2e_service p95 <= 1.5 s",
        "tpot p95 <= 400 ms",
        "itl p95 <= 400 ms",
        "itl mean <= 300 ms",
        "e2e mean < 1 s",
        "goodput >= 95 %",
        "output_throughput >= 150 tokens/s",
        "output_tokens mean >= 3.9 tokens",
        "output_tokens p95 <= 4 tokens",
        "prompt_tokens mean <= 10 tokens",
        "throughput > 40 rps",
    ],
)
def test_every_kind_of_gate_can_pass(run: MakeRun, gate: str) -> None:
    """Each metric and statistic that can be gated passes where the truth is well within."""
    found = verdict(run(*EIGHT), gate, "e2e p95 <= 2 s")

    assert found.outcome is Outcome.PASS, found.reasons


@pytest.mark.parametrize(
    "gate",
    [
        "ttft p50 <= 100 ms",
        "tpot p95 <= 100 ms",
        "itl p99 <= 100 ms",
        "itl mean <= 100 ms",
        "goodput >= 95 %",
        "output_tokens mean >= 5 tokens",
        "prompt_tokens p50 < 10 tokens",
    ],
)
def test_every_kind_of_gate_can_fail(run: MakeRun, gate: str) -> None:
    """Each kind of gate fails where the truth is well beyond."""
    found = verdict(run(*EIGHT), gate, "e2e p50 <= 600 ms")

    assert first(found).outcome is (Outcome.INCONCLUSIVE if "< 10" in gate else Outcome.FAIL)


def test_goodput_keeps_the_guard_of_its_latency(run: MakeRun) -> None:
    """A goodput that holds only without the guard band on its latency limit is not a PASS."""
    close = verdict(run(*EIGHT), "goodput >= 95 %", "e2e p50 <= 1015 ms")
    clear = verdict(run(*EIGHT), "goodput >= 95 %", "e2e p50 <= 1150 ms")

    assert first(close).outcome is Outcome.INCONCLUSIVE
    assert (first(close).estimate or 0.0) > 0.96
    assert first(clear).outcome is Outcome.PASS


def test_a_jump_behind_the_percentile_is_seen(run: MakeRun) -> None:
    """A median that looks firm is no PASS while nearly half of the requests lie far beyond the limit."""
    found = verdict(run(*EIGHT, pace=lambda index: 0.4 if index * 37 % 100 < 51 else 3.0), "e2e p50 <= 1 s")

    assert first(found).outcome is Outcome.INCONCLUSIVE
    assert first(found).high == pytest.approx(3.0, rel=0.01)


def test_errors_fail(run: MakeRun) -> None:
    """Ten percent of errors break a limit of one, whatever the latency."""
    found = verdict(run(*EIGHT).failing(10), "e2e p50 <= 2 s")

    assert found.outcome is Outcome.FAIL
    assert "error_rate" in found.reasons[0]


def test_few_requests_do_not_prove_few_errors(run: MakeRun) -> None:
    """1600 requests without an error do not show a rate under 0.1 %; how many would is said."""
    found = judge(run(*EIGHT).table, parse_gates(["e2e p95 <= 2 s"]), run(*EIGHT).facts)

    assert found.outcome is Outcome.INCONCLUSIVE
    errors = found.gates[1]
    assert errors.more_replicates == math.ceil(4959 / 600) - 8
    assert errors.detectable == pytest.approx(1.03, abs=0.01)


def test_clustered_errors_are_not_sure(run: MakeRun) -> None:
    """Thirty errors in one replicate of eight leave the long-run rate open."""
    found = verdict(
        run(*EIGHT).changed(
            lambda trace: replace(trace, error=ErrorKind.HTTP, output_tokens=None) if trace.index < 30 else trace
        ),
        "e2e p50 <= 2 s",
    )

    assert found.gates[1].outcome is Outcome.INCONCLUSIVE


def test_failures_make_a_percentile_fail(run: MakeRun) -> None:
    """With a fifth of requests failed p95 is infinite in every replicate: that is a FAIL of the latency too."""
    gate = first(verdict(run(*EIGHT).failing(5), "e2e p95 <= 2 s"))

    assert gate.outcome is Outcome.FAIL
    assert gate.estimate == math.inf
    assert "certain after" in gate.sentence


def test_throughput_is_judged_at_the_rate_of_the_contract(run: MakeRun) -> None:
    """A service that keeps up passes a gate at the contract's own rate; one that loses 5 % does not."""
    warm = run(0.1, *([0.1] * 8))
    kept_up = warm.changed(lambda trace: replace(trace, replicate=trace.replicate - 1)).told(
        asked=replace(warm.facts.asked, replicates=8)
    )

    assert first(verdict(kept_up, "throughput >= 50 rps")).outcome is Outcome.PASS
    assert first(verdict(kept_up.failing(10), "throughput >= 50 rps")).outcome is Outcome.FAIL


def test_every_gate_must_pass(run: MakeRun) -> None:
    """One undecided gate keeps a run from passing; one broken gate fails it."""
    undecided = verdict(run(*EIGHT), "e2e p95 <= 1010 ms", "ttft p95 <= 1 s")
    broken = verdict(run(*EIGHT), "e2e p95 <= 1010 ms", "ttft p95 <= 100 ms")

    assert undecided.outcome is Outcome.INCONCLUSIVE
    assert broken.outcome is Outcome.FAIL
    assert len(broken.reasons) == 1


def test_many_gates_share_the_chance_of_a_false_fail(run: MakeRun) -> None:
    """Evidence that breaks one gate alone is not enough when it is the best of many (Holm)."""
    levels = (1.05, 1.0, 1.06, 1.01, 1.04, 1.03)
    alone = verdict(run(*levels), "e2e p95 <= 1012 ms")
    among = verdict(
        run(*levels),
        "e2e p95 <= 1012 ms",
        *(f"{name} p{q} <= 9 s" for name in ("ttft", "tpot") for q in (50, 90, 95, 99)),
    )

    assert first(alone).outcome is Outcome.FAIL
    assert first(among).outcome is Outcome.INCONCLUSIVE


def test_a_limit_that_is_far_off_needs_no_quiet(run: MakeRun) -> None:
    """Waves that stay below a third of the limit do not keep a run from passing it."""
    waves = run(*[0.3] * 8, pace=lambda index: 0.5 + 0.45 * (index // 200 % 2) + 0.001 * (index % 7))

    far, near = first(verdict(waves, "e2e p95 <= 2 s")), first(verdict(waves, "e2e p95 <= 400 ms"))

    assert (far.outcome, near.outcome) == (Outcome.PASS, Outcome.INCONCLUSIVE)
    assert far.low == near.low  # how well the percentile is known is no matter of the limit
    assert far.high is not None
    assert (near.high or math.inf) >= far.high > (far.estimate or 0.0)


def test_clusters_are_not_independent_requests(run: MakeRun) -> None:
    """Where slow requests come together a sample is worth less, and the sentence says how much less."""
    waves = run(*EIGHT, pace=lambda index: 0.5 + 0.45 * (index // 200 % 2) + 0.001 * (index % 7))
    gate = first(verdict(waves, "e2e p95 <= 1.3 s"))

    assert gate.outcome is Outcome.INCONCLUSIVE
    assert "independent ones, and p95 takes 270" in gate.sentence
    assert (
        "The run met too few slow stretches to plan from: 32 replicates (about 6 min) are the next step"
        in gate.sentence
    )


def test_one_replicate_decides_nothing(run: MakeRun) -> None:
    """Without a second replicate nothing is known of the spread."""
    found = verdict(run(1.0, planned=8), "e2e p95 <= 9 s")

    assert found.outcome is Outcome.INCONCLUSIVE
    assert "1 complete replicate" in first(found).sentence
    assert first(found).detectable is None


def test_no_traces_are_invalid(run: MakeRun) -> None:
    """A run without traces is INVALID, never a PASS."""
    nothing = run(*EIGHT)

    found = judge(TraceTable.from_traces([]), parse_gates(["e2e p95 <= 2 s", "throughput >= 1 rps"]), nothing.facts)

    assert (found.outcome, found.exit_code) == (Outcome.INVALID, ExitCode.INVALID)


def test_distrust_comes_first(run: MakeRun) -> None:
    """A run that would fail is INVALID when the instrument is not certified, and says only that."""
    found = verdict(run(*EIGHT).told(certified=Certified(False, ("too slow",))), "e2e p95 <= 100 ms")

    assert found.outcome is Outcome.INVALID
    assert found.reasons == ("The measuring client cannot be trusted: too slow.",)
    assert first(found).outcome is Outcome.FAIL


def test_a_gate_on_nothing_is_open(run: MakeRun) -> None:
    """When every answer has one token there is no tpot: nothing is known, so nothing is decided."""

    def single(trace: Trace) -> Trace:
        return replace(
            trace, token_lo_s=trace.token_lo_s[-1:], token_hi_s=trace.token_hi_s[-1:], chunks=1, output_tokens=1
        )

    short = run(*EIGHT).changed(single)
    found = verdict(short, "tpot p95 <= 1 s", "itl mean <= 1 s")

    assert [gate.outcome for gate in found.gates[:2]] == [Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE]
    assert first(found).high == math.inf


def test_a_verdict_survives_json(run: MakeRun) -> None:
    """Written as JSON and read back, infinite numbers and all, a verdict is the same."""
    for found in (verdict(run(*EIGHT).failing(5), "e2e p95 <= 2 s"), verdict(run(1.0, planned=8), "e2e p95 <= 9 s")):
        text = json.dumps(found.to_dict(), allow_nan=False)

        assert Verdict.from_dict(json.loads(text)) == found


@pytest.mark.parametrize("change", [{"gates": 3}, {"checks": [1]}, {"replicates": None}, {"replicates": True}])
def test_another_json_is_refused(run: MakeRun, change: dict[str, object]) -> None:
    """Something that is no verdict is a TypeError, not half a verdict."""
    raw = verdict(run(*EIGHT), "e2e p95 <= 2 s").to_dict() | change

    with pytest.raises(TypeError):
        Verdict.from_dict(raw)


def test_every_number_has_its_dimension(run: MakeRun) -> None:
    """A result knows in which units people read it."""
    found = verdict(run(*EIGHT), "e2e p95 <= 2 s", "throughput >= 40 rps")

    assert [gate.dimension for gate in found.gates] == ["time", "rate", "ratio"]


def test_the_contract_gives_the_numbers() -> None:
    """What was asked is taken from the profile."""
    contract = Contract.model_validate({"prompt_tokens": 10, "output_tokens": 5, "rate": "10 rps", "stream": False})
    replicates = Replicates.model_validate({"count": 3, "requests": 99})

    assert Asked.of(contract, replicates) == Asked(10.0, 10, 5, 3, 99, stream=False, cache="cold")
