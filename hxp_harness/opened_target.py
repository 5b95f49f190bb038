"""What is judged: a server at a URL, or a stack that is started for the run and stopped after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hxp_harness.gates.gate import Gate
from hxp_harness.load.identity import identity
from hxp_harness.load.plan import LoadPlan
from hxp_harness.profile import Profile
from hxp_harness.request import PerfRequest, target_from_url
from hxp_harness.stack import Want, running
from hxp_harness.target import Evidence, Target
from hxp_harness.watch import Display

PREDICTED = ("constant", "poisson")  # arrivals that the contract between harness and stack knows
SIMULATED = "sim-"  # how the fingerprint of a simulated engine begins


@contextlib.contextmanager
def opened_target(
    request: PerfRequest, profile: Profile, gates: tuple[Gate, ...], folder: Path, display: Display
) -> Iterator[Target]:
    """Yield the target that was asked for: a URL, or a stack that is started for the run and stopped after it.

    What the stack predicts of itself is shown and kept among the target's facts; the measurement has the last word.
    """
    if request.target_url is not None:
        yield target_from_url(request, profile)
        return
    judged = "api_gateway" if request.through_gateway else profile.service
    services = (profile.service,) if judged == profile.service else (profile.service, judged)
    display.say(f"starting {' and '.join(services)} ({request.engine})")
    asked = asked_of(profile, gates)
    if asked is None:
        display.say("no prediction: stacks predict constant and poisson arrivals of equal lengths")
    options = dict(pair.split("=", 1) for pair in request.settings)
    want = Want(str(folder / "stack"), services, request.engine, request.weights, options=options, contract=asked)
    with running(want, ready_s=600.0 if request.engine == "vllm" else 60.0) as stack:
        target = stack.target(judged)
        if judged != profile.service:
            target = replace(target, api_model=profile.service)
        if predicted := stack.prediction(profile.service):
            display.say(predicted)
            facts = {"feasibility": predicted, "feasible_rps": stack.predicted_rps(profile.service)}
            target = replace(target, facts=target.facts | {name: told for name, told in facts.items() if told})
        yield target


def asked_of(profile: Profile, gates: tuple[Gate, ...]) -> dict[str, object] | None:
    """Return the contract as a stack reads it, with the first limit on a percentile of end-to-end latency.

    None: its arrivals or lengths are not of a kind that a stack predicts.
    """
    contract = profile.contract
    if contract.arrival.kind not in PREDICTED or not contract.open_loop or contract.varied or contract.prefix:
        return None
    asked: dict[str, object] = contract.model_dump(include={"prompt_tokens", "output_tokens", "rate_rps"})
    asked["arrival"] = contract.arrival.kind
    limits = [gate for gate in gates if gate.metric == "e2e" and gate.quantile and gate.decides and not gate.scope]
    limited = next(iter(limits), None)
    return asked if limited is None else asked | {"limit_s": limited.limit, "quantile": limited.quantile}


def as_it_says(target: Target, plan: LoadPlan) -> Target:
    """Return `target` labelled as simulated where its own answers say so, whoever started it.

    What it says of itself is kept among its facts.
    """
    fingerprint = plan.facts.get("system_fingerprint", "")
    facts = identity(target) | target.facts | plan.facts
    if fingerprint.startswith(SIMULATED):
        return replace(target, evidence=Evidence.SIMULATED, engine="sim", facts=facts)
    return replace(target, facts=facts)
