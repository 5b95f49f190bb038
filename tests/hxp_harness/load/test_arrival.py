"""Arrivals are those of their process: distributed as it says, drawn from one seed, never rescaled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats

from hxp_harness.arrivals import AnyArrival, Arrival, Gamma
from hxp_harness.load.arrival import offsets_s

ADAPTER: TypeAdapter[AnyArrival] = TypeAdapter(Arrival)
SURE = 1e-3  # a right process has a smaller p in one of 1,000 seeds; these seeds are fixed


def arrival(spoken: object) -> AnyArrival:
    return ADAPTER.validate_python(spoken)


def draw(spoken: object, rate_rps: float, sizes: list[int], seed: int = 7, **more: Any) -> np.ndarray[Any, Any]:
    return offsets_s(arrival(spoken), rate_rps, sizes, np.random.default_rng(seed), **more)


RAMP = {"kind": "ramp", "from": "20 rps", "to": "180 rps"}
STEP = {"kind": "step", "rates": ["50 rps", "200 rps", "50 rps"]}
DRAWN = ("poisson", {"kind": "gamma", "cv": 3.0}, RAMP, STEP)


def test_constant_is_a_metronome() -> None:
    """Constant arrivals are exactly 1/rate apart and start at 0; a closed loop expects the same."""
    for spoken in ("constant", {"kind": "closed", "concurrency": 3}):
        assert draw(spoken, 4.0, [0, 5]).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_poisson_gaps_are_exponential() -> None:
    """Gaps pass a Kolmogorov-Smirnov test against their process at the asked rate."""
    gaps = np.diff(draw("poisson", 50.0, [0, 20_000]))
    assert stats.kstest(gaps, stats.expon(scale=1 / 50.0).cdf).pvalue > SURE


@pytest.mark.parametrize("cv", [0.2, 0.7, 1.0, 2.5])
def test_gamma_gaps_are_as_bursty_as_asked(cv: float) -> None:
    """Gaps pass a Kolmogorov-Smirnov test, and a cv of 1 is Poisson."""
    gaps = np.diff(draw({"kind": "gamma", "cv": cv}, 50.0, [0, 20_000]))
    assert stats.kstest(gaps, stats.gamma(cv**-2, scale=cv**2 / 50.0).cdf).pvalue > SURE
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(cv, rel=0.05)
    if cv == 1.0:
        assert stats.kstest(gaps, stats.expon(scale=1 / 50.0).cdf).pvalue > SURE


def ramp_so_far(time_s: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Cumulated rate of RAMP over a window of 20 s, then its last rate."""
    within = np.minimum(time_s, 20.0)
    return np.asarray(20.0 * within + (180.0 - 20.0) / 20.0 * within**2 / 2 + 180.0 * np.maximum(time_s - 20.0, 0.0))


def step_so_far(time_s: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Cumulated rate of STEP over a window of 20 s, then its last rate."""
    part_s = 20.0 / 3
    pieces = [np.clip(time_s - start * part_s, 0.0, part_s) for start in range(3)]
    return 50.0 * pieces[0] + 200.0 * pieces[1] + 50.0 * pieces[2] + 50.0 * np.maximum(time_s - 20.0, 0.0)


@pytest.mark.parametrize(("spoken", "so_far"), [(RAMP, ramp_so_far), (STEP, step_so_far)], ids=["ramp", "step"])
def test_a_pattern_has_its_rate_at_every_moment_of_every_window(spoken: object, so_far: Any) -> None:
    """After a change of time by the rate the gaps are those of rate 1, in each window anew (time-rescaling theorem)."""
    offsets = draw(spoken, 100.0, [100, 2000, 2000])
    first_end_s = offsets[2099]
    for start_s, window in ((offsets[99], offsets[100:2100]), (first_end_s, offsets[2100:])):
        gaps = np.diff(so_far(np.concatenate(([start_s], window)) - start_s))
        assert stats.kstest(gaps, "expon").pvalue > SURE
    warm_up = np.diff(offsets[:100], prepend=0.0)
    assert stats.kstest(warm_up, stats.expon(scale=1 / (20.0 if spoken is RAMP else 50.0)).cdf).pvalue > SURE


def test_a_falling_ramp_is_a_ramp() -> None:
    """From high to low as well as the other way round: most arrivals are early."""
    offsets = draw({"kind": "ramp", "from": "180 rps", "to": "20 rps"}, 100.0, [0, 2000])
    assert np.searchsorted(offsets, 10.0) == pytest.approx(1400, abs=150)


@given(st.sampled_from(DRAWN), st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(0, 2**32))
def test_offsets_rise_and_are_as_many_as_asked(spoken: object, sizes: list[int], seed: int) -> None:
    """Whatever is drawn is complete, finite, above 0 and in order."""
    offsets = draw(spoken, 100.0, sizes, seed)
    assert len(offsets) == sum(sizes)
    assert np.isfinite(offsets).all()
    assert (np.diff(offsets, prepend=0.0) >= 0).all()


@given(st.sampled_from(DRAWN), st.integers(0, 2**32))
def test_same_seed_gives_same_arrivals(spoken: object, seed: int) -> None:
    """A schedule can be drawn again, and another seed is another schedule."""
    first, again, other = (draw(spoken, 5.0, [5, 20, 20], one).tolist() for one in (seed, seed, seed + 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("spoken", DRAWN, ids=str)
def test_counts_vary_as_their_process_does(spoken: object) -> None:
    """Nothing is rescaled: the end of a window is as random as the sum of its gaps."""
    ends_s = [float(draw(spoken, 100.0, [0, 400], seed)[-1]) for seed in range(300)]
    last_rps = {"ramp": 180.0, "step": 50.0}.get(arrival(spoken).kind, 100.0)
    cv = spoken.cv if isinstance(spoken := arrival(spoken), Gamma) else 1.0
    # the end of 400 gaps of rate 1 has a standard deviation of 20, and passes at the last rate
    assert np.std(ends_s) == pytest.approx(20.0 * cv / last_rps, rel=0.2)


def test_a_replay_is_what_was_recorded() -> None:
    """Recorded times are sent as they are, counted from the first; what is beyond the run is left."""
    recorded_s = np.array([7.0, 7.5, 7.5, 9.0, 12.0])
    assert draw({"kind": "replay", "file": "x"}, 1.0, [1, 3], times_s=recorded_s).tolist() == [0.0, 0.5, 0.5, 2.0]
    assert draw({"kind": "replay", "file": "x"}, 1.0, [0], times_s=recorded_s).tolist() == []
