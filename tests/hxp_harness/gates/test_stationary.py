"""Warm-up, drift and jumps are found where they are, and nowhere else."""

import math

import numpy as np
import pytest

from hxp_harness.gates.pile import Pile
from hxp_harness.gates.stationary import BATCH, change, rises, settled_after
from hxp_harness.selfcheck import servers

NOISE = servers.independent(np.random.default_rng(1), 1, 8000)[0]


def test_a_quiet_run_is_left_alone() -> None:
    """Nothing is cut and nothing found where nothing is."""
    assert settled_after(NOISE) == 0
    assert change(NOISE) is None


@pytest.mark.parametrize("slow", [100, 400, 1000])
def test_a_warm_up_is_cut(slow: int) -> None:
    """A start three times as slow is cut where it ends, with a margin of a half and no more."""
    cut = settled_after(NOISE * np.where(np.arange(8000) < slow, 3.0, 1.0))

    assert slow - BATCH <= cut <= 1.6 * slow


def test_what_never_settles_is_said() -> None:
    """A start that takes more than a quarter of the run is the whole run's."""
    assert settled_after(NOISE * np.where(np.arange(8000) < 3000, 3.0, 1.0)) == 8000


@pytest.mark.parametrize("factor", [1.3, 0.7])
def test_a_drift_is_found(factor: float) -> None:
    """A steady rise or fall is found with its size."""
    found = change(NOISE * np.linspace(1.0, factor, 8000))

    assert found is not None
    assert found.place is None
    assert found.factor == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("place", [0.25, 0.5, 0.75])
def test_a_jump_is_found(place: float) -> None:
    """A step is found with its size and its place."""
    found = change(NOISE * np.where(np.arange(8000) < 8000 * place, 1.0, 1.5))

    assert found is not None
    assert found.place == pytest.approx(place, abs=0.02)
    assert found.factor == pytest.approx(1.5, rel=0.05)


def test_a_small_change_does_not_matter() -> None:
    """Five percent tip no verdict that the guard band and the bounds do not."""
    assert change(NOISE * np.linspace(1.0, 1.05, 8000)) is None


@pytest.mark.parametrize("server", [servers.autoregressive, servers.queue, servers.stalls, servers.bimodal])
def test_swings_are_no_trend(server: servers.Draw) -> None:
    """Of sixty runs of a server that swings without a trend at most two are taken for one."""
    runs = server(np.random.default_rng(6), 60, 8000)

    assert sum(change(run) is not None for run in runs) <= 2


@pytest.mark.parametrize("part", [0.25, 0.5])
def test_a_rise_is_carried_on_to_the_end(part: float) -> None:
    """What would make 30 % over the whole run is seen in a part; a fall is not, nor what would make 5 %."""
    seen = np.linspace(0.0, part, round(16_000 * part))
    noise = np.exp(0.3 * np.random.default_rng(4).standard_normal(len(seen)))

    assert rises(noise * (1.0 + 0.3 * seen), part)
    assert not rises(noise * (1.3 - 0.3 * seen), part)
    assert not rises(np.exp(0.05 * np.log(noise)) * (1.0 + 0.05 * seen), part)


def test_few_requests_show_no_course() -> None:
    """Under 200 requests nothing is cut and nothing found."""
    assert not rises(NOISE[:100] * np.linspace(1, 9, 100), 0.5)
    assert settled_after(NOISE[:100] * np.linspace(1, 9, 100)) == 0
    assert change(NOISE[:100] * np.linspace(1, 9, 100)) is None


def test_alike_is_stationary() -> None:
    """A server that always takes the same time has no change, and a step in it is no chance."""
    assert change(np.full(800, 2.0)) is None
    assert change(np.repeat([2.0, 3.0], 400)) is not None
    assert math.isclose(settled_after(np.full(800, 2.0)), 0)


def test_an_overload_is_seen_soon() -> None:
    """At half the rate that it is offered a service is seen to fall behind within the first twenty seconds."""
    due_s = (np.arange(16_000) / 50).tolist()
    pile = Pile(due_s)
    ends_s = [2 * due + 0.5 for due in due_s]

    seen_at_s = next(end for end in ends_s if pile.see([end]))

    assert seen_at_s < 20


def test_a_busy_service_that_keeps_up_is_no_overload() -> None:
    """Many requests in flight, always about as many, are no pile; nor is a short wave of them."""
    due_s = np.arange(8000) / 50
    wave_s = 2.0 + 2.0 * np.exp(-((due_s - 40) ** 2) / 50)
    pile = Pile(due_s.tolist())
    ends_s = np.sort(due_s + wave_s).reshape(-1, 20).tolist()

    assert not any(pile.see(some_s) for some_s in ends_s)
    assert not pile.see([None])
