"""The proof, before and after a run or by itself, that this machine can measure a profile's load."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hxp_harness import evidence, interrupt
from hxp_harness.certify import SCALE
from hxp_harness.certify.ceiling import Ceiling, advice, sentence
from hxp_harness.certify.certificate import certify, driven_by
from hxp_harness.certify.searching import search_ceilings
from hxp_harness.certify.witness import told as told_by_witness
from hxp_harness.certify.witness import witness
from hxp_harness.certify.wording import told
from hxp_harness.errors import ExitCode, UsageError
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import Gate, check_samples, check_supported
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.scope import MOST_SHOWN, meets
from hxp_harness.load.plan import Due
from hxp_harness.load.schedule import peak_rps
from hxp_harness.profile import Profile
from hxp_harness.report.progress import Goal
from hxp_harness.report.terminal import Screen
from hxp_harness.request import PerfRequest, resolve_profile
from hxp_harness.run_folder import make_run_folder
from hxp_harness.senders import Senders, recruited, refuse_senders

LONGEST_S = 5.0
SHORTEST_S = 1.0  # a short run is not proved at greater length than it is measured


def supported_gates(profile: Profile) -> tuple[Gate, ...]:
    """Return the profile's gates, parsed; raise UsageError for one that it could never decide."""
    gates = parse_gates(profile.gates)
    for gate in gates:
        check_supported(gate, Asked.of(profile.contract, profile.replicates))
    return gates


def refuse_empty_scopes(gates: Sequence[Gate], profile: Profile, schedule: Sequence[Due]) -> None:
    """Raise UsageError for a gate on some requests only of which some window of the schedule has too few to tell."""
    for gate in gates:
        if not gate.scope:
            continue
        counts = dict.fromkeys(range(profile.replicates.count), 0)
        for due in schedule:
            counts[due.replicate] = counts.get(due.replicate, 0) + _meets(gate, due)
        fewest = min(counts[number] for number in range(profile.replicates.count))
        if not fewest:
            raise UsageError(f"{gate}: a replicate of this contract has no such request", hint=_asked(schedule))
        check_samples(gate, fewest, profile.contract.output_tokens, "the replicate's share of such requests")


def _meets(gate: Gate, due: Due) -> bool:
    return meets(gate.scope, prompt_tokens=due.prompt_tokens, output_tokens=due.output_tokens, tag=due.tag)


def _asked(schedule: Sequence[Due]) -> str:
    prompts, outputs = ([getattr(due, name) for due in schedule] for name in ("prompt_tokens", "output_tokens"))
    tags = sorted({due.tag for due in schedule if due.tag})
    spans = f"prompts of {min(prompts)} to {max(prompts)} tokens, answers of {min(outputs)} to {max(outputs)}"
    return f"it has {spans}" + (f", tags {', '.join(tags[:MOST_SHOWN])}" if tags else "")


def screen_of(profile: Profile, gates: tuple[Gate, ...]) -> Screen:
    """Return where progress is shown; the first latency gate on a percentile is what it follows."""
    followed = next((one for one in gates if one.row.dimension == "time" and one.quantile and not one.scope), None)
    goal = Goal() if followed is None else Goal(followed.metric, followed.quantile or 0.95, followed.limit)
    return Screen(profile.title, goal)


def certify_into(
    folder: Path,
    name: str,
    profile: Profile,
    gates: tuple[Gate, ...],
    screen: Screen,
    senders: Senders,
) -> dict[str, Any]:
    """Prove that this machine can measure the profile's load now, write the proof down and return it."""
    interrupt.check()
    screen.say("certificate: the same client against a server of known timing")
    limit_s = _limit_s(profile, gates)
    planned_s = profile.replicates.count * profile.replicates.requests / profile.contract.rate_rps
    duration_s = min(LONGEST_S, max(SHORTEST_S, planned_s / 20))
    certificate = certify(
        folder / Path(name).stem,
        profile.contract,
        limit_s=limit_s,
        duration_s=duration_s,
        seed=profile.seed,
        drive=driven_by(senders.open_session),
        host=senders.host,
    )
    evidence.write_json(folder, name, certificate)
    return asdict(certificate)


def _limit_s(profile: Profile, gates: tuple[Gate, ...]) -> float:
    """Return the tightest limit on a time: what the instrument may be off by is a share of it."""
    return min(
        (one.limit for one in gates if one.row.dimension == "time" and one.decides), default=profile.contract.timeout_s
    )


def certify_profile(request: PerfRequest, search_s: float = 0.0) -> int:
    """Make a certificate for a profile's load alone; return 0 when the instrument can judge it, else INVALID's code.

    With `search_s` above 0 the ceiling of this machine, or of the request's hosts together, is searched for about so
    many seconds, and stated in it.
    """
    profile = resolve_profile(request)
    gates = supported_gates(profile)
    refuse_senders(request, certificate_only=True)
    folder = make_run_folder(request.out, f"certificate-{profile.name}")
    with screen_of(profile, gates) as screen, recruited(request, folder, screen.say) as senders_for:
        senders = senders_for(profile.contract)
        screen.say(senders.said)
        found = certify_into(folder, evidence.CERTIFICATE_BEFORE, profile, gates, screen, senders)
        ceilings: tuple[Ceiling, ...] = ()
        if search_s:
            ceilings = search_ceilings(
                folder / "ceiling",
                profile.contract,
                limit_s=_limit_s(profile, gates),
                seed=profile.seed,
                most_s=search_s,
                drive=driven_by(senders.open_session),
                host=senders.host,
                say=screen.say,
            )
        whole = {**found, "ceilings": [{**asdict(one), "limited_by": one.limited_by} for one in ceilings]}
        evidence.write_json(folder, evidence.CERTIFICATE_BEFORE, whole)
    print(_said(found, ceilings, profile))
    print(f"evidence: {folder}")
    return ExitCode.PASS if found["ok"] else ExitCode.INVALID


def witness_golden(out: Path | None) -> int:
    """Hold the golden server's log against strace; return 0 when it is proven, else INVALID's code.

    Raises NotReady where strace is not there, or may not look at processes.
    """
    folder = make_run_folder(out, "witness")
    found = witness(folder)
    evidence.write_json(folder, "witness.json", found)
    print(told_by_witness(found))
    print(f"evidence: {folder}")
    return ExitCode.PASS if found.proven else ExitCode.INVALID


def _said(found: Mapping[str, Any], ceilings: Sequence[Ceiling], profile: Profile) -> str:
    """Return the certificate, the ceilings and the answer as lines."""
    lines = [told(found), *map(sentence, ceilings)]
    clients, cores = found["fidelity"]["clients"], len(os.sched_getaffinity(0))
    needed_rps = peak_rps(profile.contract) * SCALE
    lift = advice(ceilings, needed_rps, profile.contract.output_tokens, clients=clients, cores=cores)
    why = [*found["reasons"], *([lift] if lift else [])]
    return "\n".join([*lines, *(why or [f"this machine can measure {profile.title}"])])
