"""The self-test as a program: virtual runs of every server, the table, and whether the promises hold."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hxp_harness.errors import ExitCode
from hxp_harness.gates.gate import Gate
from hxp_harness.gates.outcome import Outcome
from hxp_harness.selfcheck.servers import SERVERS, Server, truth
from hxp_harness.selfcheck.table import Cell, broken, lines, rate
from hxp_harness.selfcheck.trial import Trial

RATIOS = (0.75, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5)
HEADROOM = 0.9  # where power is asked for
BATCH = 25  # runs drawn together
MOST_WANTED = 200  # replicates of a run whose power is still tried out


@dataclass(frozen=True, slots=True)
class Size:
    """How much is tried: `runs` of `replicates` of `requests` for each server; `truth` requests to know the truth."""

    runs: int
    power_runs: int  # runs as long as the planner asks for; 0: none
    truth: int
    replicates: int = 8
    requests: int = 2000


SHORT = Size(runs=100, power_runs=0, truth=2_000_000)
POWER = Size(runs=50, power_runs=50, truth=2_000_000)
FULL = Size(runs=1000, power_runs=200, truth=10_000_000)


def selfcheck(size: Size, seed: int, say: Callable[[str], None], servers: Sequence[Server] = SERVERS) -> int:
    """Try every server, print the table, and return 0 when no promise on error rates is contradicted."""
    cells: list[Cell] = []
    power = ["", "| server | replicates asked for | decided rightly with them, at 10 % headroom |", "|---|---|---|"]
    for number, server in enumerate(servers):
        say(f"{number + 1} of {len(servers)}: {server.name}")
        true_s = truth(server, seed, size.replicates * size.requests, size.truth)
        found, wanted = _try(server, true_s, size, [seed, 2, number])
        cells += found
        if size.power_runs and server.stationary:
            power.append(_power(server, true_s, size, wanted, [seed, 3, number]))
    print("\n".join([*lines(cells), *(power if size.power_runs else [])]))
    wrong = broken(cells)
    print("\n".join(["", *(wrong or ["No rate of false PASS or false FAIL is significantly over 1 %."])]))
    return ExitCode.FAIL if wrong else ExitCode.PASS


def _gate(server: Server, limit_s: float) -> Gate:
    return Gate("e2e", f"p{server.quantile * 100:g}", "<=", limit_s, f"e2e p{server.quantile * 100:g} <= {limit_s} s")


def _try(server: Server, true_s: float, size: Size, seed: Sequence[int]) -> tuple[list[Cell], int | None]:
    """Return the counts at each ratio, and how many replicates the planner asks for at HEADROOM (the median)."""
    random = np.random.default_rng(seed)
    gates = [_gate(server, true_s / ratio) for ratio in RATIOS]
    cells = [Cell(server.name, ratio, size.replicates) for ratio in RATIOS]
    wanted: list[float] = []
    for _ in range(0, size.runs, BATCH):
        for latency_s in server.draw(random, min(BATCH, size.runs), size.replicates * size.requests):
            trial = Trial(latency_s, size.replicates, server.in_flight)
            for cell, gate, ended in zip(cells, gates, trial.ours(gates), strict=True):
                cell.add(ended, trial.rivals(gate))
            if size.power_runs:
                wanted.append(trial.wanted(gates[RATIOS.index(HEADROOM)]) or np.inf)
    typical = statistics.median(wanted) if wanted else np.inf
    return cells, round(typical) if np.isfinite(typical) else None


def _power(server: Server, true_s: float, size: Size, wanted: int | None, seed: Sequence[int]) -> str:
    if wanted is None or wanted > MOST_WANTED:
        return f"| {server.name} | {wanted or 'over 1000'} | not tried: too long |"
    random, gate = np.random.default_rng(seed), _gate(server, true_s / HEADROOM)
    passed = 0
    for _ in range(0, size.power_runs, BATCH):
        for latency_s in server.draw(random, BATCH, wanted * size.requests):
            passed += Trial(latency_s, wanted, server.in_flight).ours([gate])[0].outcome is Outcome.PASS
    return f"| {server.name} | {wanted} | {rate(passed, size.power_runs)} |"
