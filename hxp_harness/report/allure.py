"""A run as Allure results: every gate and every check is a test result, and every percentile a performance metric."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import attr
from allure_commons.model2 import Attachment, Label, Parameter, StatusDetails, TestResult

from hxp_harness.report import words
from hxp_harness.report.files import write_whole
from hxp_harness.report.record import Record
from hxp_harness.report.text import one_line

FOLDER = "allure-results"

_STATUS_OF_GATE = {"PASS": "passed", "FAIL": "failed", "INCONCLUSIVE": "broken", "INVALID": "broken"}
_STATUS_OF_CHECK = {"ok": "passed", "failed": "broken", "not_proven": "skipped"}
_ATTACHED = {
    "report.html": "text/html",
    "report.md": "text/markdown",
    "run.json": "application/json",
}


def write_allure(run_dir: Path, record: Record) -> Path:
    """Write allure-results/ anew into `run_dir` and return it; files of `run_dir` that exist are attached."""
    draft, folder = run_dir / f".{FOLDER}.draft", run_dir / FOLDER
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    attachments = [
        _attach(draft, run_dir / name, kind) for name, kind in _ATTACHED.items() if (run_dir / name).exists()
    ]
    for result in _results(record):
        result.attachments = attachments
        _write(draft / f"{result.uuid}-result.json", attr.asdict(result, filter=lambda _, held: bool(held)))
    _write(draft / f"{_id(record, 'metrics')}-perf.json", performance(record))
    write_whole(draft / "environment.properties", _environment(record))
    shutil.rmtree(folder, ignore_errors=True)
    return draft.rename(folder)


def performance(record: Record) -> list[dict[str, str | int | float]]:
    """Return Allure 3's performance metrics; times in ms, so that a trend reads as people speak."""
    start, stop = _span_ms(record)
    found: list[dict[str, str | int | float]] = []
    for name, figures in record.metrics.items():
        factor, unit = (1e3, "ms") if figures.unit == "s" else (1.0, figures.unit)
        for statistic in ("mean", "p50", "p95", "p99"):
            held = getattr(figures, statistic)
            if held is not None:
                key = f"{_profile(record)}.{name}.{statistic}"
                told = {"id": _id(record, key), "key": f"{key} [{unit}]", "value": held * factor}
                found.append({**told, "start": start, "stop": stop})
    return found


def _results(record: Record) -> Iterable[TestResult]:
    verdict = _STATUS_OF_GATE[record.verdict]
    yield _result(record, "verdict", "verdict", verdict, words.headline(record), {"verdict": record.verdict})
    for row in words.gate_rows(record):
        facts = {"outcome": row.outcome, "estimate": row.estimate, "confidence": row.interval, "limit": row.limit}
        status = "skipped" if row.warns else _STATUS_OF_GATE[row.outcome]
        yield _result(record, "gates", row.text, status, row.sentence, {**facts, "n": row.n})
    for check in record.checks:
        facts = {"outcome": words.check_word(check)}
        yield _result(record, "checks", check.name, _STATUS_OF_CHECK[check.outcome], check.sentence, facts)


def _result(record: Record, part: str, name: str, status: str, sentence: str, facts: dict[str, str]) -> TestResult:
    """`historyId` leaves the run out, so that Allure shows one gate over all runs of a profile."""
    start, stop = _span_ms(record)
    place = f"hxp.{_profile(record)}.{part}.{one_line(name)}"
    labels = {"parentSuite": "performance", "suite": _profile(record), "subSuite": part, "tag": record.evidence.value}
    return TestResult(
        uuid=_id(record, place),
        historyId=uuid.uuid5(uuid.NAMESPACE_URL, place).hex,
        testCaseId=uuid.uuid5(uuid.NAMESPACE_URL, place).hex,
        fullName=place,
        name=one_line(name),
        status=status,
        statusDetails=StatusDetails(message=one_line(sentence)),
        stage="finished",
        description=words.evidence(record),
        labels=[Label(name=key, value=held) for key, held in labels.items()],
        parameters=[Parameter(name=key, value=held) for key, held in facts.items()],
        start=start,
        stop=stop,
    )


def _attach(folder: Path, file: Path, kind: str) -> Attachment:
    source = f"{uuid.uuid5(uuid.NAMESPACE_URL, file.name)}-attachment{file.suffix}"
    shutil.copyfile(file, folder / source)
    return Attachment(name=file.name, source=source, type=kind)


def _environment(record: Record) -> str:
    facts = {"profile": _profile(record), "evidence": record.evidence.value, "run": record.id}
    facts |= {key: str(held) for key, held in record.environment.items() if isinstance(held, str | int | float)}
    return "".join(f"{key.replace(' ', '_').replace('=', '_')}={one_line(held)}\n" for key, held in facts.items())


def _span_ms(record: Record) -> tuple[int, int]:
    try:
        start = int(datetime.fromisoformat(record.started).timestamp() * 1000)
    except ValueError:
        start = 0
    ended_s = max((replicate.ended_s or 0.0 for replicate in record.replicates), default=0.0)
    return start, start + int(ended_s * 1000)


def _profile(record: Record) -> str:
    return one_line(str(record.profile.get("name", "run")))


def _id(record: Record, name: str) -> str:
    """The same run writes the same files, however often its views are made."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{record.id}/{name}"))


def _write(file: Path, tree: object) -> None:
    write_whole(file, json.dumps(tree, ensure_ascii=False, allow_nan=False))
