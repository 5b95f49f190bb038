"""What the tables of the self-test show, in sentences: worked out from the runs, so that they never say more."""

from __future__ import annotations

from collections.abc import Sequence

from hxp_harness.gates.outcome import Outcome
from hxp_harness.selfcheck.servers import Server
from hxp_harness.selfcheck.table import PROMISED, Cell, rate

CLEAR_PASS, CLEAR_FAIL = 0.75, 1.5  # of the limit
MOSTLY = 0.5  # of the runs: a verdict that fewer come to has no length worth telling


def server_lines(servers: Sequence[Server]) -> list[str]:
    """Return the table of the servers as Markdown."""
    return ["| server | what it is |", "|---|---|", *(f"| {one.name} | {one.says} |" for one in servers)]


def what_holds(cells: Sequence[Cell]) -> list[str]:
    """Return the sentences as a Markdown list."""
    found = [_worst(cells, outcome) for outcome in (Outcome.PASS, Outcome.FAIL)]
    runs = max(cell.runs for cell in cells)
    found.append(f"- A cell of {runs:,} runs with none false shows a rate of {rate(0, runs)}, so much and no less.")
    for ratio, outcome in ((CLEAR_FAIL, Outcome.FAIL), (CLEAR_PASS, Outcome.PASS)):
        found += _lengths([cell for cell in cells if cell.ratio == ratio and cell.level], ratio, outcome)
    return found


def _worst(cells: Sequence[Cell], outcome: Outcome) -> str:
    judged = [(count, cell) for cell in cells if (count := cell.false(outcome)) is not None]
    count, cell = max(judged, key=lambda pair: pair[0] / max(pair[1].runs, 1))
    if not count:
        return f"- No run ended as false {outcome}."
    seen, promised = rate(count, cell.runs), f"{PROMISED:.0%} are allowed"
    return f"- False {outcome}: most of {cell.server} at {cell.ratio:g}, {seen}, where {promised}."


def _lengths(cells: Sequence[Cell], ratio: float, outcome: Outcome) -> list[str]:
    """Say which part of the run the verdict takes where it is clear, server by server, and where it does not come."""
    decided = [cell for cell in cells if cell.outcomes[outcome] > MOSTLY * cell.runs]
    if not decided:
        return []
    by_length = sorted(decided, key=lambda cell: cell.mean_used_by(outcome))
    told = ", ".join(f"{cell.server} {cell.mean_used_by(outcome):.0%}" for cell in by_length)
    open_ones = ", ".join(cell.server for cell in cells if cell not in decided)
    rest = f" In half of the runs or more it does not come: {open_ones}." if open_ones else ""
    return [f"- A clear {outcome} (at {ratio:g}) takes so much of the planned run: {told}.{rest}"]
