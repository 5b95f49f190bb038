"""JUnit XML: well-formed for any text, and green for nothing but a PASS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hxp_harness.gates.outcome import Effect
from hxp_harness.report.junit import junit
from hxp_harness.report.record import CheckResult, GateResult, Record, read_record
from hxp_harness.target import Evidence

MakeRun = Callable[..., Path]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # half a surrogate pair never enters a record

WARNING = GateResult(
    text="warn e2e p95 <= 1 s",
    metric="e2e",
    unit="s",
    operator="<=",
    outcome="FAIL",
    limit=1.0,
    sentence="too slow",
    effect=Effect.WARN,
)


def made_up(text: str, verdict: str) -> Record:
    gate = {"text": text, "metric": "e2e", "unit": "s", "outcome": "FAIL", "limit": 1.0, "sentence": text}
    check = {"name": text, "outcome": "failed", "sentence": text}
    return Record.model_validate(
        {
            "id": text,
            "started": text,
            "verdict": verdict,
            "reasons": [text],
            "evidence": Evidence.TINY,
            "gates": [gate],
            "checks": [check, check | {"outcome": "not_proven"}, check | {"outcome": "ok"}],
            "profile": {"title": text, "name": text},
        }
    )


def test_every_gate_and_check_is_a_case(make_run: MakeRun) -> None:
    """A PASS has as many cases as verdict, gates and checks together, none of them red."""
    record = read_record(make_run())
    tree = ET.fromstring(junit(record))
    names = [case.get("name") for case in tree.iter("testcase")]
    assert names[0] == "verdict"
    assert len(names) == 1 + len(record.gates) + len(record.checks)
    assert not list(tree.iter("failure"))
    assert not list(tree.iter("error"))
    assert {case.get("message") for case in tree.iter("skipped")} >= {
        check.sentence for check in record.checks if check.outcome == "not_proven"
    }


@pytest.mark.parametrize(
    ("median_s", "sent", "tag"), [(1.9, True, "failure"), (1.62, True, "failure"), (1.2, False, "error")]
)
def test_nothing_but_a_pass_is_green(make_run: MakeRun, median_s: float, sent: bool, tag: str) -> None:
    """FAIL and INCONCLUSIVE are failures, INVALID is an error, each with its sentence."""
    record = read_record(make_run(median_s=median_s, sent=sent))
    tree = ET.fromstring(junit(record))
    verdict = next(tree.iter("testcase"))
    found = verdict.find(tag)
    assert found is not None
    assert found.get("type") == record.verdict
    assert found.get("message") == record.reasons[0]


def test_no_gate_of_an_invalid_run_is_green() -> None:
    """In a run that cannot be trusted even a gate that holds is an error."""
    record = made_up("x", "INVALID")
    passing = GateResult(text="x", metric="e2e", unit="s", outcome="PASS", limit=1.0)
    tree = ET.fromstring(junit(record.model_copy(update={"gates": (passing,)})))
    gates = next(suite for suite in tree.iter("testsuite") if suite.get("name") == "hxp.gates")
    assert gates.get("errors") == "1"


def test_a_run_without_gates_is_not_an_empty_green_suite() -> None:
    """The verdict itself is a case, so that no reader counts zero failures of zero."""
    tree = ET.fromstring(junit(made_up("x", "INVALID").model_copy(update={"gates": (), "checks": ()})))
    assert len(list(tree.iter("error"))) == 1


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]))
def test_any_text_is_well_formed(text: str, verdict: str) -> None:
    """Whatever a server said, the XML parses and counts what it holds."""
    tree = ET.fromstring(junit(made_up(text, verdict)).encode("utf-8"))
    for suite in tree.iter("testsuite"):
        assert suite.get("tests") == str(len(suite))
        for tag in ("failure", "error", "skipped"):
            assert suite.get({"failure": "failures", "error": "errors"}.get(tag, tag)) == str(
                len(list(suite.iter(tag)))
            )


def test_checks_keep_their_sentence() -> None:
    """A failed check is an error that says what was seen."""
    record = made_up("x", "INVALID").model_copy(
        update={"checks": (CheckResult(name="clock steady", outcome="failed", sentence="It moved by 1 s."),)}
    )
    assert 'message="It moved by 1 s."' in junit(record)


def test_a_warning_is_neither_green_nor_red() -> None:
    """A gate that only warns and is not met is skipped, with its sentence."""
    text = junit(made_up("slow", "PASS").model_copy(update={"gates": (WARNING,)}))
    (case,) = [one for one in ET.fromstring(text).iter("testcase") if str(one.get("classname")).endswith(".gates")]
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "too slow"
