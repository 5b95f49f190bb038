"""The search for a capacity finds it wherever it is, claims no more than verdicts say, and comes to an end."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hxp_harness.capacity.search import MOST_TRIES, Search, Trial, Tried, bracket, decide, next_trial
from hxp_harness.gates.outcome import Outcome

PASS, FAIL, OPEN, INVALID = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INVALID
Answer = Callable[[Trial], Tried]


def server(capacity_rps: float) -> Answer:
    """A target that keeps up below its capacity; a verdict near it stays open, as the guard band makes it."""

    def answer(trial: Trial) -> Tried:
        rate = trial.rate_rps
        certain = PASS if rate < 0.97 * capacity_rps else FAIL if rate > 1.02 * capacity_rps else OPEN
        obvious = FAIL if rate > 1.5 * capacity_rps else OPEN
        return Tried(rate, certain if trial.certifying else obvious, rate <= capacity_rps, trial.certifying)

    return answer


def history(answer: Answer, search: Search) -> list[Tried]:
    tried: list[Tried] = []
    while trial := next_trial(tried, search):
        tried.append(answer(trial))
        assert len(tried) <= MOST_TRIES
    return tried


@settings(deadline=None)  # the machine may be busy
@given(st.floats(0.5, 5000), st.floats(0.05, 15), st.sampled_from([0.02, 0.05, 0.2]), st.booleans())
def test_the_bracket_holds_the_capacity(capacity_rps: float, off: float, resolution: float, predicted: bool) -> None:
    """Wherever the search begins, both ends are certain, the truth lies between them, and they are close."""
    tried = history(server(capacity_rps), Search(capacity_rps * off, resolution, predicted=predicted))
    found = bracket(tried)

    assert found.passes_at_rps is not None
    assert found.fails_at_rps is not None
    assert found.passes_at_rps <= capacity_rps <= found.fails_at_rps
    assert found.fails_at_rps / found.passes_at_rps <= 1.05 * (1 + resolution) ** 4
    assert decide(tried, None) is PASS


@settings(deadline=None)  # the machine may be busy
@given(st.floats(1, 1000), st.floats(0.3, 3), st.integers(0, 2**16))
def test_a_server_that_is_judged_by_chance_misleads_nobody(capacity_rps: float, off: float, seed: int) -> None:
    """Short tries that lean the wrong way cost time: no end is claimed on the wrong side of the capacity."""
    chance = random.Random(seed)
    sure = server(capacity_rps)

    def answer(trial: Trial) -> Tried:
        told = sure(trial)
        wrong = not trial.certifying and chance.random() < 0.3
        return Tried(told.rate_rps, told.outcome, told.leans != wrong, trial.certifying)

    found = bracket(history(answer, Search(capacity_rps * off)))

    assert found.passes_at_rps is None or found.passes_at_rps <= capacity_rps
    assert found.fails_at_rps is None or found.fails_at_rps >= capacity_rps


def test_an_expected_rate_is_asked_itself_and_nothing_more() -> None:
    """A verdict is sought at the expected rate first; where it decides, no other run is made."""
    assert history(server(65.0), Search(60.0, expected_rps=60.0)) == [Tried(60.0, PASS, True, True)]
    assert history(server(50.0), Search(60.0, expected_rps=60.0)) == [Tried(60.0, FAIL, False, True)]


def test_an_expected_rate_that_stays_open_gets_a_bracket_around_it() -> None:
    """Where no run decides at the expected rate, the answer is open, and both ends around it are certain."""
    tried = history(server(60.0), Search(60.0, expected_rps=60.0))
    found = bracket(tried)

    assert decide(tried, 60.0) is OPEN
    assert found.passes_at_rps is not None
    assert found.fails_at_rps is not None
    assert found.passes_at_rps < 60.0 < found.fails_at_rps


@settings(deadline=None)  # the machine may be busy
@given(st.floats(0.5, 5000), st.floats(0.8, 1.4))
def test_two_runs_make_a_bracket_where_the_prediction_is_fair(capacity_rps: float, off: float) -> None:
    """Around a prediction that is some 20 to 40 % off, the first two runs are verdicts, and make both ends certain."""
    search = Search(capacity_rps * off, predicted=True)
    tried: list[Tried] = []
    for _ in range(2):
        trial = next_trial(tried, search)
        assert trial is not None
        tried.append(server(capacity_rps)(trial))

    assert decide(tried, None) is PASS
    assert [one.certifying for one in tried] == [True, True]


@settings(deadline=None)  # the machine may be busy
@given(st.floats(0.5, 5000), st.floats(0.3, 3), st.floats(0.02, 0.6), st.booleans())
def test_a_wide_band_in_which_nothing_decides_still_has_its_ends(
    capacity_rps: float, off: float, band: float, predicted: bool
) -> None:
    """Where a run close to the capacity never decides, the bracket is wide, holds the truth, and takes few runs."""

    def answer(trial: Trial) -> Tried:
        sure = PASS if trial.rate_rps < capacity_rps * (1 - band) else FAIL if trial.rate_rps > capacity_rps else OPEN
        leans = trial.rate_rps <= capacity_rps
        return Tried(trial.rate_rps, sure if trial.certifying else OPEN, leans, trial.certifying)

    tried = history(answer, Search(capacity_rps * off, predicted=predicted))
    found = bracket(tried)

    assert found.passes_at_rps is not None
    assert found.fails_at_rps is not None
    assert capacity_rps * (1 - band) / 2 <= found.passes_at_rps <= capacity_rps
    assert capacity_rps <= found.fails_at_rps <= capacity_rps * 1.1


def test_a_rate_that_stays_disturbed_is_left_alone() -> None:
    """A rate that is INVALID twice below others that were measured is no wall; the search goes on around it."""
    sure = server(100.0)
    tried = history(
        lambda trial: (
            Tried(trial.rate_rps, INVALID, False, trial.certifying) if 40 < trial.rate_rps < 60 else sure(trial)
        ),
        Search(100.0, predicted=True),
    )
    found = bracket(tried)

    assert found.wall_rps is None
    assert found.passes_at_rps is not None
    assert found.fails_at_rps is not None
    lost = [one.rate_rps for one in tried if one.outcome is INVALID]
    assert lost
    assert all(lost.count(rate) == 2 for rate in lost)


def test_below_a_wall_a_rate_may_fail() -> None:
    """Where the instrument gives out above the capacity, the upper end is sought below the wall, and found."""
    sure = server(100.0)
    tried = history(
        lambda trial: sure(trial) if trial.rate_rps < 130 else Tried(trial.rate_rps, INVALID, False, trial.certifying),
        Search(100.0, predicted=True),
    )
    found = bracket(tried)

    assert found.fails_at_rps is not None
    assert 100 <= found.fails_at_rps < 130


def test_one_disturbed_run_is_made_again() -> None:
    """An INVALID run is repeated once at its own rate, and the search goes on as if it had not been."""
    seen: list[Trial] = []
    sure = server(100.0)

    def answer(trial: Trial) -> Tried:
        seen.append(trial)
        return sure(trial) if len(seen) != 3 else Tried(trial.rate_rps, INVALID, leans=False)

    found = bracket(history(answer, Search(50.0)))

    assert seen[2] == seen[3]
    assert found.wall_rps is None
    assert found.fails_at_rps is not None


def test_what_cannot_be_measured_is_a_wall_and_no_failure() -> None:
    """Where the instrument gives out below the capacity, the lower end is certain and nothing is said to fail."""
    sure = server(1000.0)
    tried = history(
        lambda trial: sure(trial) if trial.rate_rps < 300 else Tried(trial.rate_rps, INVALID, False), Search(50.0)
    )
    found = bracket(tried)

    assert found.fails_at_rps is None
    assert found.wall_rps is not None
    assert found.wall_rps >= 300
    assert found.passes_at_rps is not None
    assert found.passes_at_rps > 250
    assert decide(tried, None) is OPEN
    assert decide(tried, 200.0) is PASS


def test_a_target_that_is_never_measured_ends_soon() -> None:
    """Where every run is INVALID the rate is not to blame: three rates are tried twice each, and that is said."""
    tried = history(lambda trial: Tried(trial.rate_rps, INVALID, leans=False), Search(50.0))

    assert len(tried) == 6
    assert decide(tried, None) is INVALID


def test_an_instrument_that_is_wanting_ends_the_search() -> None:
    """Twice beyond the certificate's bounds with nothing measured is INVALID at once; above what was, it is a wall."""
    unable = Tried(50.0, INVALID, leans=False, uncertified=True)

    assert history(lambda _: unable, Search(50.0)) == [unable, unable]
    assert decide([unable, unable], None) is INVALID
    sure = server(1000.0)
    tried = history(
        lambda trial: sure(trial) if trial.rate_rps < 300 else replace(unable, rate_rps=trial.rate_rps), Search(50.0)
    )
    assert bracket(tried).wall_rps is not None
    assert bracket(tried).passes_at_rps is not None


def test_a_target_that_fails_at_any_rate_ends_with_what_is_known() -> None:
    """Where even a small part of the first rate fails there is no lower end, and the answer to any rate is FAIL."""
    tried = history(lambda trial: Tried(trial.rate_rps, FAIL, False, trial.certifying), Search(50.0))

    assert len(tried) < MOST_TRIES
    assert bracket(tried).passes_at_rps is None
    assert decide(tried, None) is OPEN
    assert decide(tried, 50.0) is FAIL
    assert min(one.rate_rps for one in tried) > 1.0


@pytest.mark.parametrize("expected", [None, 50.0])
def test_nothing_tried_is_nothing_known(expected: float | None) -> None:
    """A search that was stopped before its first run has no ends and no answer."""
    assert bracket([]) == bracket([Tried(50.0, OPEN, leans=True)])
    assert bracket([]) == bracket([Tried(50.0, PASS, leans=True), Tried(70.0, FAIL, leans=False)])  # short ones
    assert decide([], expected) is OPEN


def test_contradicting_verdicts_count_for_the_worse() -> None:
    """A PASS above a FAIL is no lower end: once in a hundred runs chance makes one of them."""
    found = bracket([Tried(60.0, PASS, True, True), Tried(50.0, FAIL, False, True), Tried(40.0, PASS, True, True)])

    assert (found.passes_at_rps, found.fails_at_rps) == (40.0, 50.0)
