"""What was asked for on the command line, resolved into one profile and one target before anything starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from hxp_harness.errors import UsageError
from hxp_harness.profile import Contract, Profile, Replicates, find_profile, read_profile
from hxp_harness.target import Evidence, Target, check_base_url
from hxp_harness.units import parse_quantity

QUICK_COUNT = 4
# 6,400 in all: fewer than 4,900 could not show an error rate under 0.1 % surely, and with 69 requests in flight no p95
# passes in under 6,356 (gates/shares.py, least_values); the simulated Mixtral has 57
QUICK_REQUESTS = 1600
QUICK_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class PerfRequest:
    """The options of `hxp perf`; None where the profile decides."""

    profile_name: str | None = None
    profile_file: Path | None = None
    engine: str = "sim"
    weights: str = "real"
    target_url: str | None = None
    api_model: str | None = None
    api_key: str = ""
    metrics_url: str | None = None
    tag_keys: dict[str, str] = field(default_factory=dict)  # of a tag: where its key is
    through_gateway: bool = False
    out: Path | None = None
    quick: bool = False
    replicates: int | None = None
    requests: int | None = None
    rate: str | None = None
    seed: int | None = None
    require_hardware: bool = False
    baseline: Path | None = None  # a run to compare with
    settings: tuple[str, ...] = ()  # KEY=VALUE of the embedded stack's models
    clients: int | None = None  # processes that send the load
    hosts: int | None = None  # workers that send it instead
    listen: str | None = None  # HOST:PORT where those join
    web_port: int = 0  # of Locust's page, there; 0: none
    max_minutes: float | None = None  # of load; what is open then stays open


def resolve_profile(request: PerfRequest) -> Profile:
    """Return the profile with the request's changes; raise UsageError when it or they are wrong."""
    if request.profile_file is not None:
        profile = read_profile(request.profile_file)
    else:
        profile = find_profile(request.profile_name or "")
    if request.max_minutes is not None and not request.max_minutes > 0:
        raise UsageError(f"--max-minutes {request.max_minutes:g}: a run needs time", hint="for example --max-minutes 5")
    contract = profile.contract
    if request.rate is not None:
        try:
            rate_rps = parse_quantity(request.rate, "rate").value
        except UsageError as error:
            raise UsageError(f"--rate: {error.message}", hint=error.hint) from None
        if rate_rps <= 0:
            raise UsageError(f"--rate: {request.rate!r} is not above zero")
        contract = contract.at_rate(rate_rps)
        profile = profile.model_copy(update={"title": f"{profile.title} [at {request.rate} instead]"})
    replicates = _replicates(request, profile.replicates, contract)
    seed = profile.seed if request.seed is None else request.seed
    return profile.model_copy(update={"contract": contract, "replicates": replicates, "seed": seed})


def _replicates(request: PerfRequest, of_profile: Replicates, contract: Contract) -> Replicates:
    count, requests, warm_up_s = of_profile.count, of_profile.requests, of_profile.warm_up_s
    if request.quick:
        count = min(count, QUICK_COUNT)
        sessions = math.ceil(max(QUICK_REQUESTS, contract.rate_rps * QUICK_WINDOW_S) / contract.turns)
        requests = min(requests, sessions * contract.turns)
    count = count if request.replicates is None else request.replicates
    requests = requests if request.requests is None else request.requests
    if count < 2:
        raise UsageError(f"--replicates {count}: a bound needs at least 2", hint="--replicates 8 is the default")
    if requests < 10:
        raise UsageError(f"--requests {requests}: a window needs at least 10", hint="--requests 2000 is the default")
    return Replicates.model_validate({"count": count, "requests": requests, "warm_up_s": warm_up_s})


def target_from_url(request: PerfRequest, profile: Profile) -> Target:
    """Return the target that --target and its companions name; raise UsageError when the URL cannot be one."""
    base_url = check_base_url(request.target_url or "")
    metrics_url = request.metrics_url
    if metrics_url is None:
        parts = urlsplit(base_url)
        metrics_url = urlunsplit(parts._replace(path=parts.path.removesuffix("/v1") + "/metrics"))
    return Target(
        base_url=base_url,
        api_model=request.api_model or profile.service,
        api_key=request.api_key,
        metrics_url=metrics_url,
        tag_keys=request.tag_keys,
    )


def refuse_without_hardware(request: PerfRequest) -> None:
    """Raise UsageError when --require-hardware contradicts what is to be run."""
    for pair in request.settings:
        if request.target_url is not None or "=" not in pair:
            raise UsageError(
                f"--set {pair}: wants KEY=VALUE of the embedded stack", hint="for example --set device=cpu"
            )
    if not request.require_hardware or request.target_url is not None:
        return
    if request.engine == "sim":
        raise UsageError("--require-hardware: the simulation is no evidence about hardware", hint="add --engine vllm")
    if request.weights == "tiny":
        raise UsageError(
            "--require-hardware: a tiny model is no evidence about hardware", hint="--weights real or dummy"
        )


def refuse_evidence(request: PerfRequest, target: Target) -> None:
    """Raise UsageError when --require-hardware was asked for and the target says that it is something else."""
    if request.require_hardware and target.evidence is not Evidence.MEASURED:
        raise UsageError(f"--require-hardware: this target's evidence is {target.evidence}, not measured")
