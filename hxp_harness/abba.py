"""Two targets compared by taking turns: the whole story, from a profile to an answer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hxp_harness import interrupt
from hxp_harness.comparison.attribution import counters_of
from hxp_harness.comparison.effect import Change
from hxp_harness.comparison.record import Comparison, effects_of, headline, write_comparison
from hxp_harness.comparison.visits import Visit, visit_figures, visits
from hxp_harness.errors import ExitCode, InvalidRun, UsageError
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.instrument import screen_of, supported_gates
from hxp_harness.load.preflight import preflight
from hxp_harness.metrics.summary import needed_samples
from hxp_harness.opened_target import as_it_says
from hxp_harness.profile import Profile, Replicates
from hxp_harness.report.record import Record
from hxp_harness.report.terminal import Screen
from hxp_harness.report.words import headline as run_headline
from hxp_harness.request import PerfRequest, resolve_profile, target_from_url
from hxp_harness.run import write_views
from hxp_harness.run_folder import make_run_folder
from hxp_harness.senders import local_senders
from hxp_harness.target import Evidence, Target
from hxp_harness.trial import run_trial

FLOOR_PAIRS = 3
VISIT_COUNT = 2  # replicates of one visit
VISIT_REQUESTS = 200
VISIT_WINDOW_S = 5.0
LEAST_PAIRS = 3


@dataclass(frozen=True, slots=True)
class TurnsRequest:
    """The options of a comparison of two targets; `perf` has those of A, `other_*` what B has of its own."""

    perf: PerfRequest
    other_url: str
    other_model: str | None
    pairs: int = 6
    margin: float = 0.05


def take_turns(request: TurnsRequest) -> int:
    """Visit both targets in turn, write the record, and return the exit code of the answer.

    Raises UsageError for too few pairs, NotReady where a target does not serve.
    """
    if request.pairs < LEAST_PAIRS:
        raise UsageError(f"--pairs {request.pairs}: it takes {LEAST_PAIRS} to see a spread", hint="--pairs 6 is usual")
    profile = short(resolve_profile(request.perf), request.perf.requests)
    gates = supported_gates(profile)
    targets = _targets(request, profile)
    folder = make_run_folder(request.perf.out, f"compare-{profile.name}")
    seen: dict[str, list[Record]] = {"a1": [], "a2": [], "a": [], "b": []}
    with screen_of(profile, gates) as screen:
        for target in targets.values():
            preflight(target, profile.contract)
        stopped = _visit_all(request, profile, targets, folder, seen, screen)
    found = _concluded(request, profile, seen, stopped, _evidence(targets, profile))
    write_comparison(folder, found)
    write_views(folder)
    print(f"{found.word}  {found.title}\n{headline(found)}\n\nreport: {folder / 'report.html'}")
    print(f"why:    hxp explain {folder}")
    return ExitCode(found.outcome.exit_code)


def short(profile: Profile, requests: int | None) -> Profile:
    """Return the profile of one visit."""
    contract = profile.contract
    samples = [needed_samples(gate.quantile) for gate in parse_gates(profile.gates) if gate.quantile]
    least = max([VISIT_REQUESTS, math.ceil(contract.rate_rps * VISIT_WINDOW_S), *samples])
    count = math.ceil((requests or least) / contract.turns) * contract.turns
    replicates = Replicates(count=VISIT_COUNT, requests=count, warm_up_s=profile.replicates.warm_up_s)
    return profile.model_copy(update={"replicates": replicates})


def _targets(request: TurnsRequest, profile: Profile) -> Mapping[str, Target]:
    other = replace(request.perf, target_url=request.other_url, api_model=request.other_model, metrics_url=None)
    return {"a": target_from_url(request.perf, profile), "b": target_from_url(other, profile)}


def _evidence(targets: Mapping[str, Target], profile: Profile) -> Evidence:
    """Return what the comparison can stand for: no more than either target."""
    kinds = [as_it_says(target, preflight(target, profile.contract)).evidence for target in targets.values()]
    return next((kind for kind in (Evidence.SIMULATED, Evidence.TINY) if kind in kinds), Evidence.MEASURED)


def _visit_all(
    request: TurnsRequest,
    profile: Profile,
    targets: Mapping[str, Target],
    folder: Path,
    seen: dict[str, list[Record]],
    screen: Screen,
) -> str:
    """Make every visit; return why it ended early, or nothing."""
    shared = targets["a"].base_url == targets["b"].base_url and targets["a"].api_model == targets["b"].api_model
    planned = visits(request.pairs, FLOOR_PAIRS, profile.seed, shared=shared)
    try:
        for number, visit in enumerate(planned, 1):
            interrupt.check()
            screen.say(f"visit {number} of {len(planned)}: {_named(visit)}")
            own = profile.model_copy(update={"seed": visit.seed})
            where = folder / f"visit-{number:02}-{visit.side}"
            record = _visited(where, own, targets[visit.target], request.perf, screen)
            if record is None or record.verdict == "INVALID":
                why = "nothing was measured" if record is None else run_headline(record)
                return f"Visit {number}, of {visit.target.upper()}, was INVALID twice: {why}"
            seen[visit.side].append(record)
    except KeyboardInterrupt:
        interrupt.settle()
        return "The comparison was stopped by hand: nothing is concluded from a part of it."
    return ""


def _visited(where: Path, profile: Profile, target: Target, request: PerfRequest, screen: Screen) -> Record | None:
    """Visit, and once more where a disturbed machine made the visit INVALID."""
    record = None
    for folder in (where, where.with_name(f"{where.name}-again")):
        with contextlib.suppress(InvalidRun):
            record = run_trial(folder, profile, target, request, screen, local_senders(profile.contract))
            if record.verdict != "INVALID":
                return record
        profile = profile.model_copy(update={"seed": profile.seed + 1_000_003})
    return record


def _named(visit: Visit) -> str:
    return f"{visit.target.upper()} against itself" if len(visit.side) > 1 else visit.target.upper()


def _concluded(
    request: TurnsRequest, profile: Profile, seen: Mapping[str, list[Record]], stopped: str, evidence: Evidence
) -> Comparison:
    floor = effects_of(visit_figures(seen["a1"]), visit_figures(seen["a2"]), margin=request.margin, paired=False)
    pairs = min(len(seen["a"]), len(seen["b"]))
    mine, theirs = (visit_figures(seen[side][:pairs]) for side in ("a", "b"))
    invalid = [stopped] if stopped else []
    unsteady = [one.name for one in floor if one.decides and one.outcome in {Change.REGRESSION, Change.IMPROVEMENT}]
    if unsteady:
        invalid.append(f"A differs from itself in {', '.join(unsteady)}: something else changes while we measure.")
    return Comparison(
        schema=1,
        title=profile.title,
        a=str(request.perf.target_url),
        b=request.other_url,
        evidence=evidence,
        margin=request.margin,
        effects=effects_of(mine, theirs, margin=request.margin, paired=True),
        floor=floor,
        invalid=tuple(invalid),
        counters={side: counters_of(seen[side]) for side in ("a", "b")},
    )
