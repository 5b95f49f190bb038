"""Runs as short as may pass, and runs of a quarter of that: what passes, rightly and falsely.

A run of few requests may miss what makes a server slow, and then shows a quick one. So one that is shorter than
`gates.shares.least_values` passes nothing, and the rule that passes a run of that length (`gates.evaluate`) looks how
far the limit is from all that was seen. Rules for short runs err most here.
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
PARTS_OF_LEAST = (1, 4)  # the least length by which of these


def cells_of(server: Server, part: int) -> list[Cell]:
    """Return the cells, with no runs yet, of a server in runs of the least length by `part`."""
    name = f"{server.name}, {REPLICATES} x {requests_of(server, part):,}"
    return [Cell(name, ratio, REPLICATES) for ratio in SHORT_RATIOS]


def try_short(server: Server, true_s: float, runs: int, seed: list[int], part: int = 1) -> list[Cell]:
    """Return the counts over so many runs, a cell for each of SHORT_RATIOS."""
    cells = cells_of(server, part)
    gates = [gate_of(server, true_s / ratio) for ratio in SHORT_RATIOS]
    for latency_s in server.draw(np.random.default_rng(seed), runs, REPLICATES * requests_of(server, part)):
        for cell, ended in zip(cells, Trial(latency_s, REPLICATES, server.in_flight).ours(gates), strict=True):
            cell.add(ended, [])
    return cells


def requests_of(server: Server, part: int = 1) -> int:
    """Return how many requests a replicate has."""
    return -(-least_values(server.quantile, server.in_flight) // (REPLICATES * part))


def short_lines(rows: Iterable[Sequence[Cell]]) -> list[str]:
    """Return the table as Markdown."""
    limits = " | ".join(f"PASS at {1 / ratio:g} times it" for ratio in SHORT_RATIOS[1:])
    head = f"| server, a short run | PASS at the limit, falsely | FAIL there, falsely | {limits} |"
    found = [head, "|---" * (len(SHORT_RATIOS) + 2) + "|"]
    for row in rows:
        at_limit, *others = row
        false = [rate(at_limit.outcomes[outcome], at_limit.runs) for outcome in (Outcome.PASS, Outcome.FAIL)]
        shares = [f"{cell.outcomes[Outcome.PASS] / cell.runs:.0%}" for cell in others]
        found.append(f"| {' | '.join([at_limit.server, *false, *shares])} |")
    return found
