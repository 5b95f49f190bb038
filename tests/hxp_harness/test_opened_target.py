"""A target is labelled by what it says of itself, whoever started it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hxp_harness.errors import UsageError
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.load.plan import LoadPlan
from hxp_harness.opened_target import as_it_says, asked_of, opened_target
from hxp_harness.profile import Contract, find_profile
from hxp_harness.request import PerfRequest, refuse_evidence
from hxp_harness.target import Evidence, Target
from hxp_harness.trace import Trace
from tests.hxp_harness.test_stack import UNTIL_EOF, stack_of

__all__ = ["stack_of"]  # the fixture
MIXTRAL = find_profile("mixtral")
ROW = {"api_model": "mixtral", "evidence": "simulated", "engine": "sim", "facts": {"device": "h200"}}
FEASIBLE = {"sentence": "FEASIBLE: easily", "rate_rps": 115.3}
SERVICES = {
    "mixtral": {"base_url": "http://127.0.0.1:1/v1", "feasibility": FEASIBLE, **ROW},
    "api_gateway": {"base_url": "http://127.0.0.1:2/v1", **ROW, "api_model": "any"},
}


class Said:
    """A display that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def see(self, traces: Sequence[Trace]) -> None:
        """Take no notice."""

    def say(self, text: str) -> None:
        self.lines.append(text)


TARGET = Target("http://127.0.0.1:9/v1", "m", facts={"device": "x"})


def plan(**facts: str) -> LoadPlan:
    return LoadPlan("http://127.0.0.1:9/v1", "m", "chat", stream=True, timeout_s=1.0, facts=facts)


def test_a_simulation_behind_a_url_is_simulated() -> None:
    """A server whose answers carry a simulation's fingerprint is no evidence about hardware."""
    said = as_it_says(TARGET, plan(system_fingerprint="sim-0.32.0-h200"))

    assert said.evidence is Evidence.SIMULATED
    assert said.engine == "sim"
    assert said.facts == {"device": "x", "system_fingerprint": "sim-0.32.0-h200"}
    with pytest.raises(UsageError, match="simulated, not measured"):
        refuse_evidence(PerfRequest(require_hardware=True), said)


@pytest.mark.parametrize("facts", [{}, {"system_fingerprint": "vllm-0.32.0-5920429b"}])
def test_any_other_server_is_measured(facts: dict[str, str]) -> None:
    """A server that says nothing of the kind is taken for what it is."""
    said = as_it_says(TARGET, plan(**facts))

    assert said.evidence is Evidence.MEASURED
    refuse_evidence(PerfRequest(require_hardware=True), said)


@pytest.mark.parametrize(("through", "base_url"), [(False, "http://127.0.0.1:1/v1"), (True, "http://127.0.0.1:2/v1")])
def test_the_model_is_judged_directly_or_through_the_gateway(
    stack_of: Callable[[str], None], tmp_path: Path, through: bool, base_url: str
) -> None:
    """Either door asks for the same model, and what the stack predicts is shown and kept."""
    ready = json.dumps({"ready": True, "services": SERVICES})
    stack_of(f"import sys; print({ready!r}, flush=True); {UNTIL_EOF}")
    said, request = Said(), PerfRequest(through_gateway=through, settings=("device=h200",))
    with opened_target(request, MIXTRAL, parse_gates(MIXTRAL.gates), tmp_path, said) as target:
        assert (target.base_url, target.api_model) == (base_url, "mixtral")

    assert target.facts["feasible_rps"] == "115.3"
    assert "FEASIBLE: easily" in said.lines


def test_without_a_prediction_that_is_said(stack_of: Callable[[str], None], tmp_path: Path) -> None:
    """Of a closed loop no stack predicts anything, which is said before the run, and no fact is made up."""
    ready = json.dumps({"ready": True, "services": {"mixtral": {**SERVICES["mixtral"], "feasibility": {}}}})
    stack_of(f"import sys; print({ready!r}, flush=True); {UNTIL_EOF}")
    closed = Contract.model_validate(
        {"prompt_tokens": 9, "output_tokens": 4, "rate": "2 rps", "arrival": {"kind": "closed", "concurrency": 4}}
    )
    profile = MIXTRAL.model_copy(update={"contract": closed})
    said = Said()
    with opened_target(PerfRequest(), profile, parse_gates(profile.gates), tmp_path, said) as target:
        assert target.facts == {"device": "h200"}

    assert any("no prediction" in line for line in said.lines)


def test_the_first_limit_on_latency_is_what_a_stack_predicts() -> None:
    """A stack is asked for the first percentile of end-to-end latency that decides; none where no gate has one."""
    gates = parse_gates(("warn e2e p50 <= 1 s", "ttft p95 <= 1 s", "e2e p99 <= 3 s", "e2e p95 <= 2 s"))
    asked = asked_of(MIXTRAL, gates)

    assert asked is not None
    assert (asked["limit_s"], asked["quantile"]) == (3.0, 0.99)
    assert "limit_s" not in (asked_of(MIXTRAL, gates[:2]) or {"limit_s": "refused"})
