"""Virtual servers: latencies of requests in order of arrival, many runs at once. Pure and seeded.

Units are the server's own; the self-test puts the limit at a multiple of the true statistic, so only shapes count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from hxp_harness.errors import UsageError
from hxp_harness.metrics.table import TraceTable
from hxp_harness.selfcheck import batching

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]  # (random, runs, requests of a run) -> one row a run

SPREAD = 0.3  # of the logarithm of latency
MEMORY = 0.98  # of the slow level from one request to the next: it lasts for some fifty
UTILISATION = 0.9
SERVICE_SPREAD = 0.5
QUEUE_WARM_UP = 5000
SLOW_SHARE, SLOW_FACTOR = 0.08, 2.5
TAIL = 2.5  # of a Pareto distribution
STALL = 30  # requests that one stall makes slow
DRIFT = 0.3  # rise of latency from the first request to the last
COLD_FACTOR, COLD_REQUESTS = 4.0, 400.0
BATCHED = 105.0  # in flight at the batching server: 50 requests a second, each for 2.1 s
FEW, MANY, LONG = 0.015, 0.06, 6.0  # shares of requests in stalls, and how much slower they are where that is much
TRUTH_RUNS = 50  # drawn together
LEAST_WINDOWS = 4  # independent windows that a recording must hold


@dataclass(frozen=True, slots=True)
class Server:
    """One row of the table. `stationary` says that its statistic is the same at any time of a run."""

    name: str
    says: str
    draw: Draw
    quantile: float = 0.95
    stationary: bool = True
    in_flight: float = 30.0  # requests at once
    truth_of: Draw | None = None  # where what is judged is only the later part, that alone
    truth_times: int = 1  # so many times as many requests tell its truth: slow ones come in long stretches


def independent(random: np.random.Generator, runs: int, count: int) -> Floats:
    return np.exp(SPREAD * random.standard_normal((runs, count)))


def autoregressive(random: np.random.Generator, runs: int, count: int) -> Floats:
    """Half the variance is a level that wanders as an AR(1) process."""
    both = _level(random, runs, count) + random.standard_normal((runs, count))
    return np.asarray(np.exp(SPREAD * np.sqrt(0.5) * both))


def queue(random: np.random.Generator, runs: int, count: int) -> Floats:
    """M/G/1: Poisson arrivals, lognormal service, one at a time (Lindley's recursion, solved by a running minimum)."""
    total = count + QUEUE_WARM_UP
    service = np.exp(SERVICE_SPREAD * random.standard_normal((runs, total)) - SERVICE_SPREAD**2 / 2)
    gaps = random.exponential(1 / UTILISATION, (runs, total))
    drift = np.zeros((runs, total))
    np.cumsum(service[:, :-1] - gaps[:, 1:], axis=1, out=drift[:, 1:])
    waiting = drift - np.minimum.accumulate(drift, axis=1)
    return np.asarray((waiting + service)[:, QUEUE_WARM_UP:])


def bimodal(random: np.random.Generator, runs: int, count: int) -> Floats:
    """Every twelfth request is slow, as under preemption: the p95 lies in the slow mode, not far above the gap."""
    slow = random.random((runs, count)) < SLOW_SHARE
    return np.where(slow, SLOW_FACTOR, 1.0) * np.exp(0.15 * random.standard_normal((runs, count)))


def heavy_tail(random: np.random.Generator, runs: int, count: int) -> Floats:
    return np.asarray(1.0 + random.pareto(TAIL, (runs, count)))


def stalls(random: np.random.Generator, runs: int, count: int, share: float = FEW, factor: float = 3.0) -> Floats:
    """Now and then STALL requests in a row are slow together, `share` of all."""
    begins = random.random((runs, count)) < share / STALL
    order = np.cumsum(begins, axis=1)
    last = np.maximum.accumulate(np.where(begins, np.arange(count), -STALL), axis=1)
    stalled = (np.arange(count) - last < STALL) & (order > 0)
    return np.where(stalled, factor, 1.0) * np.exp(0.2 * random.standard_normal((runs, count)))


def long_stalls(random: np.random.Generator, runs: int, count: int) -> Floats:
    """Without its stalls, which a short run may miss, this server is far quicker than its p95."""
    return stalls(random, runs, count, MANY, LONG)


def drifting(random: np.random.Generator, runs: int, count: int) -> Floats:
    """Latency rises by DRIFT in a straight line; on average over the run it has the statistic of the truth."""
    return independent(random, runs, count) * (1.0 + DRIFT * np.linspace(0.0, 1.0, count))


def cold_start(random: np.random.Generator, runs: int, count: int) -> Floats:
    """The first requests are slow; the truth is what follows."""
    return independent(random, runs, count) * (1.0 + (COLD_FACTOR - 1.0) * np.exp(-np.arange(count) / COLD_REQUESTS))


def _level(random: np.random.Generator, runs: int, count: int) -> Floats:
    steps = random.standard_normal((runs, count)) * np.sqrt(1 - MEMORY**2)
    steps[:, 0] = random.standard_normal(runs)
    return np.asarray(signal.lfilter([1.0], [1.0, -MEMORY], steps, axis=1))


LONG_STALLS = Server(
    "long stalls",
    "30 requests in a row are six times slower, 6 % of all: else it is far quicker than its p95",
    long_stalls,
)
SERVERS = (
    Server("independent", "lognormal, independent", independent),
    Server(
        "autoregressive",
        "half the variance is a level that wanders (AR(1)), with a memory of 50 requests",
        autoregressive,
    ),
    Server("autoregressive p99", "the same server, at its p99", autoregressive, 0.99),
    Server("queue", "M/G/1 at 90 % utilisation", queue, truth_times=10),
    Server(
        "batching, fixed",
        "continuous batching near its limit: 112 slots, answers of 64 tokens",
        batching.fixed_lengths,
        in_flight=BATCHED,
        truth_times=4,
    ),
    Server(
        "batching, fixed p99",
        "the same server, at its p99",
        batching.fixed_lengths,
        0.99,
        in_flight=BATCHED,
        truth_times=4,
    ),
    Server(
        "batching, variable",
        "the same, with answers of geometric lengths",
        batching.variable_lengths,
        in_flight=BATCHED,
    ),
    Server("bimodal", "8 % of requests 2.5 times slower", bimodal),
    Server("heavy tail p99", "Pareto, index 2.5", heavy_tail, 0.99),
    Server("stalls p99", "30 requests in a row are three times slower, 1.5 % of all", stalls, 0.99),
    Server("drift", "30 % slower at the end than at the start", drifting, stationary=False),
    Server("cold start", "4 times slower at first, gone after 2,000 requests", cold_start, truth_of=independent),
    LONG_STALLS,
)


def truth(server: Server, seed: int, requests: int, total: int) -> float:
    """Return the true quantile, from `total` requests in runs of `requests` that no verdict sees."""
    (found,) = truths(server.truth_of or server.draw, [server.quantile], seed, requests, total * server.truth_times)
    return found


def truths(draw: Draw, quantiles: Sequence[float], seed: int, requests: int, total: int) -> list[float]:
    """Return several true quantiles of one server; only the values about them and beyond are held."""
    random = np.random.default_rng([seed, 1])
    kept: list[Floats] = []
    count, floor = 0, -np.inf
    for _ in range(max(total // (TRUTH_RUNS * requests), 1)):
        values = draw(random, TRUTH_RUNS, requests).ravel()
        if not kept:
            floor = float(np.quantile(values, max(1 - 4 * (1 - min(quantiles)), 0.0)))
        kept.append(values[values >= floor])
        count += len(values)
    top = np.sort(np.concatenate(kept))
    return [float(top[len(top) - 1 - int((1 - q) * count)]) for q in quantiles]


def replayed(file: Path) -> Server:
    """Return a server that gives windows of recorded traces, as `hxp-stack simulate` writes them."""
    table = TraceTable.read(file, gaps=False)
    order = np.argsort(table.index[table.ok])
    recorded_s = (table.last_hi_s - table.intended_s)[table.ok][order]

    def draw(random: np.random.Generator, runs: int, count: int) -> Floats:
        if len(recorded_s) < LEAST_WINDOWS * count:
            raise UsageError(
                f"{file}: {len(recorded_s)} requests are too few to draw runs of {count} from",
                hint=f"record {LEAST_WINDOWS * count} or more, for instance with hxp-stack simulate --replicates",
            )
        starts = random.integers(len(recorded_s) - count, size=runs)
        return np.stack([recorded_s[start : start + count] for start in starts])

    return Server(f"traces {file.parent.name}", f"windows of {len(recorded_s)} recorded requests", draw)
