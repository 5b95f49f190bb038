"""Reads AIPerf's profile_export.jsonl (looked at in version 0.13.0)."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec

from hxp_harness.errors import UsageError
from hxp_harness.foreign.result import Foreign, Seen, decode, read_bytes, to_traces

MADE_BY = "aiperf profile ... --export-level records, which writes profile_export.jsonl"
LACKS = (
    "Latencies count from sending, not from the intended time: what waited in the client is missing.",
    "Error events inside a stream count as successes.",
)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}


class _Value(msgspec.Struct):
    value: float | list[float]
    unit: str


class _Metadata(msgspec.Struct):
    request_start_ns: int
    request_end_ns: int
    benchmark_phase: str = "profiling"
    was_cancelled: bool = False


class _Error(msgspec.Struct):
    message: str = "failed"


class _Line(msgspec.Struct):
    metadata: _Metadata
    metrics: dict[str, _Value] = {}
    error: _Error | None = None


def read(file: Path) -> Foreign:
    """Return the run in `file`; raise UsageError that names the line that is none of its records."""
    lines = [line for line in read_bytes(file).splitlines() if line.strip()]
    records = [decode(file, line, _Line, MADE_BY, number) for number, line in enumerate(lines, 1)]
    if not records:
        raise UsageError(f"{file} tells nothing of single requests", hint=f"such a file is made by: {MADE_BY}")
    seen = [_seen(file, record) for record in records]
    gaps = any("inter_chunk_latency" in record.metrics for record in records)
    return Foreign("AIPerf", to_traces(seen), LACKS, cannot=() if gaps else ("itl",))


def _seen(file: Path, record: _Line) -> Seen:
    metadata, error = record.metadata, record.error.message if record.error else ""
    sent_s = metadata.request_start_ns / 1e9
    if metadata.was_cancelled:
        error = error or "cancelled"
    first_s, last_s = _seconds(file, record, "time_to_first_token"), _seconds(file, record, "request_latency")
    times_s: tuple[float, ...] = ()
    if not error and last_s:
        first = first_s[0] if first_s else last_s[0]
        gaps_s = _seconds(file, record, "inter_chunk_latency")
        offsets = itertools.accumulate(gaps_s, initial=first) if gaps_s else sorted({first, last_s[0]})
        times_s = tuple(sent_s + offset_s for offset_s in offsets)
    return Seen(
        sent_s,
        metadata.request_end_ns / 1e9,
        times_s,
        _count(record, "input_sequence_length"),
        _count(record, "output_sequence_length"),
        error=error or ("" if times_s else "no token came"),
        warm_up=metadata.benchmark_phase == "warmup",
    )


def _seconds(file: Path, record: _Line, name: str) -> list[float]:
    held = record.metrics.get(name)
    if held is None:
        return []
    if held.unit not in _SECONDS:
        raise UsageError(f"{file}: {name} has the unit {held.unit!r}, which is no time")
    values = held.value if isinstance(held.value, list) else [held.value]
    return [value * _SECONDS[held.unit] for value in values]


def _count(record: _Line, name: str) -> int | None:
    held = record.metrics.get(name)
    return None if held is None or isinstance(held.value, list) else int(held.value)
