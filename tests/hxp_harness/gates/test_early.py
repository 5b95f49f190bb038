"""An obvious failure is seen after a part of the run; nothing else is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hxp_harness.gates.early import (
    ALPHA_EARLY,
    MOST_GROWTH,
    STAKE,
    Bet,
    EarlyJudge,
    allowed_share,
    complete_parts,
    growth,
    parts_of,
)
from hxp_harness.gates.grammar import parse_gate, parse_gates
from hxp_harness.trace import ErrorKind
from tests.hxp_harness.gates.conftest import Run

MakeRun = Callable[..., Run]


@pytest.mark.parametrize("gate", ["e2e p95 <= 400 ms", "e2e p99 <= 400 ms", "ttft p99 <= 50 ms", "itl p99 <= 50 ms"])
def test_an_obvious_failure_is_seen_soon(run: MakeRun, gate: str) -> None:
    """With every answer over the limit, a fifth of the run is enough: 13 parts of 64."""
    part = run(1.0).table
    judge = EarlyJudge(parse_gates([gate]), parts=64)

    failed = [bool(judge.look(part)) for _ in range(64)]

    assert failed.index(True) + 1 == 13
    assert [str(one) for one in judge.failed] == [gate]
    assert judge.parts == 64


def test_errors_and_goodput_are_seen(run: MakeRun) -> None:
    """A tenth of errors is obvious after a fifth of the run; goodput counts the same requests."""
    part = run(1.0).failing(10).table
    judge = EarlyJudge(parse_gates(["error_rate <= 0.1 %", "e2e p50 <= 2 s", "goodput >= 99.9 %"]), parts=64)

    failed = [judge.look(part) for _ in range(14)]
    assert {gate.metric for gate in failed[-1]} == {"error_rate", "goodput"}


def test_a_good_run_never_fails_early(run: MakeRun) -> None:
    """Looking after every part of a good run finds nothing."""
    table = run(*[1.0] * 8).table
    judge = EarlyJudge(parse_gates(["e2e p95 <= 2 s", "throughput >= 40 rps"]), parts=8)

    assert [judge.look(table.select(number)) for number in range(8)] == [()] * 8


@pytest.mark.parametrize(("replicates", "requests", "parts"), [(8, 2000, 8), (8, 500, 2), (100, 2000, 1), (2, 100, 1)])
def test_a_run_is_cut_into_some_sixty_parts(replicates: int, requests: int, parts: int) -> None:
    """Parts have 200 requests or more, and there are 64 of them or one a replicate."""
    assert parts_of(replicates, requests) == parts


def test_parts_end_at_the_first_that_is_cut(run: MakeRun) -> None:
    """A request that the end of the run left open ends what can be looked at."""
    cut = run(1.0).changed(lambda trace: replace(trace, error=ErrorKind.UNFINISHED) if trace.index == 450 else trace)

    assert [part.index.tolist() for part in complete_parts(cut.table, 0, 600, 6)] == [
        list(range(start, start + 100)) for start in (0, 100, 200, 300)
    ]


@pytest.mark.parametrize("gate", ["throughput >= 5 rps", "e2e mean <= 1 s", "output_tokens p50 <= 5 tokens"])
def test_what_counts_no_requests_waits_for_the_end(gate: str) -> None:
    """A rate or a mean is judged at the end of the run only; so is goodput without latency limits."""
    assert allowed_share(parse_gate(gate), []) is None
    assert allowed_share(parse_gate("goodput >= 99 %"), []) is None


@pytest.mark.parametrize(("gate", "share"), [("e2e p95 <= 1 s", 0.05), ("error_rate <= 1 %", 0.01)])
def test_the_share_that_is_allowed(gate: str, share: float) -> None:
    """A percentile allows the rest to be over the limit, an error rate so many errors."""
    assert allowed_share(parse_gate(gate), []) == pytest.approx(share)


def test_wealth_follows_the_bet() -> None:
    """Half of the requests bad multiplies wealth by 5.5 for a p95, at the most allowed; none bad halves it."""
    assert growth(0.5, 0.05, most=9.0) == pytest.approx(1 + STAKE * 9)
    assert growth(0.5, 0.05, most=1.8) == 1.8
    assert growth(0.0, 0.05, most=1.8) == pytest.approx(1 - STAKE)


def test_one_long_stretch_is_no_failure() -> None:
    """A bet won off one stretch of bad requests does not count; won off as many that come evenly, it does."""
    quiet, slow = [(0, 250)] * 5, [(250, 250)] * 20
    stretch, even = Bet(0.05, 64), Bet(0.05, 64)

    assert not any(stretch.take(*part) for part in [*quiet, *slow])
    assert any(even.take(200, 250) for _ in [*quiet, *slow])


@pytest.mark.parametrize("clusters", [1, 5, 1000])
def test_the_bet_is_fair(clusters: int) -> None:
    """With exactly the allowed share on average, in clusters of any size, fewer than 1 in 1000 runs fail early."""
    random = np.random.default_rng(7)
    shares = random.binomial(clusters, 0.05, size=(1000, 64)) / clusters

    wealth = np.cumprod([[growth(bad, 0.05, MOST_GROWTH) for bad in run] for run in shares.tolist()], axis=1)

    assert (wealth.max(axis=1) >= 1 / ALPHA_EARLY).mean() <= ALPHA_EARLY
