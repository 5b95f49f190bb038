"""What a folder holds, a run, a search or a comparison, told in words and written as pages again: no traffic."""

from __future__ import annotations

from pathlib import Path


def tell(folder: Path) -> str:
    """Return the story of what is in `folder`; raise UsageError when that is nothing of ours."""
    if (folder / "capacity.json").exists():
        from hxp_harness.capacity.views import tell_capacity

        return tell_capacity(folder)
    if (folder / "comparison.json").exists():
        from hxp_harness.comparison.views import tell_comparison

        return tell_comparison(folder)
    from hxp_harness.rejudge import tell as tell_run

    return tell_run(folder)


def write_views(folder: Path) -> list[Path]:
    """Write the views of what is in `folder` and return them; raise UsageError when that is nothing of ours."""
    if (folder / "capacity.json").exists():
        from hxp_harness.capacity.views import write_capacity_views

        return write_capacity_views(folder)
    if (folder / "comparison.json").exists():
        from hxp_harness.comparison.views import write_comparison_views

        return write_comparison_views(folder)
    from hxp_harness.report.views import write_views as write_run_views

    return write_run_views(folder)
