"""The whole story of a search: a profile in, the rate that can be trusted out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hxp_harness import interrupt
from hxp_harness.capacity.point import Point, point_of
from hxp_harness.capacity.record import CapacityRecord, headline, rps, write_capacity
from hxp_harness.capacity.search import Search, Trial, next_trial, out_of_reach
from hxp_harness.errors import ExitCode, InvalidRun, Uncertified, UsageError
from hxp_harness.gates.evaluate import NEAR
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.outcome import Outcome
from hxp_harness.gates.shares import least_values
from hxp_harness.instrument import screen_of, supported_gates
from hxp_harness.load.preflight import preflight
from hxp_harness.metrics.definitions import Kind
from hxp_harness.metrics.summary import needed_samples
from hxp_harness.opened_target import as_it_says, opened_target
from hxp_harness.profile import Profile, Replicates
from hxp_harness.report.terminal import Screen
from hxp_harness.request import PerfRequest, refuse_evidence, refuse_without_hardware, resolve_profile
from hxp_harness.run import write_views
from hxp_harness.run_folder import make_run_folder
from hxp_harness.senders import SendersFor, recruited, refuse_senders
from hxp_harness.target import Target
from hxp_harness.trial import run_trial
from hxp_harness.units import parse_quantity

SHORT_COUNT = 4
SHORT_REQUESTS = 100
SHORT_WINDOW_S = 2.0
_SEED_STEP = 100_003  # no run sends a prompt that another has sent: a cache would answer it


@dataclass(frozen=True, slots=True)
class CapacityRequest:
    """The options of `hxp capacity`; `perf` has those that it shares with `hxp perf`."""

    perf: PerfRequest
    expected: str | None = None
    start: str | None = None
    resolution: str = "5 %"
    most_minutes: float | None = None


def capacity(request: CapacityRequest) -> int:
    """Search, write the record after every run, and return the exit code of the answer.

    A search that is stopped keeps what it has found. Raises as `hxp perf` does.
    """
    profile = resolve_profile(request.perf)
    search = _search(request, profile)
    long = at_rate(profile, search.start_rps, 0, certifying=True)
    gates = supported_gates(long)
    refuse_without_hardware(request.perf)
    refuse_senders(request.perf)
    label = "target" if request.perf.target_url else request.perf.engine
    folder = make_run_folder(request.perf.out, f"capacity-{profile.name}-{label}")
    record: CapacityRecord | None = None
    try:
        with screen_of(long, gates) as screen:
            opened = opened_target(request.perf, long, gates, folder, screen)
            with opened as offered:
                record = _begin(folder, profile, search, as_it_says(offered, preflight(offered, profile.contract)))
                refuse_evidence(request.perf, offered)
                with recruited(request.perf, folder, screen.say) as senders_for:
                    record = _run(folder, record, _Runner(request, profile, offered, screen, senders_for))
    except KeyboardInterrupt:
        interrupt.settle()
        if not (folder / "capacity.json").exists():
            raise
        from hxp_harness.capacity.record import read_capacity

        kept = read_capacity(folder)
        record = kept.with_points(kept.points, "stopped by hand")
        write_capacity(folder, record)
    write_views(folder)
    print(f"{record.verdict}  {record.title}\n{headline(record)}\n\nreport: {folder / 'report.html'}")
    print(f"why:    hxp explain {folder}")
    return ExitCode[record.verdict]


@dataclass(frozen=True, slots=True)
class _Runner:
    request: CapacityRequest
    profile: Profile
    offered: Target
    screen: Screen
    senders_for: SendersFor

    @property
    def own_length(self) -> bool:
        """Whether the search decides how long its runs are."""
        asked = self.request.perf
        return asked.quick and asked.replicates is None and asked.requests is None

    def run(self, folder: Path, trial: Trial, number: int) -> Point:
        """Make one run; what could not be measured at all is an INVALID point."""
        profile = at_rate(self.profile, trial.rate_rps, number, certifying=trial.certifying)
        if trial.to_pass and self.own_length:
            profile = long_enough(profile)
        name = f"run-{number:02}"
        tokens = profile.contract.output_tokens
        try:
            who = self.senders_for(profile.contract)
            request = self.request.perf
            record = run_trial(folder / name, profile, self.offered, request, self.screen, who, certified_only=True)
        except InvalidRun as error:
            unable, nothing = isinstance(error, Uncertified), (None, None, None, None, None)
            found = (trial.rate_rps, name, trial.certifying, Outcome.INVALID, False, error.message)
            return Point(*found, *nothing, uncertified=unable)
        return point_of(record, trial.rate_rps, name, certifying=trial.certifying, output_tokens=tokens)


def _run(folder: Path, record: CapacityRecord, runner: _Runner) -> CapacityRecord:
    predicted = record.predicted_rps is not None and record.predicted_rps == record.start_rps
    search = Search(record.start_rps, record.resolution, record.expected_rps, predicted=predicted)
    most_s = math.inf if runner.request.most_minutes is None else runner.request.most_minutes * 60
    until_s = time.monotonic() + most_s
    points: list[Point] = []
    while trial := next_trial([one.tried for one in points], search):
        interrupt.check()
        if time.monotonic() > until_s:
            return _kept(folder, record.with_points(tuple(points), f"{runner.request.most_minutes:g} minutes are over"))
        purpose = "long enough for a verdict" if trial.certifying else "short, to find the way"
        runner.screen.say(f"run {len(points) + 1}: {rps(trial.rate_rps)}, {purpose}; {headline(record)}")
        points.append(runner.run(folder, trial, len(points) + 1))
        record = _kept(folder, record.with_points(tuple(points)))
        runner.screen.say(f"{rps(trial.rate_rps)}: {points[-1].outcome}. {points[-1].headline}")
    if out_of_reach([one.tried for one in points]):
        return _kept(folder, record.with_points(tuple(points), f"this machine cannot measure {_advised(points[-1])}"))
    return record


def _advised(point: Point) -> str:
    return f"{rps(point.rate_rps)}; try --start with a lower rate, more --clients, or see what `hxp certify` finds"


def _kept(folder: Path, record: CapacityRecord) -> CapacityRecord:
    write_capacity(folder, record)
    return record


def _begin(folder: Path, profile: Profile, search: Search, target: Target) -> CapacityRecord:
    predicted = float(target.facts["feasible_rps"]) if "feasible_rps" in target.facts else None
    if predicted and search.start_rps == profile.contract.rate_rps and search.expected_rps is None:
        search = Search(predicted, search.resolution)
    record = CapacityRecord(
        schema=1,
        id=folder.name,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        title=profile.title,
        profile=profile.name,
        evidence=target.evidence,
        target={"base_url": target.base_url, "model": target.api_model, "engine": target.engine} | target.facts,
        gates=tuple(str(gate) for gate in parse_gates(profile.gates)),
        start_rps=search.start_rps,
        resolution=search.resolution,
        expected_rps=search.expected_rps,
        predicted_rps=predicted,
    )
    return _kept(folder, record)


def _search(request: CapacityRequest, profile: Profile) -> Search:
    """Return where to search; raise UsageError for a profile whose rate is no free choice."""
    if not profile.contract.open_loop:
        raise UsageError("a closed loop has no rate of its own, so no capacity in requests a second")
    for gate in parse_gates(profile.gates):
        if gate.row.kind is Kind.RATE:
            raise UsageError(f"{gate}: this gate fixes the rate that is looked for", hint="take it out of the profile")
    expected = None if request.expected is None else _rate(request.expected, "--expect")
    start = None if request.start is None else _rate(request.start, "--start")
    resolution = parse_quantity(request.resolution, "ratio").value
    if not 0.005 <= resolution <= 1:
        raise UsageError(f"--resolution: {request.resolution!r} is not within 0.5 % and 100 %")
    return Search(start or expected or profile.contract.rate_rps, resolution, expected)


def _rate(text: str, option: str) -> float:
    rate_rps = parse_quantity(text, "rate").value
    if rate_rps <= 0:
        raise UsageError(f"{option}: {text!r} is not above zero", hint=f"for example {option} 50rps")
    return rate_rps


def long_enough(profile: Profile) -> Profile:
    """Return the profile with windows long enough that a service far within its limit can pass.

    How many requests that takes grows with those in flight (gates/shares.py, least_values). Where end-to-end latency
    has a limit, a service whose largest value is NEAR times below it has at most rate * limit / NEAR of them.
    """
    gates = [gate for gate in parse_gates(profile.gates) if gate.row.dimension == "time" and gate.decides]
    limit_s = min((gate.limit for gate in gates if gate.metric == "e2e"), default=0.0)
    together = profile.contract.rate_rps * limit_s / NEAR
    replicates, turns = profile.replicates, profile.contract.turns
    least = [least_values(gate.quantile, together) / replicates.count for gate in gates if gate.quantile]
    requests = max([replicates.requests, *(math.ceil(each / turns) * turns for each in least)])
    return profile.model_copy(update={"replicates": replicates.model_copy(update={"requests": requests})})


def at_rate(profile: Profile, rate_rps: float, number: int, *, certifying: bool) -> Profile:
    """Return the profile of run `number` at this rate: short, or as long as the profile has it."""
    contract = profile.contract.at_rate(rate_rps)
    replicates = profile.replicates
    if not certifying:
        samples = [needed_samples(gate.quantile) for gate in parse_gates(profile.gates) if gate.quantile]
        least = max([SHORT_REQUESTS, math.ceil(rate_rps * SHORT_WINDOW_S), *samples])
        requests = math.ceil(least / contract.turns) * contract.turns
        replicates = Replicates(count=SHORT_COUNT, requests=requests, warm_up_s=replicates.warm_up_s)
    title = f"{profile.title} [at {rps(rate_rps)} instead]"
    seed = profile.seed + _SEED_STEP * number
    return profile.model_copy(update={"contract": contract, "replicates": replicates, "title": title, "seed": seed})
