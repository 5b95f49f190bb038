"""The proof, before and after a run or by itself, that this machine can measure a profile's load."""

from __future__ import annotations

from pathlib import Path

from hxp_harness import evidence, interrupt
from hxp_harness.certify.certificate import certify
from hxp_harness.errors import ExitCode, NotReady
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import Gate, check_supported, parse_gates
from hxp_harness.profile import Profile
from hxp_harness.report.progress import Goal
from hxp_harness.report.terminal import Screen
from hxp_harness.request import PerfRequest, resolve_profile
from hxp_harness.run_folder import make_run_folder

LONGEST_S = 5.0
SHORTEST_S = 1.0  # a short run is not proved at greater length than it is measured


def supported_gates(profile: Profile) -> tuple[Gate, ...]:
    """Return the profile's gates, parsed; raise UsageError for one that it could never decide."""
    gates = parse_gates(profile.gates)
    for gate in gates:
        check_supported(gate, Asked.of(profile.contract, profile.replicates))
    return gates


def screen_of(profile: Profile, gates: tuple[Gate, ...]) -> Screen:
    """Return where progress is shown; the first latency gate on a percentile is what it follows."""
    followed = next((gate for gate in gates if gate.row.dimension == "time" and gate.quantile), None)
    goal = Goal() if followed is None else Goal(followed.metric, followed.quantile or 0.95, followed.limit)
    return Screen(profile.title, goal)


def certify_into(folder: Path, name: str, profile: Profile, gates: tuple[Gate, ...], screen: Screen) -> None:
    """Prove that this machine can measure the profile's load now, and write the proof down."""
    interrupt.check()
    screen.say("certificate: the same client against a server of known timing")
    limit_s = min((gate.limit for gate in gates if gate.row.dimension == "time"), default=profile.contract.timeout_s)
    planned_s = profile.replicates.count * profile.replicates.requests / profile.contract.rate_rps
    duration_s = min(LONGEST_S, max(SHORTEST_S, planned_s / 20))
    certificate = certify(
        folder / Path(name).stem, profile.contract, limit_s=limit_s, duration_s=duration_s, seed=profile.seed
    )
    evidence.write_json(folder, name, certificate)


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
