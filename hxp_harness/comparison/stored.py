"""Two stored runs compared: no traffic."""

from __future__ import annotations

from pathlib import Path

from hxp_harness.comparison.attribution import counters_of
from hxp_harness.comparison.figures import differing, figures_of, machines, same_numbers
from hxp_harness.comparison.record import Comparison, effects_of
from hxp_harness.errors import UsageError
from hxp_harness.report.record import Record, read_record
from hxp_harness.report.words import headline, title

ONE_AFTER_THE_OTHER = (
    "A and B were two runs, one after the other: what changed on the machine between them counts as a difference too. "
    "hxp compare with two --target takes turns, and cannot be misled so."
)


def compare_stored(a: Path, b: Path, *, margin: float) -> Comparison:
    """Compare the runs in two folders; raise UsageError when their workloads differ."""
    return compare_records(read_record(a), read_record(b), names=(str(a), str(b)), margin=margin)


def compare_records(a: Record, b: Record, *, names: tuple[str, str], margin: float) -> Comparison:
    """Compare two records; raise UsageError when their workloads differ: the figures would say nothing."""
    differences = differing(a, b)
    if differences:
        raise UsageError(
            f"{names[0]} and {names[1]} did not have the same workload: {'; '.join(differences)}",
            hint="compare runs of one profile",
        )
    invalid = [
        f"{name} is INVALID, so there is nothing to compare: {headline(record)}"
        for name, record in zip(names, (a, b), strict=True)
        if record.verdict == "INVALID"
    ]
    paired = same_numbers(a, b)
    notes = [ONE_AFTER_THE_OTHER]
    if others := machines(a, b):
        notes.insert(0, f"They were not made on the same machine ({'; '.join(others)}).")
    return Comparison(
        schema=1,
        title=title(b),
        a=names[0],
        b=names[1],
        evidence=b.evidence,
        margin=margin,
        effects=effects_of(figures_of([a]), figures_of([b]), margin=margin, paired=paired),
        invalid=tuple(invalid),
        notes=tuple(notes),
        counters={"a": counters_of([a]), "b": counters_of([b])},
    )
