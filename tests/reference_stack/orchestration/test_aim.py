"""Whether a prediction is near enough: by its limit, or by what real runs of one load differ by."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_stack.orchestration.aim import judge, page
from reference_stack.orchestration.measured_run import read_run
from reference_stack.services.ai_models.calibrate import Observed
from reference_stack.services.ai_models.drift import Drift
from reference_stack.services.ai_models.physics import find_device

DEVICE = find_device("h200")


@pytest.fixture(scope="module")
def kept() -> Observed:
    return read_run(Path(__file__).parents[3] / "benchmarks" / "calibration" / "h200" / "phi3_4rps")


def stretched(run: Observed, factor: float, again: int = 0) -> Observed:
    """The first 60 requests of `run`, had each taken so many times as long."""
    fields = asdict(run).items()
    arrays: dict[str, Any] = {name: value[:60] for name, value in fields if isinstance(value, np.ndarray)}
    for name in ("first_s", "last_s"):
        arrays[name] = arrays["arrival_s"] + factor * (arrays[name] - arrays["arrival_s"])
    return replace(run, name=f"{run.name}-again{again}" if again else run.name, **arrays)


def test_a_prediction_is_held_to_its_limit(kept: Observed) -> None:
    """What was measured once has no spread: a run that took twice as long as predicted is missed."""
    assert all(one.met for one in judge(DEVICE, [stretched(kept, 1.0)]))
    missed = judge(DEVICE, [stretched(kept, 2.0)])
    assert not any(one.met for one in missed)
    assert {one.figure: one.aim for one in missed}["e2e p95"] == 0.25
    assert {one.figure: one.aim for one in missed}["e2e p50"] == 0.15


def test_real_runs_that_differ_widen_the_aim(kept: Observed) -> None:
    """Three runs of one load are one row: their median, and by how much they differ beyond what was predicted."""
    rows = judge(DEVICE, [stretched(kept, 2.0), stretched(kept, 0.8, 1), stretched(kept, 1.6, 2)])

    assert len(rows) == 6
    assert all(one.spread == pytest.approx(0.75) for one in rows)
    assert all(one.met for one in rows)
    assert rows[0].seen_s == pytest.approx(stretched(kept, 1.6).figures[rows[0].figure])


def test_a_slow_machine_is_no_difference_between_runs(kept: Observed) -> None:
    """A run that took twice as long, while the yardstick did, is predicted, and adds nothing to the spread."""
    plain = stretched(kept, 1.0)
    slow = {name: 2 * getattr(plain, name) for name in ("arrival_s", "first_s", "last_s")}
    slowed = replace(plain, name=f"{plain.name}-again1", drift=Drift(np.zeros(1), np.full(1, 2.0)), **slow)

    for both, alone in zip(judge(DEVICE, [plain, slowed]), judge(DEVICE, [plain]), strict=True):
        assert both.spread == pytest.approx(0.0, abs=1e-6)
        assert both.error == pytest.approx(alone.error)
        assert both.seen_s == pytest.approx(1.5 * alone.seen_s)


def test_the_page_shows_both_counts(kept: Observed) -> None:
    """Beside the figures that are met it is said how many would be without the spread."""
    runs = [stretched(kept, 2.0), stretched(kept, 0.8, 1), stretched(kept, 1.6, 2)]
    lines = list(page(judge(DEVICE, runs)))

    assert lines[1].startswith("phi3_4rps  ttft p50")
    assert "75%" in lines[1]
    assert ": 6 of 6 figures; 0 of them" in lines[-1]
    assert list(page([])) == []
    assert list(page(judge(DEVICE, [stretched(kept, 2.0)])))[1].endswith("missed")
