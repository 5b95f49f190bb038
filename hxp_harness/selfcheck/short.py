"""Runs as short as the rule for limits that are out of reach allows: what it passes, rightly and falsely.

A run of few requests may miss what makes a server slow, and then shows a quick one. The rule that passes it all the
same (`gates.evaluate`) looks how far the limit is from all that was seen. Here runs are as short as that rule lets them
be, for that is where it errs most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hxp_harness.gates.outcome import Outcome
from hxp_harness.gates.shares import least_values
from hxp_harness.selfcheck.planned import gate_of
from hxp_harness.selfcheck.servers import Server
from hxp_harness.selfcheck.table import Cell, rate
from hxp_harness.selfcheck.trial import Trial

SHORT_RATIOS = (1.0, 1 / 1.5, 1 / 2, 1 / 3, 1 / 5)
REPLICATES = 8


def try_short(server: Server, true_s: float, runs: int, seed: list[int]) -> list[Cell]:
    """Return the counts over so many runs, a cell for each of SHORT_RATIOS."""
    cells = [Cell(server.name, ratio, REPLICATES) for ratio in SHORT_RATIOS]
    gates = [gate_of(server, true_s / ratio) for ratio in SHORT_RATIOS]
    for latency_s in server.draw(np.random.default_rng(seed), runs, REPLICATES * requests_of(server)):
        for cell, ended in zip(cells, Trial(latency_s, REPLICATES, server.in_flight).ours(gates), strict=True):
            cell.add(ended, [])
    return cells


def requests_of(server: Server) -> int:
    """Return how many requests a replicate has."""
    return -(-least_values(server.quantile, server.in_flight) // REPLICATES)


def short_lines(rows: Iterable[Sequence[Cell]]) -> list[str]:
    """Return the table as Markdown."""
    limits = " | ".join(f"PASS at {1 / ratio:g} times it" for ratio in SHORT_RATIOS[1:])
    found = [f"| server, a short run | PASS at the limit, falsely | {limits} |", "|---" * (len(SHORT_RATIOS) + 1) + "|"]
    for row in rows:
        false, *others = (cell.outcomes[Outcome.PASS] for cell in row)
        shares = [f"{count / row[0].runs:.0%}" for count in others]
        found.append(f"| {' | '.join([row[0].server, rate(false, row[0].runs), *shares])} |")
    return found
