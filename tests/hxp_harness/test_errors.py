"""Errors tell a person what is wrong and what to type next, and give the process its exit code."""

import pytest

from hxp_harness.errors import ExitCode, HxpError, InvalidRun, NotReady, UsageError, nearest


@pytest.mark.parametrize(("error", "code"), [(HxpError, 1), (UsageError, 2), (InvalidRun, 4), (NotReady, 5)])
def test_each_error_has_its_exit_code(error: type[HxpError], code: int) -> None:
    """The exit codes are an interface that scripts rely on."""
    assert error("wrong").exit_code == code


def test_exit_codes_of_outcomes() -> None:
    """Four outcomes, a usage error and a stack that is not ready: six numbers that never change."""
    assert {code.name: int(code) for code in ExitCode} == {
        "PASS": 0,
        "FAIL": 1,
        "USAGE": 2,
        "INCONCLUSIVE": 3,
        "INVALID": 4,
        "NOT_READY": 5,
    }


def test_a_hint_stands_below_the_message() -> None:
    """The next thing to type has a line of its own; without one there is no empty line."""
    assert str(UsageError("no model 'mixtrl'", hint="did you mean 'mixtral'?")) == (
        "no model 'mixtrl'\n  did you mean 'mixtral'?"
    )
    assert str(UsageError("no")) == "no"


def test_the_nearest_spelling_is_named() -> None:
    """A slip is answered with the one word meant, something else with all that are known."""
    assert nearest("mixtrl", ["mixtral", "phi3"]) == "did you mean 'mixtral'?"
    assert nearest("zzz", ["mixtral", "hermes"]) == "known: hermes, mixtral"
