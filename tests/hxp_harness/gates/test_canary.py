"""Speed bought with other answers is found; what batching does to honest engines is not taken for it."""

import pytest

from hxp_harness.gates.canary import CanaryAnswers, check_canary
from hxp_harness.gates.outcome import CheckOutcome

TRUE = [f"answer {number}" for number in range(16)]
WRONG = ["nonsense"] * 16


def mixed(wrong: int) -> list[str]:
    return WRONG[:wrong] + TRUE[wrong:]


@pytest.mark.owasp("LLM09:2025")
@pytest.mark.parametrize(
    ("wrong", "outcome"),
    [(0, "ok"), (2, "ok"), (4, "ok"), (8, "ok"), (9, "failed"), (12, "failed"), (16, "failed")],
)
def test_answers_that_change_under_load_are_found(wrong: int, outcome: str) -> None:
    """A quarter may change; more than that, surely (99 %), is INVALID: of 16 from 9 on."""
    check = check_canary(CanaryAnswers(TRUE, mixed(wrong), TRUE))

    assert check.outcome == outcome
    assert f"{wrong} of 16" in check.sentence


def test_honest_engines_are_seldom_accused() -> None:
    """With a quarter of answers changing by chance, less than 1 of 100 runs is called a cheat."""
    from scipy import stats

    accused = next(k for k in range(17) if check_canary(CanaryAnswers(TRUE, mixed(k), TRUE)).outcome == "failed")

    assert stats.binom.sf(accused - 1, 16, 0.25) < 0.01


@pytest.mark.parametrize(
    "found",
    [
        None,
        CanaryAnswers(),
        CanaryAnswers(TRUE, [], TRUE),
        CanaryAnswers(TRUE, WRONG[:3], TRUE),
        CanaryAnswers(TRUE, [None] * 16, TRUE),
        CanaryAnswers([None] * 16, WRONG, TRUE),
        CanaryAnswers(TRUE, WRONG, WRONG),
    ],
)
def test_what_was_not_asked_or_never_repeats_is_no_proof(found: CanaryAnswers | None) -> None:
    """Without questions or answers, or where the target contradicts itself even idle, nothing is proven."""
    assert check_canary(found).outcome is CheckOutcome.NOT_PROVEN


def test_answers_that_did_not_come_do_not_count() -> None:
    """A question without an answer says nothing of answers: errors have a gate of their own."""
    check = check_canary(CanaryAnswers(TRUE, [*[None] * 8, *TRUE[8:]], TRUE[:3]))

    assert check.outcome is CheckOutcome.OK
    assert "0 of 8" in check.sentence


def test_answers_that_are_all_alike_are_said_to_prove_less() -> None:
    """A model that answers every question alike cannot show that answers were exchanged, and the check says so."""
    same = ["The service reads the seller."] * 8

    assert "answer given to another would not show" in check_canary(CanaryAnswers(same, same, same)).sentence
    assert "would not show" not in check_canary(CanaryAnswers(TRUE, TRUE, TRUE)).sentence
