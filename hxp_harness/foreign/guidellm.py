"""Reads GuideLLM's benchmarks.json (looked at in version 0.8.1)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hxp_harness.errors import UsageError
from hxp_harness.foreign.result import Foreign, Seen, decode, read_bytes, to_traces

MADE_BY = "guidellm benchmark run ..., which writes benchmarks.json"
LACKS = (
    "Only the first and the last token of an answer have times: gaps between tokens cannot be judged.",
    "Requests that were open at its end are left out.",
)


class _Timings(msgspec.Struct):
    targeted_start: float | None = None
    request_start: float | None = None
    first_token_iteration: float | None = None
    last_token_iteration: float | None = None
    request_end: float | None = None
    resolve_end: float | None = None


class _Info(msgspec.Struct):
    timings: _Timings
    error: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    text_tokens: int | None = None


class _Request(msgspec.Struct):
    info: _Info
    input_metrics: _Usage = _Usage()
    output_metrics: _Usage = _Usage()


class _Requests(msgspec.Struct):
    successful: list[_Request] = []
    errored: list[_Request] = []


class _Benchmark(msgspec.Struct):
    requests: _Requests


class _File(msgspec.Struct):
    benchmarks: list[_Benchmark]


def read(file: Path) -> Foreign:
    """Return the one benchmark in `file`; raise UsageError when there are more or it has no requests."""
    found = decode(file, read_bytes(file), _File, MADE_BY)
    if len(found.benchmarks) != 1:
        raise UsageError(
            f"{file} holds {len(found.benchmarks)} benchmarks, and one is judged",
            hint=f"take one of them: jq '.benchmarks |= .[0:1]' {file.name} > one.json",
        )
    requests = found.benchmarks[0].requests
    seen = [one for one in map(_seen, requests.successful) if one is not None]
    seen += [one for request in requests.errored if (one := _seen(request, "errored")) is not None]
    if not seen:
        raise UsageError(f"{file} tells nothing of single requests", hint=f"such a file is made by: {MADE_BY}")
    untimed = sum(one.intended_s is None for one in seen)
    more = (f"{untimed} requests have no intended time: theirs count from sending.",) if untimed else ()
    return Foreign("GuideLLM", to_traces(seen), (*LACKS, *more), cannot=("itl",))


def _seen(request: _Request, error: str = "") -> Seen | None:
    timings = request.info.timings
    sent_s, end_s = timings.request_start, timings.request_end or timings.resolve_end
    if sent_s is None or end_s is None:
        return None
    first_s, last_s = timings.first_token_iteration, timings.last_token_iteration
    times_s = () if first_s is None else (first_s,) if last_s is None or last_s == first_s else (first_s, last_s)
    told = request.info.error or error
    if not told and not times_s:
        told = "no token came"
    return Seen(
        sent_s,
        end_s,
        times_s,
        request.input_metrics.text_tokens,
        request.output_metrics.text_tokens,
        timings.targeted_start,
        told,
    )
