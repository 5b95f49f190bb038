"""The Markdown summary: whole, plain, and deaf to what foreign text asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hxp_harness.report.markdown import markdown
from hxp_harness.report.record import CheckResult, read_record

MakeRun = Callable[..., Path]
HOSTILE = '<script>alert("x")</script> | `rm` \x1b[31m @everyone\nnext'


def test_the_summary_says_verdict_evidence_gates_and_commands(make_run: MakeRun) -> None:
    """A reader of the pull request learns the verdict first, and what to type last."""
    folder = make_run()
    text = markdown(read_record(folder), "reports/run")
    assert text.startswith("# PASS: Mixtral-8x7B")
    assert "**SIMULATED.**" in text
    assert "| `e2e p95 <= 2000 ms`" in text
    assert "hxp judge reports/run" in text
    assert "\x1b" not in text


def test_measured_evidence_is_no_warning(make_run: MakeRun) -> None:
    """Only evidence that is less than hardware stands out."""
    assert "Evidence: MEASURED." in markdown(read_record(make_run(evidence="measured")), "run")


def test_every_row_of_a_table_has_as_many_cells(make_run: MakeRun) -> None:
    """Tables stay tables whatever the sentences hold."""
    record = read_record(make_run())
    check = CheckResult(name=HOSTILE, outcome="failed", sentence=HOSTILE)
    text = markdown(record.model_copy(update={"checks": (check, *record.checks)}), "run")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1


@pytest.mark.owasp("LLM05:2025")
def test_foreign_text_stays_text(make_run: MakeRun) -> None:
    """A server's words bring no tag, no mention and no escape into the summary."""
    record = read_record(make_run()).model_copy(update={"verdict": "INVALID", "reasons": (HOSTILE, HOSTILE)})
    text = markdown(record, "run")
    assert "<script" not in text.replace("\\<", "")
    assert "@everyone" not in text
    assert "\x1b" not in text
    assert "\n- \\<script" in text


@pytest.mark.parametrize("missing", ["gates", "checks", "metrics"])
def test_what_is_missing_is_said_or_left_out(make_run: MakeRun, missing: str) -> None:
    """A record without gates, checks or metrics has a summary too."""
    empty: object = {} if missing == "metrics" else ()
    text = markdown(read_record(make_run()).model_copy(update={missing: empty}), "run")
    said = {"gates": "No gate was judged.", "checks": "", "metrics": "No request was measured."}[missing]
    assert said in text
