"""A machine whose speed changes: its times are put on one scale, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.services.ai_models.calibrate import Observed, on_one_scale, relative_errors
from reference_stack.services.ai_models.drift import BIN_S, Drift, drift_of, usual
from reference_stack.services.ai_models.model_spec import load_spec
from reference_stack.services.ai_models.physics import find_device
from reference_stack.services.ai_models.scheduler import Limits
from reference_stack.services.ai_models.simulate import Simulated, arrivals_s, simulate

DEVICE = find_device("cpu")
SLOWNESS = st.lists(st.floats(0.3, 3.0), min_size=1, max_size=20)
MOMENTS = st.lists(st.floats(-30.0, 60.0), min_size=1, max_size=50)


def drifting(slowness: list[float], step_s: float = 1.0) -> Drift:
    return Drift(np.array([place * step_s for place in range(len(slowness))]), np.array(slowness))


@given(SLOWNESS, MOMENTS)
def test_a_moment_is_found_again_from_its_work(slowness: list[float], moments: list[float]) -> None:
    """Both ways are each other's inverse, before the first reading and after the last one, too, and keep the order."""
    drift, moments_s = drifting(slowness), np.sort(np.array(moments))

    worked_s = drift.worked(moments_s)
    assert drift.moment(worked_s) == pytest.approx(moments_s, abs=1e-9)
    assert (np.diff(worked_s) >= 0).all()


def test_a_slow_stretch_counts_for_less() -> None:
    """A second at half speed is half a second of work, and one at double speed is two."""
    worked_s = drifting([1.0, 2.0, 0.5, 1.0]).worked(np.array([0.0, 1.0, 2.0, 3.0, 4.0]))

    assert np.diff(worked_s) == pytest.approx([1.0, 0.5, 2.0, 1.0])


def test_readings_are_taken_together() -> None:
    """One reading of twenty that was interrupted does not move the half second that it lies in; a change does."""
    at_s = np.arange(80) * BIN_S / 20
    taken_s = np.where(at_s < 2 * BIN_S, 1e-4, 1.5e-4)
    taken_s[7] = 1.0

    drift = drift_of(at_s.tolist(), taken_s.tolist())
    assert drift.slowness == pytest.approx([1e-4, 1e-4, 1.5e-4, 1.5e-4])
    assert drift.at_s == pytest.approx(np.arange(4) * BIN_S, abs=1e-9)
    assert usual([drift, drift]) == pytest.approx(1.25e-4)


@pytest.mark.parametrize(("at_s", "taken_s"), [([], []), ([0.0], []), ([0.0, 1.0], [1e-4, 0.0])])
def test_what_are_no_readings_is_refused(at_s: list[float], taken_s: list[float]) -> None:
    """Nothing, moments without seconds, and work that took no time tell no speed."""
    with pytest.raises(ValueError, match="at least one"):
        drift_of(at_s, taken_s)


def served(drift: Drift, *, slots: int = 0) -> Observed:
    """A run as an engine on a machine that drifts so would have served it."""
    spec, limits, count = load_spec("phi3"), Limits(64, 2048, 40_000), 120
    arrivals = np.array(list(arrivals_s("poisson", 0.5, count, 7)))
    asked = [Simulated(100, 12, at_s) for at_s in drift.worked(arrivals).tolist()]
    ended = simulate(spec, DEVICE, limits, asked, slots=slots)
    times = drift.moment(np.array([(one.arrival_s, one.tokens_s[0], one.tokens_s[-1]) for one in ended]))
    same = np.full(count, 100), np.full(count, 12)
    return Observed("one", spec, limits, times[:, 0], *same, times[:, 1], times[:, 2], np.arange(count) >= 9, slots)


@pytest.mark.parametrize("slots", [0, 4])
def test_a_run_on_a_machine_that_drifts_is_predicted(slots: int) -> None:
    """With the yardstick beside it the times are those measured, in open and in closed loops; without, they are not."""
    drift = drifting([1.0, 1.5, 0.9, 1.45, 1.0, 2.0] * 4, step_s=10.0)
    run = served(drift, slots=slots)

    assert max(map(abs, relative_errors(run, DEVICE).values())) > 0.1
    assert max(map(abs, relative_errors(replace(run, drift=drift), DEVICE).values())) < 1e-6


def test_all_runs_share_one_scale() -> None:
    """Readings have a unit of their own: one is what they usually were, over the runs of both kinds."""
    plain = served(drifting([1.0]))
    slow, quick = (replace(plain, drift=drifting([taken_s] * 3)) for taken_s in (4e-4, 2e-4))

    (learned,), (tested, bare) = on_one_scale([slow], [quick, plain])
    assert learned.drift is not None
    assert tested.drift is not None
    assert learned.drift.slowness[0] == pytest.approx(4 / 3)
    assert tested.drift.slowness[0] == pytest.approx(2 / 3)
    assert bare.drift is None
    assert on_one_scale([plain], []) == ([plain], [])
