"""A stored run as the judge needs it: its profile, facts and traces from the folder, and the verdict on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hxp_harness import evidence
from hxp_harness.errors import UsageError
from hxp_harness.gates.canary import CanaryAnswers
from hxp_harness.gates.facts import Asked, Certified, RunFacts, whole_prompt
from hxp_harness.gates.gate import Gate, check_supported, needs_gaps
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.scope import refuse_nobody
from hxp_harness.gates.verdict import Verdict, judge
from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.plan import LoadSummary
from hxp_harness.load.trace_file import by_end, read_traces
from hxp_harness.metrics.scrape import Scrape
from hxp_harness.metrics.table import TraceTable, write_traces
from hxp_harness.telemetry.series import ServerSeries, read_series
from hxp_harness.telemetry.watching import keep
from hxp_harness.units import parse_quantity

MERGE_S = 5.0  # clients and hosts bring their traces this far out of order, at most


def stored_profile(folder: Path) -> dict[str, Any]:
    """Return the resolved profile of a run in base units; raise UsageError when `folder` is no run."""
    profile = evidence.read_yaml(folder, evidence.PROFILE)
    if profile is None:
        raise UsageError(f"{folder} holds no run", hint="hxp perf --model NAME makes one below reports/")
    return profile


def stored_table(folder: Path, *, stream: bool, gaps: bool = True) -> TraceTable:
    """Return the traces of a run, turning what an interrupted run left into traces.parquet first.

    Only a gate on single gaps, and a page that shows them, need `gaps`: most of the file is about them.
    """
    part = LoadFolder(folder).traces
    if not (folder / evidence.TRACES).exists():
        traces = by_end(read_traces(part), MERGE_S) if part.exists() else []
        write_traces(folder / evidence.TRACES, traces, stream=stream)
        part.unlink(missing_ok=True)
    return TraceTable.read(folder / evidence.TRACES, gaps=gaps)


def stored_series(folder: Path) -> ServerSeries | None:
    """Return what the server said every second, turning the sampler's lines into server.parquet first.

    None where it was not asked, or the load did not come to its end, so that nobody knows the time that it began.
    """
    series, load = read_series(folder), stored_summary(folder)
    return keep(folder, load.t0_monotonic_s) if series is None and load is not None else series


def stored_facts(folder: Path, profile: dict[str, Any]) -> RunFacts:
    """Return what the stages before wrote beside the traces."""
    contract, replicates = profile["contract"], profile["replicates"]
    server = evidence.read_json(folder, evidence.SERVER) or {}
    end = evidence.read_json(folder, evidence.END)
    turns = (contract.get("sessions") or {}).get("turns", 1)
    arrival = contract["arrival"]
    closed = isinstance(arrival, dict) and arrival["kind"] == "closed"
    return RunFacts(
        asked=Asked(
            rate_rps=parse_quantity(contract["rate"], "rate").value,
            prompt_tokens=whole_prompt(contract["prompt_tokens"], contract["output_tokens"], turns),
            output_tokens=contract["output_tokens"],
            replicates=replicates["count"],
            requests=replicates["requests"],
            stream=contract["stream"],
            cache=contract["cache"],
            shared=(contract.get("prefix") or {}).get("tokens", 0) / contract["prompt_tokens"],
            open_loop=turns == 1 and not closed,
        ),
        certified=_certified(folder),
        load=stored_summary(folder),
        before=_scrape(server.get("before")),
        after=_scrape(server.get("after")),
        interrupted=end is None or bool(end["interrupted"]),
        canary=_canary(folder),
        budget_minutes=None if end is None else end.get("budget_minutes"),
    )


def verdict_of(
    folder: Path, gates: Sequence[str] | None = None, *, gaps: bool = False
) -> tuple[Verdict, TraceTable, tuple[Gate, ...]]:
    """Judge the run in `folder` under its own gates, or under `gates`; sends nothing. `gaps`: the table has them.

    Raises UsageError for a gate that a run of this size cannot decide.
    """
    profile = stored_profile(folder)
    parsed = parse_gates(profile["gates"] if gates is None else gates)
    facts = stored_facts(folder, profile)
    for gate in parsed:
        check_supported(gate, facts.asked)
    table = stored_table(folder, stream=profile["contract"]["stream"], gaps=gaps or needs_gaps(parsed))
    for gate in parsed:
        refuse_nobody(table, gate.scope, str(gate))
    return judge(table, parsed, facts), table, parsed


def _canary(folder: Path) -> CanaryAnswers | None:
    found = evidence.read_json(folder, evidence.CANARY)
    return None if found is None else CanaryAnswers(found["idle"], found["loaded"], found["after"])


def _certified(folder: Path) -> Certified | None:
    found = [
        (when, evidence.read_json(folder, name))
        for when, name in (("before", evidence.CERTIFICATE_BEFORE), ("after", evidence.CERTIFICATE_AFTER))
    ]
    made = [(when, certificate) for when, certificate in found if certificate is not None]
    if not made:
        return None
    reasons = [f"{when} the run: {reason}" for when, certificate in made for reason in certificate["reasons"]]
    missing = [f"the certificate {when} the run was not made" for when, certificate in found if certificate is None]
    return Certified(ok=not missing and all(certificate["ok"] for _, certificate in made), reasons=(*reasons, *missing))


def stored_summary(folder: Path) -> LoadSummary | None:
    """Return what the load generator said of itself; None when it did not come to its end."""
    try:
        return LoadFolder(folder).read_summary()
    except (OSError, msgspec.DecodeError):
        return None


def _scrape(values: dict[str, float] | None) -> Scrape | None:
    return None if values is None else Scrape(**values)
