"""The whole story of a run: a profile in, a verdict out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hxp_harness import evidence, interrupt
from hxp_harness.canary import ask_idle, asked_under_load, forget_outside, planned
from hxp_harness.comparison.baseline import against, refuse_unlike
from hxp_harness.conclude import conclude
from hxp_harness.errors import ExitCode, InvalidRun, Uncertified
from hxp_harness.gates.gate import Gate
from hxp_harness.instrument import certify_into, refuse_empty_scopes, screen_of, supported_gates
from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.preflight import preflight
from hxp_harness.load.schedule import draw
from hxp_harness.load.tag_keys import refuse_unknown
from hxp_harness.measure import measure
from hxp_harness.metrics import scrape
from hxp_harness.opened_target import as_it_says, opened_target
from hxp_harness.profile import Profile
from hxp_harness.report.manifest import environment
from hxp_harness.report.terminal import Screen
from hxp_harness.request import PerfRequest, refuse_evidence, refuse_without_hardware, resolve_profile
from hxp_harness.run_folder import make_run_folder
from hxp_harness.senders import Senders, recruited, refuse_senders
from hxp_harness.target import Target
from hxp_harness.telemetry.watching import plan_for, watched
from hxp_harness.trace import Trace
from hxp_harness.watch import Watch


class Load(NamedTuple):
    """What will be sent: how, when, and for how long at most."""

    plan: LoadPlan
    schedule: Sequence[Due]
    senders: Senders
    max_minutes: float | None = None


def perf(request: PerfRequest) -> int:
    """Run a profile from end to end and return the exit code of its verdict.

    Every stage writes what it found into the run's folder, and the next reads it there. What was refused before the
    start raises UsageError; a stack or target that does not serve, NotReady.
    """
    profile = resolve_profile(request)
    gates = supported_gates(profile)
    refuse_without_hardware(request)
    if request.baseline is not None:
        refuse_unlike(request.baseline, profile)
    refuse_senders(request)
    schedule = draw(profile.contract, profile.replicates, profile.seed)
    refuse_empty_scopes(gates, profile, schedule)
    refuse_unknown(request.tag_keys, (due.tag for due in schedule))
    folder = make_run_folder(request.out, f"{profile.name}-{'target' if request.target_url else request.engine}")
    evidence.write_profile(folder, profile)
    with screen_of(profile, gates) as screen:
        try:
            with opened_target(request, profile, gates, folder, screen) as offered:
                interrupt.check()
                screen.say("asking the target a first question")
                plan = preflight(offered, profile.contract)
                target = as_it_says(offered, plan)
                refuse_evidence(request, target)
                with recruited(request, folder, screen.say) as senders_for:
                    who = senders_for(profile.contract)
                    screen.say(who.said)
                    begin(folder, profile, target, who)
                    load = Load(plan, schedule, who, request.max_minutes)
                    in_time = run_load(folder, profile, gates, target, load, screen)
            interrupt.check()
            end = {"interrupted": False, "budget_minutes": None if in_time else request.max_minutes}
            evidence.write_json(folder, evidence.END, end)
        except KeyboardInterrupt:
            interrupt.settle()
            if not (folder / evidence.MANIFEST).exists():
                raise
            screen.say("stopped by hand: what was measured is kept, and judged INVALID")
        try:
            screen.say("judging")
            record = conclude(folder)
            write_views(folder)
            interrupt.check()
        except KeyboardInterrupt:
            raise InvalidRun("stopped while judging", hint=f"the measurement is whole: hxp judge {folder}") from None
        screen.end(record, folder)
    code = ExitCode[record.verdict]
    if request.baseline is not None:
        compared = against(request.baseline, folder)
        return compared if code is ExitCode.PASS else code
    return code


def begin(folder: Path, profile: Profile, target: Target, who: Senders) -> None:
    """Write down what is judged, and on what."""
    now = datetime.now(UTC)
    manifest = {
        "id": folder.name,
        "started": now.isoformat(timespec="seconds"),
        "evidence": target.evidence,
        "target": {"base_url": target.base_url, "model": target.api_model, "engine": target.engine} | target.facts,
        "environment": environment(),
        "seeds": {"profile": profile.seed, "arrivals_and_prompts": "spawned from it (numpy SeedSequence)"},
        "profile": profile.name,
        "load": who.facts,
    }
    evidence.write_json(folder, evidence.MANIFEST, manifest)


def run_load(
    folder: Path,
    profile: Profile,
    gates: tuple[Gate, ...],
    target: Target,
    load: Load,
    screen: Screen,
    *,
    certified_only: bool = False,
) -> bool:
    """Certify, load, certify again; every result is a file in `folder`. Return False when the time allowed ended it.

    With `certified_only` no load is sent that the certificate does not cover: Uncertified says why.
    """
    certificate = certify_into(folder, evidence.CERTIFICATE_BEFORE, profile, gates, screen, load.senders)
    if not certificate["ok"]:
        if certified_only:
            raise Uncertified("; ".join(certificate["reasons"]))
        screen.say("this machine cannot measure the load now, so the verdict will be INVALID; Ctrl-C stops here")
    canary, timeout_s = planned(load.schedule), profile.contract.timeout_s
    canary.idle = ask_idle(canary, target, timeout_s=timeout_s)
    budget_s = None if load.max_minutes is None else load.max_minutes * 60
    watch = Watch(profile.contract, profile.replicates, gates, screen, load.schedule, budget_s=budget_s)
    before = scrape.fetch(target.metrics_url)
    screen.load(load.schedule)
    try:
        with (
            watched(folder, plan_for(target, metrics=before is not None)),
            asked_under_load(canary, target, load.schedule, timeout_s=timeout_s) as canary_sees,
        ):

            def see(traces: Sequence[Trace]) -> bool:
                canary_sees(traces)
                return watch.see(traces)

            summary = measure(
                folder,
                load.plan,
                load.schedule,
                api_key=target.api_key,
                on_traces=see,
                open_session=load.senders.open_session,
            )
        forget_outside(canary, load.schedule, summary.t0_monotonic_s)
    finally:
        counters = {"before": before, "after": scrape.fetch(target.metrics_url)}
        tree = {when: None if found is None else asdict(found) for when, found in counters.items()}
        evidence.write_json(folder, evidence.SERVER, tree)
    canary.after = ask_idle(canary, target, timeout_s=timeout_s)
    evidence.write_json(folder, evidence.CANARY, canary)
    if not summary.lost:  # without one of its workers the instrument is no longer the one that was certified
        certify_into(folder, evidence.CERTIFICATE_AFTER, profile, gates, screen, load.senders)
    return not watch.out_of_budget


def write_views(folder: Path) -> None:
    """Write the report beside the record, in a process of its own: plots need memory that judging does not."""
    argv = [sys.executable, "-m", "hxp_harness", "report", str(folder)]
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"hxp: the verdict stands, but not its report:\n{done.stderr}", file=sys.stderr)
