"""Requests as they were recorded: JSON lines of which each has the time and the lengths of one request.

As Mooncake publishes its traces (github.com/kvcache-ai/Mooncake) and converters make them of others: `timestamp` in
milliseconds, `input_length` and `output_length` in tokens. What else a line has is not used.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hxp_harness.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLE = '{"timestamp": 250, "input_length": 512, "output_length": 64}'
KEYS = ("timestamp", "input_length", "output_length")


class Recorded(NamedTuple):
    """One entry a request, in the order of the file."""

    times_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


def read_recorded(file: Path, text: str) -> Recorded | None:
    """Return the requests in `text`, which `file` holds; None when it is no JSON lines. Raises UsageError."""
    import numpy as np

    if not text.lstrip().startswith("{"):
        return None
    rows = [_row(file, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    times_ms = np.array([row[0] for row in rows])
    lengths = np.array([row[1:] for row in rows], dtype=np.int64)
    return Recorded(times_ms / 1e3, lengths[:, 0], lengths[:, 1])


def _row(file: Path, number: int, line: str) -> tuple[float, int, int]:
    place = f"{file}, line {number}"
    try:
        row = msgspec.json.decode(line, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"{place}: {error}", hint=f"for example {EXAMPLE}") from None
    found: list[float] = []
    for key in KEYS:
        value = row.get(key)
        if key not in row:
            close = difflib.get_close_matches(key, row, n=1, cutoff=0.5)
            raise UsageError(f"{place}: {key} is missing", hint=f"{close[0]} should be {key}" if close else EXAMPLE)
        least, what = (0, "milliseconds from 0") if key == "timestamp" else (1, "a whole number of tokens from 1")
        whole = isinstance(value, int) or (key == "timestamp" and isinstance(value, float))
        if not isinstance(value, int | float) or isinstance(value, bool) or not whole or value < least:
            raise UsageError(f"{place}: {key} is {what}, not {value!r}", hint=f"for example {EXAMPLE}")
        found.append(value)
    return found[0], int(found[1]), int(found[2])
