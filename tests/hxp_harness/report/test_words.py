"""How figures and verdicts are said."""

from __future__ import annotations

import pytest

from hxp_harness.report import words
from hxp_harness.report.record import GateResult, Record
from hxp_harness.target import Evidence


def record(**changes: object) -> Record:
    return Record.model_validate(
        {"id": "run-1", "started": "", "verdict": "FAIL", "evidence": Evidence.MEASURED} | changes
    )


def gate(**changes: object) -> GateResult:
    whole = {"text": "e2e p95 <= 1 s", "metric": "e2e", "unit": "s", "outcome": "FAIL", "limit": 1.0}
    return GateResult.model_validate(whole | changes)


@pytest.mark.parametrize(
    ("number", "unit", "said"),
    [(1.5, "s", "1500 ms"), (0.001, "ratio", "0.1 %"), (None, "s", "–"), (3.0, "jobs", "3 jobs"), (3.0, "", "3")],  # noqa: RUF001
)
def test_values_are_said_as_people_read_them(number: float | None, unit: str, said: str) -> None:
    """A base-unit figure comes with the unit that people use; an unknown one is a dash."""
    assert words.value(number, unit) == said


def test_an_open_interval_says_so() -> None:
    """Where one bound is missing the other is told alone; without both there is no interval."""
    assert words.interval(None, None, "s") == words.UNKNOWN
    assert words.interval(1.0, None, "s") == "at least 1000 ms"


def test_headline_is_the_first_reason_then_the_gate_then_the_meaning() -> None:
    """There is always a sentence that says why."""
    assert words.headline(record(reasons=["because"])) == "because"
    assert words.headline(record(gates=[gate(sentence="too slow")])) == "too slow"
    assert words.headline(record()) == words.MEANING["FAIL"]


def test_title_falls_back_to_name_and_id() -> None:
    """A run whose profile has no title is still called something."""
    assert words.title(record(profile={"title": "T", "name": "n"})) == "T"
    assert words.title(record(profile={"name": "n"})) == "n"
    assert words.title(record()) == "run-1"


def test_undecided_gates_tell_what_the_run_could_see() -> None:
    """INCONCLUSIVE comes with the smallest distance that the run would have seen; other outcomes do not."""
    assert "2 %" in words.gate_sentence(gate(outcome="INCONCLUSIVE", detectable=0.02))
    assert words.gate_sentence(gate(detectable=0.02, sentence="too slow")) == "too slow"


def test_reasons_that_gates_repeat_are_said_once() -> None:
    """The headline's further reasons leave out what the gates' table says."""
    found = record(reasons=["first", "too slow", "third"], gates=[gate(sentence="too slow")])
    assert words.more_reasons(found) == ["third"]


def test_no_gate_of_an_invalid_run_counts() -> None:
    """A gate that would pass is INVALID in a run that cannot be trusted."""
    assert words.standing(gate(outcome="PASS"), record(verdict="INVALID")) == "INVALID"
    assert words.standing(gate(outcome="PASS"), record(verdict="FAIL")) == "PASS"


def test_random_weights_are_named() -> None:
    """A real engine without the real weights is not said to have them."""
    assert "random weights" in words.evidence(record(environment={"target": {"weights": "dummy"}}))
    assert words.evidence(record()) == words.EVIDENCE[Evidence.MEASURED]
    simulated = record(environment={"target": {"weights": "dummy"}}, evidence=Evidence.SIMULATED)
    assert words.evidence(simulated) == words.EVIDENCE[Evidence.SIMULATED]


def test_a_warning_that_is_not_met_is_told_apart() -> None:
    """It counts for nothing in a valid run, and in an invalid one it is as invalid as everything else."""
    broken = gate(effect="warn")
    assert words.warns(broken, record())
    assert not words.warns(gate(), record())
    assert not words.warns(gate(effect="warn", outcome="PASS"), record())
    assert not words.warns(broken, record(verdict="INVALID"))
    assert words.deciding(record(gates=[gate(effect="warn", sentence="too slow")])) == []
