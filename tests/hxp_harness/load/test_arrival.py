"""Arrivals are what they are called."""

import numpy as np
import pytest
from scipy import stats

from hxp_harness.errors import UsageError
from hxp_harness.load.arrival import offsets_s


def test_constant_arrivals_are_evenly_spaced_from_zero() -> None:
    """Constant arrivals come every 1/rate seconds."""
    assert offsets_s("constant", 4.0, 5, np.random.default_rng(0)).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_poisson_gaps_are_exponential() -> None:
    """A Kolmogorov-Smirnov test finds nothing against exponential gaps of the asked mean."""
    offsets = offsets_s("poisson", 50.0, 20_000, np.random.default_rng(7))
    gaps = np.diff(offsets, prepend=0.0)
    assert len(gaps) == 20_000
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50.0)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_poisson_counts_vary_as_a_poisson_process_does() -> None:
    """Nothing is rescaled: the count in a window has the variance of its mean."""
    counts = [
        int(np.searchsorted(offsets_s("poisson", 100.0, 400, np.random.default_rng(seed)), 1.0)) for seed in range(400)
    ]
    assert 80 < np.var(counts) < 125


def test_same_seed_gives_same_arrivals() -> None:
    """A schedule can be drawn again."""
    first, second = (offsets_s("poisson", 5.0, 100, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_unknown_arrival_is_refused_with_the_nearest_spelling() -> None:
    """A misspelt arrival is named, with what was probably meant."""
    with pytest.raises(UsageError, match="poisson"):
        offsets_s("poison", 5.0, 1, np.random.default_rng(0))
