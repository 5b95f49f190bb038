"""When a server is kept from requests, how it comes back, and how many requests may be sent twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.routing.breaker import Breaker
from reference_stack.services.infrastructure.api_gateway.routing.budget import Budget


def breaker(failures: int = 3, of: int = 10, trials: int = 2) -> Breaker:
    return Breaker(failures=failures, of=of, open_s=1.0, trials=trials)


def judged(found: Breaker, answers: str, now_s: float = 0.0, *, trial: bool = False) -> Breaker:
    """Judge one answer a letter; "x" is a failure."""
    for each in answers:
        found.judge(failed=each == "x", trial=trial, now_s=now_s)
    return found


def test_it_opens_at_so_many_failures_of_so_many_answers() -> None:
    """Failures need not follow one another, but those that the window has forgotten do not count."""
    assert judged(breaker(), "xx........").closed
    assert not judged(breaker(), "x...x...x").closed
    assert judged(breaker(), "x....x....x").closed
    assert judged(breaker(failures=1), ".....").closed


def test_a_trial_that_succeeds_closes_it_and_forgives() -> None:
    """After its time it is half open; one good answer is trust again, with nothing held against the server."""
    found = judged(breaker(), "xxx", now_s=10.0)
    assert not found.half_open(10.9)
    assert found.half_open(11.0)

    judged(found, ".", now_s=11.0, trial=True)

    assert found.closed
    assert judged(found, "xx").closed
    assert not judged(found, "x").closed
    assert found.opened == 2


def test_a_trial_that_fails_opens_it_for_another_time() -> None:
    """A server that is still ill is left alone as long again, and this is no second opening."""
    found = judged(breaker(), "xxx", now_s=0.0)

    judged(found, "x", now_s=1.0, trial=True)

    assert not found.half_open(1.9)
    assert found.half_open(2.0)
    assert found.opened == 1


def test_what_was_begun_before_it_opened_is_not_judged() -> None:
    """Late answers of old requests neither close an open breaker nor hold it open longer."""
    found = judged(breaker(), "xxx", now_s=0.0)

    judged(found, "..xx", now_s=0.9)

    assert found.half_open(1.0)
    assert not found.closed


def test_trials_are_bounded() -> None:
    """No more than `trials` are out at once, and each place comes back."""
    found = breaker(trials=2)
    found.begin_trial()
    assert found.trial_free
    found.begin_trial()
    assert not found.trial_free
    found.end_trial()
    assert found.trial_free


@given(st.lists(st.booleans(), max_size=300), st.sampled_from([0.0, 0.05, 0.1, 0.25, 1.0]))
def test_retries_never_exceed_their_share(wants: list[bool], share: float) -> None:
    """After any N requests at most 1 + share * N retries were granted, however they come."""
    budget = Budget(share=share)
    granted = 0
    for number, wanted in enumerate(wants, start=1):
        budget.request()
        granted += wanted and budget.spend()
        assert granted <= 1 + share * number + 1e-6
    if share == 0.0:
        assert granted == 0


def test_the_share_is_granted_and_a_quiet_hour_saves_no_storm() -> None:
    """Ten requests earn one retry at a tenth, and what is saved has a limit."""
    budget = Budget(share=0.1, most=3.0)
    assert budget.spend()
    assert not budget.spend()
    for _ in range(10):
        budget.request()
    assert budget.spend()
    for _ in range(1000):
        budget.request()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
