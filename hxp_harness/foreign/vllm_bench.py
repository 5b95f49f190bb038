"""Reads what `vllm bench serve --save-result --save-detailed` writes (looked at in version 0.32.0)."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec

from hxp_harness.errors import UsageError
from hxp_harness.foreign.result import Foreign, Seen, decode, read_bytes, to_traces

MADE_BY = "vllm bench serve ... --save-result --save-detailed"
LACKS = (
    "Latencies count from sending, not from the intended time: what waited in the client is missing.",
    "TTFT ends at the first chunk with choices, which may be a role without content.",
    "Error events inside a stream and streams that were cut count as successes.",
)


class _File(msgspec.Struct):
    input_lens: list[int] = []
    output_lens: list[int] = []
    ttfts: list[float] = []
    itls: list[list[float]] = []
    start_times: list[float] = []
    errors: list[str] = []
    latencies: list[float] = []


def read(file: Path) -> Foreign:
    """Return the run in `file`; raise UsageError when it has no details of single requests."""
    found = decode(file, read_bytes(file), _File, MADE_BY)
    columns = (found.input_lens, found.output_lens, found.ttfts, found.itls, found.start_times, found.errors)
    if not found.start_times or len({len(column) for column in columns}) != 1:
        raise UsageError(f"{file} tells nothing of single requests", hint=f"make it with: {MADE_BY}")
    seen = []
    for prompt, output, ttft_s, gaps_s, sent_s, error in zip(*columns, strict=True):
        fine = not error and ttft_s > 0
        times_s = tuple(itertools.accumulate(gaps_s, initial=sent_s + ttft_s)) if fine else ()
        end_s = times_s[-1] if times_s else sent_s + ttft_s
        seen.append(Seen(sent_s, end_s, times_s, prompt, output, error="" if fine else error or "no chunk came"))
    return Foreign("vllm bench serve", to_traces(seen), LACKS)
