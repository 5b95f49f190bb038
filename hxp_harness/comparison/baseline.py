"""A run beside an older one: refused before it starts where they could not be compared, compared when it has ended."""

from __future__ import annotations

from pathlib import Path

from hxp_harness.comparison.record import BASELINE_FILE, headline, write_comparison
from hxp_harness.comparison.stored import compare_stored
from hxp_harness.errors import ExitCode, UsageError
from hxp_harness.profile import Profile
from hxp_harness.report.record import read_record

MARGIN = 0.05


def refuse_unlike(baseline: Path, profile: Profile) -> None:
    """Raise UsageError when the run in `baseline` had another workload than `profile`, or is no run."""
    theirs = read_record(baseline).profile.get("contract")
    mine = profile.model_dump(mode="json", by_alias=True)["contract"]
    if not isinstance(theirs, dict) or any(theirs.get(key) != mine[key] for key in mine if key != "timeout"):
        raise UsageError(
            f"--baseline {baseline} had another workload than {profile.name} has now",
            hint="name a run of the same profile, or make one: hxp perf --profile FILE",
        )


def against(baseline: Path, folder: Path, margin: float = MARGIN) -> ExitCode:
    """Compare the run in `folder` with the older one, print the answer, keep it in `folder`; return its exit code."""
    found = compare_stored(baseline, folder, margin=margin)
    write_comparison(folder, found, BASELINE_FILE)
    print(f"against {baseline}: {found.word}  {headline(found)}")
    return found.outcome.exit_code
