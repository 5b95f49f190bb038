"""The rule of decision against virtual servers whose truth is known: a short form of the self-test.

The p95 of each server is known from its distribution, not from the code under test. A batching server is imitated by
latencies that share a slow random level (an autoregressive process), so that requests over the limit come in clusters.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hxp_harness.gates.evaluate import Observed, met, read_gate
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import Gate, parse_gate
from hxp_harness.gates.interval import ALPHA
from hxp_harness.metrics.summary import percentile

RUNS, REPLICATES, REQUESTS = 300, 8, 1000
ASKED = Asked(50.0, 128, 64, REPLICATES, REQUESTS)
SPREAD = 0.3  # of the logarithm of latency
JUMP_AT = 1.5
P95_POINT = 1.6448536269514722  # of the normal distribution
Server = Callable[[np.random.Generator], NDArray[np.float64]]


def independent(random: np.random.Generator) -> NDArray[np.float64]:
    """Standard normal, requests independent of each other."""
    return random.standard_normal((REPLICATES, REQUESTS))


def clustered(random: np.random.Generator) -> NDArray[np.float64]:
    """Standard normal, with half the variance in a level that lasts for some fifty requests."""
    memory = 0.98
    steps = random.standard_normal((REPLICATES, REQUESTS)) * np.sqrt(1 - memory**2)
    level = np.empty_like(steps)
    level[:, 0] = random.standard_normal(REPLICATES)
    for place in range(1, REQUESTS):
        level[:, place] = memory * level[:, place - 1] + steps[:, place]
    return np.asarray((level + random.standard_normal((REPLICATES, REQUESTS))) * np.sqrt(0.5))


def jumping(random: np.random.Generator) -> NDArray[np.float64]:
    """A clustered server with a second mode: the p95 lies just behind a jump in latency, as under preemption."""
    standard = clustered(random)
    return np.where(standard > JUMP_AT, standard, standard - 1.0 / SPREAD)


def observed(latency_s: NDArray[np.float64], limit_s: float) -> Observed:
    point = percentile(latency_s, 0.95)
    return Observed(point, point, REQUESTS, int((latency_s > limit_s).sum()), REQUESTS)


def outcomes(server: Server, gate: Gate, headroom: float) -> tuple[float, float]:
    """Return the shares of runs that pass and that fail, the true p95 lying `headroom` below the gate's limit."""
    random = np.random.default_rng(11)
    median_s = gate.limit * (1 - headroom) / np.exp(SPREAD * P95_POINT)
    passed = failed = 0
    for _ in range(RUNS):
        latency_s = median_s * np.exp(SPREAD * server(random))
        reading = read_gate(gate, [observed(replicate, gate.limit) for replicate in latency_s], ASKED)
        passed += met(reading)
        failed += reading.interval.p_over <= ALPHA
    return passed / RUNS, failed / RUNS


@pytest.mark.parametrize("server", [independent, clustered, jumping])
def test_at_the_limit_neither_passes_nor_fails(server: Server) -> None:
    """With the true p95 exactly at the limit, a false PASS comes in at most 1 % of runs, and so does a false FAIL."""
    passed, failed = outcomes(server, parse_gate("e2e p95 <= 2000 ms"), headroom=0.0)

    # 1 % is the promise; 6 of 300 runs or fewer come of that in 97 of 100 tries
    assert passed <= 0.02
    assert failed <= 0.02


@pytest.mark.parametrize("server", [independent, clustered])
def test_with_headroom_it_passes(server: Server) -> None:
    """With the true p95 a quarter below the limit, at least 8 of 10 runs pass and none fails."""
    passed, failed = outcomes(server, parse_gate("e2e p95 <= 2000 ms"), headroom=0.25)

    assert passed >= 0.8
    assert failed == 0.0


@pytest.mark.parametrize("server", [independent, clustered])
def test_beyond_the_limit_it_fails(server: Server) -> None:
    """With the true p95 a quarter above the limit, at least 8 of 10 runs fail and none passes."""
    passed, failed = outcomes(server, parse_gate("e2e p95 <= 2000 ms"), headroom=-0.25)

    assert passed == 0.0
    assert failed >= 0.8


@pytest.mark.parametrize("cluster", [1, 2, 4, 10])
def test_errors_at_the_limit_do_not_pass(cluster: int) -> None:
    """With the true error rate exactly at the limit false verdicts stay rare, errors alone or ten at a time."""
    random = np.random.default_rng(3)
    gate = parse_gate("error_rate <= 1 %")
    passed = failed = 0
    for _ in range(RUNS):
        counts = cluster * random.poisson(REQUESTS * gate.limit / cluster, REPLICATES)
        reading = read_gate(gate, [Observed(float(count), float(count), REQUESTS) for count in counts], ASKED)
        passed += met(reading)
        failed += reading.interval.p_over <= ALPHA

    assert passed / RUNS <= 0.02
    assert failed / RUNS <= 0.02


def test_few_errors_pass() -> None:
    """With the true error rate at a third of the limit at least 8 of 10 runs pass."""
    random = np.random.default_rng(4)
    gate = parse_gate("error_rate <= 1 %")
    readings = [
        read_gate(gate, [Observed(float(count), float(count), REQUESTS) for count in counts], ASKED)
        for counts in random.binomial(REQUESTS, gate.limit / 3, (RUNS, REPLICATES))
    ]

    assert sum(map(met, readings)) / RUNS >= 0.8
