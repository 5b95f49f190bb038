"""The virtual servers have the statistics that are known of them in closed form."""

import math
from pathlib import Path

import numpy as np
import pytest

from hxp_harness.errors import UsageError
from hxp_harness.metrics.table import write_traces
from hxp_harness.selfcheck import batching, servers
from hxp_harness.selfcheck.servers import SERVERS, Draw, Server, replayed, truth
from hxp_harness.trace import Trace

P95_POINT = 1.6448536269514722  # of the normal distribution


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_the_same_seed_gives_the_same_runs(server: Server) -> None:
    """Runs are positive, of the length asked for, and the same for the same seed."""
    first, again, other = (server.draw(np.random.default_rng(seed), 2, 500) for seed in (1, 1, 2))

    assert first.shape == (2, 500)
    assert (first > 0).all()
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("draw", [servers.independent, servers.autoregressive])
def test_a_lognormal_has_its_p95(draw: Draw) -> None:
    """Independent or not, latency is lognormal: its p95 is exp(0.3 * 1.645)."""
    true = truth(Server("", "", draw), seed=1, requests=2000, total=1_000_000)

    assert true == pytest.approx(math.exp(servers.SPREAD * P95_POINT), rel=0.01)


def test_a_tail_has_its_p99() -> None:
    """The p99 of a Pareto distribution is 0.01 ** (-1 / index)."""
    true = truth(Server("", "", servers.heavy_tail, 0.99), seed=1, requests=2000, total=1_000_000)

    assert true == pytest.approx(0.01 ** (-1 / servers.TAIL), rel=0.02)


def test_a_queue_waits_as_pollaczek_and_khinchine_say() -> None:
    """Mean time in an M/G/1 queue: service + rate * E[service^2] / (2 (1 - utilisation))."""
    seen = servers.queue(np.random.default_rng(3), 40, 100_000).mean()
    squared = math.exp(servers.SERVICE_SPREAD**2)  # E[S^2] of a lognormal of mean 1

    assert seen == pytest.approx(1 + servers.UTILISATION * squared / (2 * (1 - servers.UTILISATION)), rel=0.05)


def test_a_step_of_the_batching_server_serves_all() -> None:
    """Alone, a request of 64 tokens takes 64 steps and one prompt; nothing is faster."""
    alone_s = batching.MEAN_TOKENS * (batching.STEP_S + batching.ROW_S) + batching.PROMPT_S
    seen_s = batching.fixed_lengths(np.random.default_rng(1), 3, 2000)

    assert seen_s.min() >= alone_s
    assert seen_s.mean() > 1.5 * alone_s


def test_batching_clusters_what_is_slow() -> None:
    """Requests over the p95 come together: their counts in windows vary far more than independent ones would."""
    seen_s = batching.fixed_lengths(np.random.default_rng(2), 20, 8000)
    counts = (seen_s > np.quantile(seen_s, 0.95)).reshape(20, 8, 1000).sum(axis=2)

    assert counts.var() / counts.mean() > 20


def test_stalls_come_in_runs() -> None:
    """Slow requests stand in a row, 1.5 % of all: after a slow one comes a slow one."""
    slow = servers.stalls(np.random.default_rng(5), 10, 100_000) > 2.0

    assert slow.mean() == pytest.approx(0.015, rel=0.2)
    assert slow[:, 1:][slow[:, :-1]].mean() > 0.9


def recorded(folder: Path, count: int) -> Path:
    file = folder / "traces.parquet"
    traces = (
        Trace(
            index,
            0,
            index / 50,
            10,
            1,
            sent_s=index / 50,
            end_s=index / 50 + 1 + index,
            token_lo_s=(index / 50 + 1 + index,),
            token_hi_s=(index / 50 + 1 + index,),
        )
        for index in reversed(range(count))
    )
    write_traces(file, traces)
    return file


def test_recorded_traces_are_replayed_in_windows(tmp_path: Path) -> None:
    """A window holds neighbours in the order of the schedule."""
    windows = replayed(recorded(tmp_path, 400)).draw(np.random.default_rng(1), 5, 100)

    assert windows.shape == (5, 100)
    assert np.diff(windows, axis=1) == pytest.approx(1.0)


def test_too_few_traces_are_refused(tmp_path: Path) -> None:
    """A recording shorter than four windows cannot give independent runs; the remedy is named."""
    with pytest.raises(UsageError, match="too few to draw runs of 200") as error:
        replayed(recorded(tmp_path, 400)).draw(np.random.default_rng(1), 5, 200)
    assert "record 800 or more" in str(error.value)
