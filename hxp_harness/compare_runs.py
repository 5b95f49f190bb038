"""Two stored runs compared from the command line."""

from __future__ import annotations

from pathlib import Path

from hxp_harness.comparison.record import HEAD, cells, headline, story, write_comparison
from hxp_harness.comparison.stored import compare_stored
from hxp_harness.run import write_views
from hxp_harness.run_folder import make_run_folder


def compare_runs(a: Path, b: Path, *, margin: float, out: Path | None) -> int:
    """Print how B compares with A, keep record and pages in `out` where it is given; return the exit code."""
    found = compare_stored(a, b, margin=margin)
    print(f"{found.word}  {found.title}\n{headline(found)}\n")
    rows = [HEAD, *cells(found.effects)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    print("\n".join(story(found)))
    if out is not None:
        folder = make_run_folder(out, "compare")
        write_comparison(folder, found)
        write_views(folder)
        print(f"\nreport: {folder / 'report.html'}")
    return found.outcome.exit_code
