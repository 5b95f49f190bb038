"""The whole story of a run: a profile in, a verdict out."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from hxp_harness import evidence, interrupt
from hxp_harness.certify.certificate import certify
from hxp_harness.conclude import conclude
from hxp_harness.errors import ExitCode, NotReady
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import Gate, check_supported, parse_gates
from hxp_harness.load.preflight import preflight
from hxp_harness.load.schedule import draw
from hxp_harness.measure import measure
from hxp_harness.metrics import scrape
from hxp_harness.profile import Profile
from hxp_harness.report.manifest import environment
from hxp_harness.report.progress import Goal
from hxp_harness.report.terminal import Screen
from hxp_harness.request import PerfRequest, refuse_evidence, refuse_without_hardware, resolve_profile, target_from_url
from hxp_harness.run_folder import make_run_folder
from hxp_harness.stack import Want, running
from hxp_harness.target import Target
from hxp_harness.watch import Watch

LONGEST_CERTIFICATE_S = 5.0
SHORTEST_CERTIFICATE_S = 1.0  # a short run is not proved at greater length than it is measured


def perf(request: PerfRequest) -> int:
    """Run a profile from end to end and return the exit code of its verdict.

    Every stage writes what it found into the run's folder, and the next reads it there. What was refused before the
    start raises UsageError; a stack or target that does not serve, NotReady.
    """
    profile = resolve_profile(request)
    gates = supported_gates(profile)
    refuse_without_hardware(request)
    folder = make_run_folder(request.out, f"{profile.name}-{'target' if request.target_url else request.engine}")
    evidence.write_profile(folder, profile)
    with screen_of(profile, gates) as screen:
        try:
            with opened_target(request, profile, gates, folder, screen) as target:
                refuse_evidence(request, target)
                begin(folder, profile, target)
                run_load(folder, profile, gates, target, screen)
            interrupt.check()
            evidence.write_json(folder, evidence.END, {"interrupted": False})
        except KeyboardInterrupt:
            interrupt.settle()
            if not (folder / evidence.MANIFEST).exists():
                raise
            screen.say("stopped by hand: what was measured is kept, and judged INVALID")
        screen.say("judging")
        record = conclude(folder)
        write_views(folder)
        screen.end(record, folder)
    return ExitCode[record.verdict]


def screen_of(profile: Profile, gates: tuple[Gate, ...]) -> Screen:
    """Return where progress is shown; the first latency gate on a percentile is what it follows."""
    followed = next((gate for gate in gates if gate.row.dimension == "time" and gate.quantile), None)
    goal = Goal() if followed is None else Goal(followed.metric, followed.quantile or 0.95, followed.limit)
    return Screen(profile.title, goal)


def supported_gates(profile: Profile) -> tuple[Gate, ...]:
    """Return the profile's gates, parsed; raise UsageError for one that it could never decide."""
    gates = parse_gates(profile.gates)
    for gate in gates:
        check_supported(gate, Asked.of(profile.contract, profile.replicates))
    return gates


@contextlib.contextmanager
def opened_target(
    request: PerfRequest, profile: Profile, gates: tuple[Gate, ...], folder: Path, screen: Screen
) -> Iterator[Target]:
    """Yield the target that was asked for: a URL, or a stack that is started for the run and stopped after it.

    What the stack predicts of itself is shown and kept among the target's facts; the measurement has the last word.
    """
    if request.target_url is not None:
        yield target_from_url(request, profile)
        return
    judged = "api_gateway" if request.through_gateway else profile.service
    services = (profile.service,) if judged == profile.service else (profile.service, judged)
    screen.say(f"starting {' and '.join(services)} ({request.engine})")
    asked = asked_of(profile, gates)
    want = Want(str(folder / "stack"), services, request.engine, request.weights, contract=asked)
    with running(want, ready_s=600.0 if request.engine == "vllm" else 60.0) as stack:
        target = stack.target(judged)
        if judged != profile.service:
            target = replace(target, api_model=profile.service)
        if predicted := stack.prediction(profile.service):
            screen.say(predicted)
            target = replace(target, facts={**target.facts, "feasibility": predicted})
        yield target


def asked_of(profile: Profile, gates: tuple[Gate, ...]) -> dict[str, object]:
    """Return the contract as a stack reads it, with the first limit on a percentile of end-to-end latency."""
    asked = profile.contract.model_dump(include={"prompt_tokens", "output_tokens", "rate_rps", "arrival"})
    limited = next((gate for gate in gates if gate.metric == "e2e" and gate.quantile and gate.upper), None)
    return asked if limited is None else asked | {"limit_s": limited.limit, "quantile": limited.quantile}


def begin(folder: Path, profile: Profile, target: Target) -> None:
    """Write down what is judged, and on what."""
    now = datetime.now(UTC)
    manifest = {
        "id": folder.name,
        "started": now.isoformat(timespec="seconds"),
        "evidence": target.evidence,
        "target": {"base_url": target.base_url, "model": target.api_model, "engine": target.engine} | target.facts,
        "environment": environment(),
        "profile": profile.name,
    }
    evidence.write_json(folder, evidence.MANIFEST, manifest)


def run_load(folder: Path, profile: Profile, gates: tuple[Gate, ...], target: Target, screen: Screen) -> None:
    """Certify, load, certify again; every result is a file in `folder`."""
    interrupt.check()
    screen.say("asking the target a first question")
    plan = preflight(target, profile.contract)
    certify_into(folder, evidence.CERTIFICATE_BEFORE, profile, gates, screen)
    watch = Watch(profile.contract, profile.replicates, gates, screen)
    schedule = draw(profile.contract, profile.replicates, profile.seed)
    before = scrape.fetch(target.metrics_url)
    screen.load(schedule)
    try:
        measure(folder, plan, schedule, api_key=target.api_key, on_traces=watch.see)
    finally:
        counters = {"before": before, "after": scrape.fetch(target.metrics_url)}
        tree = {when: None if found is None else asdict(found) for when, found in counters.items()}
        evidence.write_json(folder, evidence.SERVER, tree)
    certify_into(folder, evidence.CERTIFICATE_AFTER, profile, gates, screen)


def certify_into(folder: Path, name: str, profile: Profile, gates: tuple[Gate, ...], screen: Screen) -> None:
    """Prove that this machine can measure the profile's load now, and write the proof down."""
    interrupt.check()
    screen.say("certificate: the same client against a server of known timing")
    limit_s = min((gate.limit for gate in gates if gate.row.dimension == "time"), default=profile.contract.timeout_s)
    planned_s = profile.replicates.count * profile.replicates.requests / profile.contract.rate_rps
    duration_s = min(LONGEST_CERTIFICATE_S, max(SHORTEST_CERTIFICATE_S, planned_s / 20))
    certificate = certify(
        folder / Path(name).stem, profile.contract, limit_s=limit_s, duration_s=duration_s, seed=profile.seed
    )
    evidence.write_json(folder, name, certificate)


def write_views(folder: Path) -> None:
    """Write the report beside the record, in a process of its own: plots need memory that judging does not."""
    argv = [sys.executable, "-m", "hxp_harness", "report", str(folder)]
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"hxp: the verdict stands, but not its report:\n{done.stderr}", file=sys.stderr)


def certify_profile(name: str | None, file: Path | None, out: Path | None) -> int:
    """Make a certificate for a profile's load alone; return 0 when the instrument can judge it, else INVALID's code."""
    profile = resolve_profile(PerfRequest(profile_name=name, profile_file=file))
    gates = supported_gates(profile)
    folder = make_run_folder(out, f"certificate-{profile.name}")
    with screen_of(profile, gates) as screen:
        certify_into(folder, evidence.CERTIFICATE_BEFORE, profile, gates, screen)
    found = evidence.read_json(folder, evidence.CERTIFICATE_BEFORE)
    if found is None:
        raise NotReady("no certificate was made")
    print("\n".join(found["reasons"]) or f"this machine can measure {profile.title}")
    print(f"evidence: {folder}")
    return ExitCode.PASS if found["ok"] else ExitCode.INVALID
