"""What judging needs of a request's token times, worked out once when they are written: the digest columns.

64 token times a request are nine tenths of a trace file, and a verdict reads them only for a gate on single gaps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # importing pyarrow takes 50 ms and 30 MB
    import pyarrow as pa

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

# Bounds of the first and last arrival and of the sum of the gaps between all arrivals, s; then how many arrivals
TYPES = {
    "first_lo_s": np.dtype(np.float64),
    "first_hi_s": np.dtype(np.float64),
    "last_lo_s": np.dtype(np.float64),
    "last_hi_s": np.dtype(np.float64),
    "gaps_lo_s": np.dtype(np.float64),
    "gaps_hi_s": np.dtype(np.float64),
    "tokens_seen": np.dtype(np.int32),
}


def digest(lo_s: Floats, hi_s: Floats, counts: Ints) -> dict[str, NDArray[np.generic]]:
    """Return the digest columns of rows with `counts` token times each; NaN where none came."""
    after, some = np.cumsum(counts), counts > 0
    found: dict[str, NDArray[np.generic]] = {}
    for name, place in (("first", after - counts), ("last", after - 1)):
        for bound, times_s in (("lo", lo_s), ("hi", hi_s)):
            values = np.full(len(counts), np.nan)
            values[some] = times_s[place[some]]
            found[f"{name}_{bound}_s"] = values
    lower, upper = gaps(lo_s, hi_s, counts, np.ones(len(counts), np.bool_))
    several = counts > 1
    starts = (np.cumsum(counts[several] - 1) - (counts[several] - 1)).astype(np.int64)
    for bound, lengths_s in (("lo", lower), ("hi", upper)):
        values = np.where(some, 0.0, np.nan)
        if len(starts):
            values[several] = np.add.reduceat(lengths_s, starts)
        found[f"gaps_{bound}_s"] = values
    found["tokens_seen"] = counts
    return found


def gaps(lo_s: Floats, hi_s: Floats, counts: Ints, kept: Bools) -> tuple[Floats, Floats]:
    """Return bounds of the gaps between arrivals within each request kept: they were at least and at most so long."""
    inside = np.repeat(kept, counts)[:-1]
    last = np.cumsum(counts)[counts > 0] - 1  # the gap behind a last token leads into another request
    inside[last[last < len(inside)]] = False
    return np.maximum(lo_s[1:] - hi_s[:-1], 0.0)[inside], (hi_s[1:] - lo_s[:-1])[inside]


def with_digest(batch: pa.RecordBatch, found: dict[str, NDArray[np.generic]], layout: pa.Schema) -> pa.RecordBatch:
    """Return `batch` with the digest columns behind its own; `layout` is the schema of both."""
    import pyarrow as pa

    # nan is told as nan, not as null: what is read back is what was worked out
    digested = [pa.array(found[name], layout.field(name).type) for name in TYPES]
    return pa.RecordBatch.from_arrays([*batch.columns, *digested], schema=layout)
