"""One whole run against a target that is open already: what a search and a comparison repeat."""

from __future__ import annotations

from pathlib import Path

from hxp_harness import evidence
from hxp_harness.conclude import conclude
from hxp_harness.instrument import refuse_empty_scopes, supported_gates
from hxp_harness.load.preflight import preflight
from hxp_harness.load.schedule import draw
from hxp_harness.load.tag_keys import refuse_unknown
from hxp_harness.opened_target import as_it_says
from hxp_harness.profile import Profile
from hxp_harness.report.record import Record
from hxp_harness.report.terminal import Screen
from hxp_harness.request import PerfRequest, refuse_evidence
from hxp_harness.run import Load, begin, run_load
from hxp_harness.senders import Senders
from hxp_harness.target import Target


def run_trial(
    folder: Path,
    profile: Profile,
    offered: Target,
    request: PerfRequest,
    screen: Screen,
    senders: Senders,
    *,
    certified_only: bool = False,
) -> Record:
    """Run `profile` against `offered`, keep everything in `folder` as `hxp perf` does, and return the record.

    The first questions wait until the target has served what a run before left behind. Raises NotReady when it does
    not within a minute, InvalidRun when nothing could be measured, and Uncertified, with `certified_only`, instead of a
    load that this machine cannot measure.
    """
    folder.mkdir(parents=True)
    gates = supported_gates(profile)
    evidence.write_profile(folder, profile)
    plan = preflight(offered, profile.contract)
    target = as_it_says(offered, plan)
    refuse_evidence(request, target)
    begin(folder, profile, target, senders)
    schedule = draw(profile.contract, profile.replicates, profile.seed)
    refuse_empty_scopes(gates, profile, schedule)
    refuse_unknown(request.tag_keys, (due.tag for due in schedule))
    load = Load(plan, schedule, senders)
    run_load(folder, profile, gates, target, load, screen, certified_only=certified_only)
    evidence.write_json(folder, evidence.END, {"interrupted": False})
    return conclude(folder)
