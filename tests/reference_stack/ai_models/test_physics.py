"""Step times and KV room: bounds that physics sets, and values worked out by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.errors import SettingsError
from reference_stack.services.ai_models.model_spec import ModelSpec, load_spec, model_names
from reference_stack.services.ai_models.physics import (
    DEVICES,
    Device,
    experts_hit,
    find_device,
    kv_capacity_tokens,
    step_time_s,
)

MODELS = st.sampled_from(model_names()).map(load_spec)
REAL_DEVICES = st.sampled_from([device for name, device in DEVICES.items() if name != "ideal"])
TOKENS = st.integers(min_value=0, max_value=8192)
SEQS = st.integers(min_value=0, max_value=256)


@given(MODELS, REAL_DEVICES, TOKENS, SEQS, st.integers(min_value=0, max_value=10**6))
def test_more_work_never_takes_less_time(
    spec: ModelSpec, device: Device, prefill: int, seqs: int, context: int
) -> None:
    """A token, a sequence or a KV token more never makes a step shorter."""
    time_s = step_time_s(spec, device, prefill, seqs, context)

    assert step_time_s(spec, device, prefill + 1, seqs, context) >= time_s
    assert step_time_s(spec, device, prefill, seqs + 1, context) >= time_s
    assert step_time_s(spec, device, prefill, seqs, context + 1) >= time_s


def test_alone_a_token_costs_the_weights_it_meets() -> None:
    """A single decode is bound by reading the active weights once: worked out by hand for Hermes on an H200."""
    spec, h200 = load_spec("hermes"), find_device("h200")
    layers = 32 * (4096 * 128 * 80 + 3 * 4096 * 14336)  # one byte each
    head = 2 * 32002 * 4096
    expected_s = (layers + head) / (4.8e12 * h200.bandwidth_efficiency) + h200.step_overhead_s

    assert step_time_s(spec, h200, 0, 1, 0) == pytest.approx(expected_s + h200.sequence_overhead_s, rel=1e-3)


def test_long_prefill_is_bound_by_arithmetic() -> None:
    """Twice the prompt tokens take twice the time once arithmetic binds."""
    spec, h200 = load_spec("hermes"), find_device("h200")
    short_s = step_time_s(spec, h200, 4000, 0, 0) - h200.step_overhead_s
    long_s = step_time_s(spec, h200, 8000, 0, 0) - h200.step_overhead_s

    assert long_s / short_s == pytest.approx(2.0, rel=0.02)


def test_a_step_beyond_the_graphs_waits_for_its_launches() -> None:
    """A step of one token more than graphs are kept for takes what the host needs to launch it, if that is more."""
    spec, h200 = load_spec("phi3"), find_device("h200")
    inside_s, beyond_s = (step_time_s(spec, h200, spec.graph_tokens + more, 0, 0) for more in (0, 1))

    assert inside_s < h200.launch_s
    assert beyond_s == pytest.approx(h200.launch_s + h200.step_overhead_s)
    huge_s = step_time_s(spec, h200, 100_000, 0, 0)
    assert huge_s == step_time_s(spec, replace(h200, launch_s=0.0), 100_000, 0, 0)  # the device is what it waits for


def test_nothing_to_do_takes_no_time() -> None:
    """A step without tokens is no step."""
    assert step_time_s(load_spec("phi3"), find_device("h200"), 0, 0, 0) == 0.0


@pytest.mark.parametrize("name", model_names())
def test_ideal_device_takes_no_time(name: str) -> None:
    """What stands in front of the ideal device waits for nothing."""
    assert step_time_s(load_spec(name), find_device("ideal"), 8192, 256, 10**6) < 1e-9


def test_expected_experts_are_those_a_draw_gives() -> None:
    """The formula agrees with routing drawn at random, and is exact at its ends."""
    a = load_spec("mixtral").architecture
    rng = random.Random(1)
    draws = [len({e for _ in range(5) for e in rng.sample(range(8), 2)}) for _ in range(4000)]

    assert experts_hit(a, 1) == pytest.approx(2)
    assert experts_hit(a, 1000) == pytest.approx(8)
    assert experts_hit(a, 5) == pytest.approx(sum(draws) / len(draws), abs=0.05)
    assert experts_hit(load_spec("phi3").architecture, 7) == 1


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("mixtral", 290_000, 330_000),
        ("hermes", 45_000, 55_000),
        ("openchat", 15_000, 20_000),
        ("phi3", 1_500, 2_500),
    ],
)
def test_kv_room_inside_the_limits(name: str, low: int, high: int) -> None:
    """What the memory limit leaves for KV is what the arithmetic by hand says, in whole blocks."""
    spec = load_spec(name)
    tokens = kv_capacity_tokens(spec, find_device("h200"), spec.memory_limit_bytes, spec.max_num_batched_tokens)

    assert low <= tokens <= high
    assert tokens % 16 == 0


def test_a_model_that_does_not_fit_is_refused() -> None:
    """Mixtral on a device of 48 GB is refused before anything starts, with what to do."""
    spec = load_spec("mixtral")

    with pytest.raises(SettingsError, match="smaller precision"):
        kv_capacity_tokens(spec, find_device("l40s"), spec.memory_limit_bytes, 8192)


def test_unknown_device_names_the_nearest() -> None:
    """A misspelt device is refused with the right spelling."""
    with pytest.raises(SettingsError, match="did you mean 'h200'"):
        find_device("h20")
