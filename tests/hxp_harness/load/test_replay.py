"""Recorded arrivals are read strictly, and refused when they are not the contract's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hxp_harness.errors import UsageError
from hxp_harness.load.replay import check_times, peak_rps, read_times


def test_times_are_read(tmp_path: Path) -> None:
    """One number a line; empty lines and comments do not count, equal times do."""
    file = tmp_path / "arrivals.txt"
    file.write_text("# seconds\n0.5\n\n1.25 # burst\n1.25\n3e1\n")
    assert read_times(file).tolist() == [0.5, 1.25, 1.25, 30.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\ntwo\n", "line 2: 'two' is no number"),
        ("1\n0.5\n", "line 2: 0.5 is not at or after"),
        ("1\nnan\n", "line 2"),
        ("inf\n", "line 1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    """File and line stand in the refusal."""
    file = tmp_path / "arrivals.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"arrivals\.txt") as raised:
        read_times(file)
    assert said in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path stands in the refusal."""
    with pytest.raises(UsageError, match=r"gone\.txt"):
        read_times(tmp_path / "gone.txt")


def test_too_few_arrivals_are_refused() -> None:
    """How many there are and how many it takes, both are said."""
    with pytest.raises(UsageError, match="has 3 arrivals, the run needs 4"):
        check_times(Path("x"), np.arange(3.0), 4, 1.0)


def test_another_rate_than_the_contracts_is_refused() -> None:
    """Recorded times are never stretched to fit: the right rate is said instead."""
    check_times(Path("x"), np.arange(11.0), 11, 1.05)
    with pytest.raises(UsageError, match="rate: 1 rps"):
        check_times(Path("x"), np.arange(11.0), 11, 2.0)
    with pytest.raises(UsageError, match="inf"):
        check_times(Path("x"), np.zeros(11), 11, 2.0)


def test_the_peak_is_that_of_one_second() -> None:
    """The most arrivals that any second holds; of none there is one at most."""
    assert peak_rps(np.array([0.0, 5.0, 5.1, 5.9, 6.05, 9.0])) == 3.0
    assert peak_rps(np.zeros(0)) == 1.0
