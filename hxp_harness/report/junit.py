"""A run as JUnit XML: every gate and every check is a test case, so that any CI can show them."""

from __future__ import annotations

from markupsafe import Markup, escape

from hxp_harness.report import words
from hxp_harness.report.record import CheckResult, GateResult, Record
from hxp_harness.report.text import one_line

_TAG_OF_GATE = {"FAIL": "failure", "INCONCLUSIVE": "failure", "INVALID": "error"}
_TAG_OF_CHECK = {"failed": "error", "not_proven": "skipped"}


def junit(record: Record) -> str:
    """Return the XML. FAIL and INCONCLUSIVE are failures, INVALID is an error: nothing but PASS is green."""
    suites = [
        _suite("verdict", [_verdict(record)], record),
        _suite("gates", [_gate(gate, record) for gate in record.gates], record),
        _suite("checks", [_check(check, record) for check in record.checks], record),
    ]
    body = Markup("\n").join(suite for suite in suites if suite)
    return Markup('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="{}">\n{}\n</testsuites>\n').format(
        _said(words.title(record)), body
    )


def _suite(name: str, cases: list[tuple[str, Markup]], record: Record) -> Markup:
    if not cases:
        return Markup("")
    tags = [tag for tag, _ in cases]
    return Markup(
        '<testsuite name="hxp.{}" tests="{}" failures="{}" errors="{}" skipped="{}" timestamp="{}">\n{}\n</testsuite>'
    ).format(
        name,
        len(cases),
        tags.count("failure"),
        tags.count("error"),
        tags.count("skipped"),
        _said(record.started),
        Markup("\n").join(case for _, case in cases),
    )


def _gate(gate: GateResult, record: Record) -> tuple[str, Markup]:
    outcome = words.standing(gate, record)
    tag = _TAG_OF_GATE.get(outcome, "")
    if words.warns(gate, record):
        tag = "skipped"  # seen, and neither green nor red
    return tag, _case("gates", gate.text, tag, outcome, words.gate_sentence(gate), record)


def _verdict(record: Record) -> tuple[str, Markup]:
    """A run without a judged gate must not look like an empty, green suite."""
    tag = _TAG_OF_GATE.get(record.verdict, "")
    return tag, _case("verdict", "verdict", tag, record.verdict, words.headline(record), record)


def _check(check: CheckResult, record: Record) -> tuple[str, Markup]:
    tag = _TAG_OF_CHECK.get(check.outcome, "")
    return tag, _case("checks", check.name, tag, words.check_word(check), check.sentence, record)


def _case(suite: str, name: str, tag: str, kind: str, sentence: str, record: Record) -> Markup:
    place = f"hxp.{record.profile.get('name', 'run')}.{suite}"
    said = _said(sentence)
    tagged = Markup(tag)  # noqa: S704 - one of three words above  # nosec B704
    inner = Markup('<{0} type="{1}" message="{2}">{2}</{0}>').format(tagged, kind, said) if tag else escape("")
    out = Markup("<system-out>{}</system-out>").format(said) if said and not tag else Markup("")
    return Markup('<testcase classname="{}" name="{}" time="0">{}{}</testcase>').format(
        _said(place), _said(name), inner, out
    )


def _said(text: str) -> str:
    return one_line(text)
