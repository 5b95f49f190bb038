"""When a run is looked at: the chance of error is shared out beforehand, and a PASS that comes early needs room."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.looks import look_at, looks
from hxp_harness.gates.outcome import Outcome
from hxp_harness.gates.stationary import LEAST_CHANGE
from hxp_harness.gates.verdict import certain, judge
from tests.hxp_harness.gates.test_verdict import EIGHT, MakeRun, first, verdict


@given(planned=st.integers(1, 5000))
def test_looks_spend_the_whole_chance_of_error(planned: int) -> None:
    """Looks follow one another, the last is the end, and their shares of either chance come to one."""
    found = looks(planned)

    assert [look.done for look in found] == sorted({look.done for look in found})
    assert found[-1].done == planned
    assert math.fsum(look.passes for look in found) == pytest.approx(1.0)
    assert math.fsum(look.fails for look in found) == pytest.approx(1.0)
    assert all(look.passes >= 0 and look.fails > 0 and look.alpha > 0 for look in found)


@given(planned=st.integers(1, 5000))
def test_one_replicate_of_a_longer_run_passes_nothing(planned: int) -> None:
    """A PASS before the end takes two replicates, and more room the earlier it comes; the end takes none."""
    found = looks(planned)

    assert all(look.passes == 0.0 for look in found[:-1] if look.done < 2)
    assert [look.room for look in found] == sorted(look.room for look in found)
    assert found[-1].room == 1.0


@pytest.mark.parametrize("part", [0.25, 0.5])
def test_the_room_is_what_an_unseen_drift_takes(part: float) -> None:
    """Latency that rises by the tenth that does not show in a part, and goes on, is on average so much slower."""
    look = look_at(round(part * 400), 400)
    level = 1.0 + LEAST_CHANGE / part / 2  # of the whole run, when it begins at one
    seen = 1.0 + LEAST_CHANGE / 2

    assert look is not None
    assert look.room == pytest.approx(1.0 / (1.0 + level - seen))


def test_a_quarter_of_a_run_passes_what_is_clear(run: MakeRun) -> None:
    """Two replicates of eight do for a limit with room; one within a tenth of the limit waits for the end."""
    quarter = run(*EIGHT[:6], planned=24)

    assert first(verdict(quarter, "e2e p95 <= 2 s")).outcome is Outcome.PASS
    assert first(verdict(quarter, "e2e p95 <= 1100 ms")).outcome is Outcome.INCONCLUSIVE
    assert first(verdict(run(*EIGHT[:6]), "e2e p95 <= 1100 ms")).outcome is Outcome.PASS


def test_what_rises_does_not_pass_early(run: MakeRun) -> None:
    """However far the limit: 7 % in a quarter of the run may be 28 % at its end. What stays level is decided there."""
    rising, level = (run(*levels, planned=24) for levels in ([0.9 + 0.013 * number for number in range(6)], EIGHT[:6]))
    gates, (_, _, quarter, *_) = parse_gates(["e2e p95 <= 9 s", "error_rate <= 1 %"]), looks(24)
    assert quarter.done == 6

    assert [certain(one.table, gates, one.facts, quarter) for one in (rising, level)] == [False, True]
    assert [judge(one.table, gates, one.facts).outcome for one in (rising, level)] == [
        Outcome.INCONCLUSIVE,
        Outcome.PASS,
    ]


def test_a_look_that_comes_too_soon_fails_nothing(run: MakeRun) -> None:
    """Of one replicate, not long against the requests in flight, nobody can tell how slow ones come together."""
    soon, later = (run(*EIGHT[:count], planned=16) for count in (1, 4))  # 600 and 2400 requests, 38 in flight

    assert first(verdict(soon, "e2e p95 <= 900 ms")).outcome is Outcome.INCONCLUSIVE
    assert first(verdict(later, "e2e p95 <= 900 ms")).outcome is Outcome.FAIL
