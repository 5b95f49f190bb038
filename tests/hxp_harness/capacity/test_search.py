"""The search for a capacity finds it wherever it is, claims no more than verdicts say, and comes to an end."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
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


@given(st.floats(0.5, 5000), st.floats(0.05, 15), st.sampled_from([0.02, 0.05, 0.2]))
def test_the_bracket_holds_the_capacity(capacity_rps: float, off: float, resolution: float) -> None:
    """Wherever the search begins, both ends are certain, the truth lies between them, and they are close."""
    tried = history(server(capacity_rps), Search(capacity_rps * off, resolution))
    found = bracket(tried)

    assert found.passes_at_rps is not None
    assert found.fails_at_rps is not None
    assert found.passes_at_rps <= capacity_rps <= found.fails_at_rps
    assert found.fails_at_rps / found.passes_at_rps <= 1.05 * (1 + resolution) ** 5
    assert decide(tried, None) is PASS


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


def test_an_expected_rate_between_the_ends_is_asked_itself() -> None:
    """Where the ends leave the expected rate open, a verdict is sought there; it decides, or stays open."""
    search = Search(60.0, 0.5, expected_rps=60.0)
    tried = history(server(65.0), search)

    assert Tried(60.0, PASS, leans=True, certifying=True) in tried
    assert decide(tried, 60.0) is PASS
    assert decide(tried, 1000.0) is FAIL
    assert decide(history(server(60.0), Search(60.0, expected_rps=60.0)), 60.0) is OPEN


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
