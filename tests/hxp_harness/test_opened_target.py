"""A target is labelled by what it says of itself, whoever started it."""

from __future__ import annotations

import pytest

from hxp_harness.errors import UsageError
from hxp_harness.load.plan import LoadPlan
from hxp_harness.opened_target import as_it_says
from hxp_harness.request import PerfRequest, refuse_evidence
from hxp_harness.target import Evidence, Target

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
