"""A run as Markdown: the comment on a pull request, and plain enough to be read in a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from hxp_harness.report import words
from hxp_harness.report.record import Record
from hxp_harness.report.rosetta import COMPACT_HEAD, NOTE, Rows, compact
from hxp_harness.report.telemetry import sentences
from hxp_harness.report.text import code, table
from hxp_harness.report.text import markdown as safe
from hxp_harness.target import Evidence


def markdown(record: Record, run_dir: str, others: Mapping[str, Rows] | None = None) -> str:
    """Return the summary of `record`; `run_dir` is only named in the commands at its end.

    `others` are the tables of what other tools would report.
    """
    parts = [
        f"# {record.verdict}: {safe(words.title(record))}",
        safe(words.headline(record)),
        _evidence(record),
        *_more_reasons(record),
        *_gates(record),
        *_checks(record),
        *_metrics(record),
        *_telemetry(record),
        *(_others(others, run_dir) if others else ()),
        *([safe(words.unknown(record))] if record.unknown else []),
        f"Run `{code(record.id)}`, started {safe(record.started)}. What to type next:",
        "\n".join(f"    {command}" for command, _ in words.commands(run_dir)),
    ]
    return "\n\n".join(parts) + "\n"


def _evidence(record: Record) -> str:
    label = words.evidence_label(record)
    sentence = words.evidence(record)
    return f"Evidence: {label}. {sentence}" if record.evidence is Evidence.MEASURED else f"> **{label}.** {sentence}"


def _more_reasons(record: Record) -> list[str]:
    more = words.more_reasons(record)
    return ["Also:\n\n" + "\n".join(f"- {safe(reason)}" for reason in more)] if more else []


def _gates(record: Record) -> list[str]:
    if not record.gates:
        return ["No gate was judged."]
    rows = words.gate_rows(record)
    head = ("gate", "outcome", "estimate", "99 % sure", "limit", "n")
    rows_of_gates = table(head, ((f"`{code(r.text)}`", r.outcome, r.estimate, r.interval, r.limit, r.n) for r in rows))
    sentences = "\n".join(f"- `{code(r.text)}`: {safe(r.sentence)}" for r in rows if r.sentence)
    return ["## Gates", rows_of_gates, *([sentences] if sentences else [])]


def _checks(record: Record) -> list[str]:
    if not record.checks:
        return []
    rows = ((safe(c.name), words.check_word(c), safe(c.sentence)) for c in record.checks)
    return ["## Is the measurement valid?", table(("check", "outcome", "why"), rows)]


def _metrics(record: Record) -> list[str]:
    measured = {name: held for name, held in record.metrics.items() if held.n}
    if not measured:
        return ["No request was measured."]
    rows = ((f"`{code(r.name)}`", *r.cells, r.n) for r in words.metric_rows(measured))
    return ["## Metrics", table(("metric", "mean", "p50", "p95", "p99", "n"), rows)]


def _telemetry(record: Record) -> list[str]:
    if not record.telemetry:
        return []
    rows = ((f"`{code(r.name)}`", r.cells[0], r.n) for r in words.metric_rows(record.telemetry))
    story = " ".join(safe(line) for line in sentences(record))
    return [
        "## What the server said meanwhile",
        *([story] if story else []),
        table(("figure", "value", "readings"), rows),
    ]


def _others(tables: Mapping[str, Rows], run_dir: str) -> list[str]:
    sentence = f"{NOTE} Formulas, sources and other percentiles: `hxp report {code(run_dir)} --rosetta`"
    return ["## The same run in other tools' words", table(COMPACT_HEAD, compact(tables)), sentence]
