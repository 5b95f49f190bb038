"""The last stage of a run, on what the others wrote: verdict to record."""

from __future__ import annotations

from pathlib import Path

from hxp_harness import evidence
from hxp_harness.errors import UsageError
from hxp_harness.gates.gate import demands
from hxp_harness.metrics.summary import summarise
from hxp_harness.report.parts import from_parts, replicates_of
from hxp_harness.report.record import Record, write_record
from hxp_harness.report.telemetry import joined
from hxp_harness.seal import digests
from hxp_harness.stored import stored_profile, stored_series, stored_summary, verdict_of


def conclude(folder: Path) -> Record:
    """Judge the run in `folder` under its own gates, write run.json and return it."""
    verdict, table, gates = verdict_of(folder, gaps=True)
    manifest = evidence.read_json(folder, evidence.MANIFEST)
    if manifest is None:
        raise UsageError(f"{folder} holds no run that began", hint="hxp perf --model NAME makes one below reports/")
    wanted = demands(gates)
    replicates, told, during = joined(replicates_of(table, wanted), stored_series(folder))
    record = from_parts(
        manifest,
        verdict,
        summarise(table, wanted, complete=verdict.replicates),
        replicates=replicates,
        certificates=(
            evidence.read_json(folder, evidence.CERTIFICATE_BEFORE),
            evidence.read_json(folder, evidence.CERTIFICATE_AFTER),
        ),
        profile=stored_profile(folder),
        load=stored_summary(folder),
        server={**(evidence.read_json(folder, evidence.SERVER) or {}), **during},
    ).model_copy(update={"files": digests(folder), "telemetry": told})
    write_record(folder, record)
    return record
