"""Feasibility: what the memory holds, what the device serves, and where a contract stops fitting."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reference_stack.schemas.configuration.workload import Contract
from reference_stack.services.ai_models import feasibility
from reference_stack.services.ai_models.feasibility import (
    SLACK,
    Fit,
    Term,
    assess,
    kv_room_tokens,
    limits_of,
    predict,
    widest_precision,
)
from reference_stack.services.ai_models.model_spec import ModelSpec, load_spec, model_names
from reference_stack.services.ai_models.nearest import Nearest, nearest_fit, sentence
from reference_stack.services.ai_models.physics import find_device, kv_capacity_tokens
from reference_stack.services.ai_models.steady import Steady

H200 = find_device("h200")
ENOUGH = feasibility.REQUESTS
SPECS = st.sampled_from(model_names()).map(load_spec)
RATES = st.floats(0.5, 300)
PROMPTS = st.integers(1, 1500)
OUTPUTS = st.integers(1, 300)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions from fewer requests: what is promised here does not hang on their number."""
    monkeypatch.setattr(feasibility, "REQUESTS", 500)


def _contract(prompt: int = 128, output: int = 64, rate: float = 50.0, limit_s: float | None = 2.0) -> Contract:
    return Contract(prompt_tokens=prompt, output_tokens=output, rate_rps=rate, limit_s=limit_s)


def _steady(spec: ModelSpec, contract: Contract) -> Steady:
    return Steady(spec, H200, limits_of(spec, H200), contract)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SPECS, st.integers(16, 300), st.integers(4, 40), st.floats(0.05, 0.7), st.floats(1.3, 1.9))
def test_a_higher_rate_never_lowers_the_predicted_tail(
    spec: ModelSpec, prompt: int, output: int, used: float, more: float
) -> None:
    """The predicted p95 does not fall when the rate rises; 2 % are left for steps that happen to line up."""
    capacity_rps = _steady(spec, _contract(prompt, output)).capacity_rps
    assume(used * more < 0.95)
    slow, fast = (predict(spec, H200, _contract(prompt, output, capacity_rps * part)) for part in (used, used * more))

    assert fast.quantile_s >= 0.98 * slow.quantile_s


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SPECS, PROMPTS, OUTPUTS, RATES, st.integers(0, 500), st.floats(1.0, 3.0))
def test_kv_need_and_use_grow_with_what_is_asked(
    spec: ModelSpec, prompt: int, output: int, rate: float, longer: int, faster: float
) -> None:
    """More requests or longer prompts never need less KV, and never leave more of the capacity."""
    asked = _steady(spec, _contract(prompt, output, rate))
    for more in (_contract(prompt + longer, output, rate), _contract(prompt, output, rate * faster)):
        assert _steady(spec, more).kv_need_tokens >= asked.kv_need_tokens
        assert _steady(spec, more).rho >= 0.999 * asked.rho


@pytest.mark.parametrize("name", model_names())
def test_the_room_for_kv_is_that_of_the_engine(name: str) -> None:
    """The prediction has as many KV tokens as the engine gives itself."""
    spec = load_spec(name)

    room = kv_room_tokens(spec, H200)
    assert room == kv_capacity_tokens(spec, H200, spec.memory_limit_bytes, spec.max_num_batched_tokens)
    assert widest_precision(spec, H200) == spec.precision


@pytest.mark.parametrize("used", [0.3, 0.6])
@pytest.mark.parametrize("name", model_names())
def test_arithmetic_and_virtual_time_agree(name: str, used: float) -> None:
    """The mean latency of the steady state by arithmetic is that of the simulation within 15 %."""
    spec = load_spec(name)
    rate = used * _steady(spec, _contract()).capacity_rps
    steady = _steady(spec, _contract(rate=rate))
    mean_s = 64 * steady.mean_step(steady.batch).duration_s + H200.request_overhead_s

    assert predict(spec, H200, _contract(rate=rate)).mean_s == pytest.approx(mean_s, rel=0.15)


def test_above_the_capacity_the_queue_grows_without_end() -> None:
    """The capacity by arithmetic is where virtual time stops keeping up: latency explodes above, not below."""
    spec = load_spec("mixtral")
    capacity_rps = _steady(spec, _contract()).capacity_rps

    below = predict(spec, H200, _contract(rate=0.8 * capacity_rps))
    above = predict(spec, H200, _contract(rate=1.5 * capacity_rps))
    assert below.queued_s < 0.1
    assert above.queued_s > 10 * below.queued_s


@pytest.mark.parametrize(
    ("prompt", "fit"), [(128, Fit.FEASIBLE), (256, Fit.MARGINAL), (512, Fit.INFEASIBLE), (1024, Fit.INFEASIBLE)]
)
def test_where_the_target_of_mixtral_ends(prompt: int, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 50 rps and 64 tokens out an H200 meets 2 s up to some 330 tokens in: beyond, prompts need its arithmetic."""
    monkeypatch.setattr(feasibility, "REQUESTS", ENOUGH)  # so near to the limit their number does matter
    found = assess(load_spec("mixtral"), H200, _contract(prompt))

    assert found.fit is fit
    assert found.term is (Term.PREFILL if fit is Fit.INFEASIBLE else Term.WEIGHTS)


def test_what_hangs_on_the_estimates_is_marginal() -> None:
    """A contract is marginal when it fits, and no longer does once every step takes SLACK times longer."""
    spec = load_spec("mixtral")
    alone_s = assess(spec, H200, _contract(limit_s=None)).latency
    assert alone_s is not None
    tight, wide = (alone_s.quantile_s * factor for factor in (1.05, 1.1 * SLACK))

    assert assess(spec, H200, _contract(limit_s=tight)).fit is Fit.MARGINAL
    assert assess(spec, H200, _contract(limit_s=wide)).fit is Fit.FEASIBLE


def test_what_does_not_start_is_bound_by_memory() -> None:
    """BF16 Mixtral is over its 90 GB: no figures are made up, and FP8 is what would fit."""
    spec = load_spec("mixtral").model_copy(update={"precision": "bf16"})
    found = assess(spec, H200, _contract())

    assert (found.fit, found.term, found.latency, found.rho) == (Fit.INFEASIBLE, Term.MEMORY, None, None)
    assert nearest_fit(spec, H200, found) == Nearest(precision="fp8")
    assert "fp8 weights" in sentence(found, nearest_fit(spec, H200, found))


def test_a_prompt_beyond_the_context_is_refused_by_length() -> None:
    """What is longer than max_model_len cannot be served at any rate; the longest prompt that can is named."""
    spec = load_spec("phi3")
    found = assess(spec, H200, _contract(5000, 32, 1.0, 10.0))
    near = nearest_fit(spec, H200, found)

    assert (found.fit, found.term) == (Fit.INFEASIBLE, Term.LENGTH)
    assert near.rate_rps is None
    assert near.prompt_tokens == spec.max_model_len - 32
    none = assess(spec, H200, _contract(1, 5000, 1.0, 10.0))
    assert nearest_fit(spec, H200, none) == Nearest()


def test_little_room_for_kv_binds_long_requests() -> None:
    """Phi-3 has room for some 1,900 tokens of KV: with long requests that is what bounds its batch."""
    found = assess(load_spec("phi3"), H200, _contract(700, 200, 60.0))

    assert (found.fit, found.term, found.latency) == (Fit.INFEASIBLE, Term.KV, None)
    assert found.rho is not None
    assert found.rho > 1


def test_waiting_for_a_place_is_queueing_or_kv() -> None:
    """Where most of the time is spent waiting to start, the queue is what binds, or the KV that it waits for."""
    few = load_spec("hermes").model_copy(update={"max_num_seqs": 2})
    rate = 0.97 * _steady(few, _contract(16, 8)).capacity_rps
    assert assess(few, H200, _contract(16, 8, rate, None)).term is Term.QUEUEING

    phi3 = load_spec("phi3")
    rate = 0.97 * _steady(phi3, _contract(300, 200)).capacity_rps
    assert assess(phi3, H200, _contract(300, 200, rate, None)).term is Term.KV


def test_the_nearest_contracts_fit_and_a_little_more_does_not() -> None:
    """The rate and the prompt that are named for an infeasible contract are met; 6 % above the rate is not."""
    spec, prompt = load_spec("mixtral"), 1024
    near = nearest_fit(spec, H200, assess(spec, H200, _contract(prompt)))

    assert near.rate_rps is not None
    assert near.prompt_tokens is not None
    assert assess(spec, H200, _contract(prompt, rate=near.rate_rps)).fit is not Fit.INFEASIBLE
    assert assess(spec, H200, _contract(prompt, rate=1.06 * near.rate_rps)).fit is Fit.INFEASIBLE
    assert assess(spec, H200, _contract(near.prompt_tokens)).fit is not Fit.INFEASIBLE


def test_a_contract_that_fits_is_told_how_far_the_rate_may_rise() -> None:
    """For a feasible contract the highest rate is named, and no shorter prompt."""
    spec = load_spec("phi3")
    near = nearest_fit(spec, H200, assess(spec, H200, _contract(128, 32, 60.0, 0.5)))

    assert near.rate_rps is not None
    assert near.rate_rps > 60.0
    assert near.prompt_tokens is None


def test_where_even_one_request_is_too_slow_nothing_is_offered() -> None:
    """A limit below the time of a request alone is met at no rate and with no prompt."""
    spec = load_spec("mixtral")
    found = assess(spec, H200, _contract(limit_s=0.1))
    near = nearest_fit(spec, H200, found)

    assert near == Nearest()
    assert "no lower rate or shorter prompt would fit" in sentence(found, near)


def test_without_prefill_beside_it_a_one_token_reply_is_all_prefill() -> None:
    """Replies of one token have no decoding: their steady step is a prefill."""
    steady = _steady(load_spec("hermes"), _contract(500, 1, 30.0))

    assert steady.batch == 1
    assert steady.mean_step(1).kv_s == 0.0
    assert steady.rho < 1


def test_a_device_without_physics_meets_everything() -> None:
    """The ideal device serves any contract, with or without a limit."""
    ideal = find_device("ideal")
    for limit_s in (None, 0.001):
        found = assess(load_spec("mixtral"), ideal, _contract(output=8, limit_s=limit_s))
        assert found.fit is Fit.FEASIBLE
        assert found.latency is not None
        assert found.latency.quantile_s == pytest.approx(0.0, abs=1e-6)
