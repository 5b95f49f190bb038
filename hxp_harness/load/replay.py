"""Recorded arrivals: a file of times, or of whole requests, read before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hxp_harness.errors import UsageError
from hxp_harness.load.recorded import Recorded, read_recorded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE_SLACK = 0.10  # the recorded rate may be off the contract's by this share
PEAK_S = 1.0  # over which a recorded rate is highest


def read_requests(file: Path) -> Recorded | None:
    """Return the requests in `file`; None where it holds times alone. Raises UsageError that names the line."""
    return read_recorded(file, _text(file))


def read_times(file: Path) -> NDArray[np.float64]:
    """Return the times in `file` in seconds, rising.

    Of recorded requests theirs; else there is one number a line, and empty lines and what follows a # do not count.
    Raises UsageError that names the line.
    """
    import numpy as np

    text = _text(file)
    recorded = read_recorded(file, text)
    if recorded is not None:
        falls = np.flatnonzero(np.diff(recorded.times_s) < 0)
        if len(falls):
            raise UsageError(f"{file}: request {falls[0] + 2} comes before the one above it", hint="sort by timestamp")
        return recorded.times_s
    times_s: list[float] = []
    for number, line in enumerate(text.splitlines(), 1):
        told = line.partition("#")[0].strip()
        if not told:
            continue
        try:
            time_s = float(told)
        except ValueError:
            raise UsageError(
                f"{file}, line {number}: {told[:40]!r} is no number of seconds", hint="one a line: 0.25"
            ) from None
        if not time_s < float("inf") or (times_s and time_s < times_s[-1]):
            raise UsageError(f"{file}, line {number}: {told} is not at or after the time before it", hint="sort -n")
        times_s.append(time_s)
    return np.array(times_s)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the arrivals in {file}: {error}") from None


def check_times(file: Path, times_s: NDArray[np.float64], count: int, rate_rps: float) -> None:
    """Raise UsageError when a run of `count` requests cannot be made of `times_s`, or has not the contract's rate."""
    if len(times_s) < count:
        raise UsageError(
            f"{file} has {len(times_s)} arrivals, the run needs {count}",
            hint="record more, or ask for less with --replicates, --requests or warm_up",
        )
    length_s = float(times_s[count - 1] - times_s[0])
    recorded_rps = (count - 1) / length_s if length_s > 0 else float("inf")
    if not abs(recorded_rps / rate_rps - 1) <= RATE_SLACK:
        raise UsageError(
            f"the first {count} arrivals in {file} come at {recorded_rps:.4g} rps, the contract says {rate_rps:g} rps",
            hint=f"they are replayed as they are: rate: {recorded_rps:.4g} rps",
        )


def peak_rps(times_s: NDArray[np.float64]) -> float:
    """Return the most arrivals within any second."""
    import numpy as np

    inside = np.searchsorted(times_s, times_s + PEAK_S, side="left") - np.arange(len(times_s))
    return float(inside.max(initial=1)) / PEAK_S
