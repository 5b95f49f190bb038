"""An obvious failure is seen after a few replicates; nothing else is."""

from collections.abc import Callable

import numpy as np
import pytest

from hxp_harness.gates.early import ALPHA_EARLY, STAKE, EarlyJudge, allowed_share
from hxp_harness.gates.gate import parse_gate, parse_gates
from tests.hxp_harness.gates.conftest import Run

MakeRun = Callable[..., Run]


@pytest.mark.parametrize(
    ("gate", "replicates"),
    [("e2e p95 <= 400 ms", 3), ("e2e p99 <= 400 ms", 2), ("ttft p99 <= 50 ms", 2), ("itl p99 <= 50 ms", 2)],
)
def test_an_obvious_failure_is_seen_soon(run: MakeRun, gate: str, replicates: int) -> None:
    """With every answer over the limit, two or three replicates are enough."""
    table = run(*[1.0] * 5).table
    judge = EarlyJudge(parse_gates([gate]))

    failed = [bool(judge.look(table.select(number))) for number in range(5)]

    assert failed.index(True) + 1 == replicates
    assert [str(one) for one in judge.failed] == [gate]
    assert judge.replicates == 5


def test_errors_and_goodput_are_seen(run: MakeRun) -> None:
    """A tenth of errors is obvious after two replicates; goodput counts the same requests."""
    table = run(1.0, 1.0).failing(10).table
    judge = EarlyJudge(parse_gates(["error_rate <= 0.1 %", "e2e p50 <= 2 s", "goodput >= 99.9 %"]))

    judge.look(table.select(0))
    assert {gate.metric for gate in judge.look(table.select(1))} == {"error_rate", "goodput"}


def test_a_good_run_never_fails_early(run: MakeRun) -> None:
    """Looking after every replicate of a good run finds nothing."""
    table = run(*[1.0] * 8).table
    judge = EarlyJudge(parse_gates(["e2e p95 <= 2 s", "throughput >= 40 rps"]))

    assert [judge.look(table.select(number)) for number in range(8)] == [()] * 8


@pytest.mark.parametrize("gate", ["throughput >= 5 rps", "e2e mean <= 1 s", "output_tokens p50 <= 5 tokens"])
def test_what_counts_no_requests_waits_for_the_end(gate: str) -> None:
    """A rate or a mean is judged at the end of the run only; so is goodput without latency limits."""
    assert allowed_share(parse_gate(gate), []) is None
    assert allowed_share(parse_gate("goodput >= 99 %"), []) is None


@pytest.mark.parametrize(("gate", "share"), [("e2e p95 <= 1 s", 0.05), ("error_rate <= 1 %", 0.01)])
def test_the_share_that_is_allowed(gate: str, share: float) -> None:
    """A percentile allows the rest to be over the limit, an error rate so many errors."""
    assert allowed_share(parse_gate(gate), []) == pytest.approx(share)


def test_wealth_follows_the_bet(run: MakeRun) -> None:
    """All bad multiplies wealth by 1 + 0.9 * 19 for a p95, none bad leaves a tenth, and never less than nothing."""
    gates = parse_gates(["e2e p95 <= 500 ms"])
    slow, fast = run(1.0).table, run(0.1).table
    judge = EarlyJudge(gates)

    judge.look(slow)
    assert judge._wealth[gates[0]] == pytest.approx(18.1)
    judge.look(fast)
    assert judge._wealth[gates[0]] == pytest.approx(1.81)


@pytest.mark.parametrize("clusters", [1, 5, 1000])
def test_the_bet_is_fair(clusters: int) -> None:
    """With exactly the allowed share on average, in clusters of any size, fewer than 1 in 1000 runs fail early."""
    random = np.random.default_rng(7)
    allowed = 0.05
    shares = random.binomial(clusters, allowed, size=(4000, 30)) / clusters

    wealth = np.cumprod(1 + STAKE / allowed * (shares - allowed), axis=1)

    assert (wealth.max(axis=1) >= 1 / ALPHA_EARLY).mean() <= ALPHA_EARLY
