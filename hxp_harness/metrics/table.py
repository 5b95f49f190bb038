"""Many traces as columns: what metrics are computed from, read out of the file `traces.parquet`.

The file has one row a request and one column a field of `Trace`, under the same name and in the same units; what a
Trace calls None is null. `token_lo_s` and `token_hi_s` are list<double>. One line reads it:

    pandas.read_parquet("traces.parquet")
    polars.read_parquet("traces.parquet")
    duckdb.sql("select replicate, count(*) from 'traces.parquet' group by 1")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hxp_harness.errors import UsageError
from hxp_harness.metrics import columns
from hxp_harness.trace import Trace

if TYPE_CHECKING:  # importing pyarrow takes 50 ms and 30 MB
    import pyarrow as pa

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Bools = NDArray[np.bool_]
Texts = NDArray[np.str_]  # of numpy's variable-length string type


@dataclass(frozen=True, slots=True, eq=False)
class TraceTable:
    """Columns of many traces, one entry a request; a time that is not known is NaN, a number that is not, -1.

    Of the token times it keeps what metrics need, since all of them would fill the memory: bounds of the first and
    the last, and bounds of the gaps between them, but only of requests that are complete and no warm-up. Gaps are in
    single precision, right to 1 part in 16 million. The file has every time in full, and the texts about single
    requests (request_id, finish_reason, detail), which are not read back. Tables made of some rows share the gaps:
    request i's begin at `gap_start[i]`.
    """

    index: Ints
    replicate: Ints
    intended_s: Floats
    asked_prompt_tokens: Ints
    asked_output_tokens: Ints
    tag: Texts
    sent_s: Floats
    end_s: Floats
    chunks: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints
    status: Ints
    error: Texts
    read_lag_s: Floats
    new_connection: Bools
    first_lo_s: Floats
    first_hi_s: Floats
    last_lo_s: Floats
    last_hi_s: Floats
    tokens_seen: Ints  # arrivals: chunks, counted as often as they have tokens where the server tells
    gap_start: Longs
    gap_count: Ints
    all_gap_lo_s: Singles
    all_gap_hi_s: Singles
    stream: bool = True  # False: the contract was without streaming

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def from_traces(cls, traces: Iterable[Trace], *, stream: bool = True) -> TraceTable:
        """Make a table of traces; they are not all held at once."""
        batches = list(columns.batches(traces))
        rows = sum(batch.num_rows for batch in batches)
        tokens = sum(len(columns.tokens(batch)[0]) for batch in batches)
        return cls._fill(iter(batches), rows, tokens, stream=stream)

    @classmethod
    def read(cls, path: Path) -> TraceTable:
        """Read what `write_traces` wrote; raise UsageError when `path` holds no traces."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                columns.check_schema(path, file.schema_arrow)
                stream = columns.is_stream(file.schema_arrow)
                rows, room = file.metadata.num_rows, columns.token_room(file.metadata)
                return cls._fill(columns.read_batches(file), rows, room, stream=stream)
        except (pa.ArrowInvalid, OSError) as error:
            reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            raise UsageError(f"{path} {reason}", hint="name the folder of a finished run") from None

    @classmethod
    def _fill(cls, batches: Iterator[pa.RecordBatch], rows: int, room: int, *, stream: bool) -> TraceTable:
        """Copy batches into arrays of the final size: joining lists of arrays would need everything twice."""
        plain = {name: np.zeros(rows, kind) for name, kind in columns.NUMPY_TYPES.items()}
        ends = {name: np.full(rows, np.nan) for name in ("first_lo_s", "first_hi_s", "last_lo_s", "last_hi_s")}
        counts, gaps = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        gap_lo_s, gap_hi_s = np.zeros(room, np.float32), np.zeros(room, np.float32)
        row = gap = 0
        for batch in batches:
            after = row + batch.num_rows
            for name, array in plain.items():
                array[row:after] = columns.to_numpy(batch, name)
            lo_s, hi_s, seen = columns.tokens(batch)
            counts[row:after] = seen
            for name, values in _ends(lo_s, hi_s, seen).items():
                ends[name][row:after] = values
            kept = (plain["error"][row:after] == "") & (plain["replicate"][row:after] >= 0)
            gaps[row:after] = np.where(kept, np.maximum(seen - 1, 0), 0)
            lower, upper = _gaps(lo_s, hi_s, seen, kept)
            gap_lo_s[gap : gap + len(lower)], gap_hi_s[gap : gap + len(upper)] = lower, upper
            row, gap = after, gap + len(lower)
        return cls(
            **plain,
            **ends,
            tokens_seen=counts,
            gap_start=np.cumsum(gaps, dtype=np.int64) - gaps,
            gap_count=gaps,
            all_gap_lo_s=gap_lo_s[:gap],
            all_gap_hi_s=gap_hi_s[:gap],
            stream=stream,
        )

    @property
    def ok(self) -> Bools:
        """Which requests are complete and honest."""
        return np.asarray(self.error == "", dtype=np.bool_)

    @property
    def measured(self) -> TraceTable:
        """The table without its warm-up."""
        return self.where(self.replicate >= 0)

    @property
    def requests(self) -> dict[int, int]:
        """How many requests each replicate has, ascending, without warm-up."""
        counts = np.bincount(self.replicate + 1)[1:]  # np.unique would import numpy.ma, a tenth of a second
        return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}

    @property
    def replicates(self) -> list[int]:
        """Numbers of the replicates here, ascending, without warm-up."""
        return list(self.requests)

    def select(self, replicate: int) -> TraceTable:
        """Return one replicate (-1: the warm-up)."""
        return self.where(self.replicate == replicate)

    def where(self, chosen: Bools) -> TraceTable:
        """Return the requests for which `chosen` is true; the table itself, not a copy, when that is all of them."""
        if bool(chosen.all()):
            return self
        plain = (*columns.NUMPY_TYPES, "first_lo_s", "first_hi_s", "last_lo_s", "last_hi_s", "tokens_seen")
        rows = {name: getattr(self, name)[chosen] for name in (*plain, "gap_start", "gap_count")}
        return replace(self, **rows)

    def gaps_s(self) -> tuple[Singles, Singles]:
        """Return bounds of every gap between token arrivals, request after request."""
        total = int(self.gap_count.sum())
        if total == len(self.all_gap_lo_s):
            return self.all_gap_lo_s, self.all_gap_hi_s
        shift = self.gap_start - (np.cumsum(self.gap_count) - self.gap_count)
        places = np.repeat(shift, self.gap_count) + np.arange(total)
        return self.all_gap_lo_s[places], self.all_gap_hi_s[places]


def write_traces(path: Path, traces: Iterable[Trace], *, stream: bool = True) -> int:
    """Write traces as Parquet while they come, a few thousand held at a time; return how many there were."""
    return columns.write(path, columns.batches(traces), stream=stream)


def _ends(lo_s: Floats, hi_s: Floats, counts: Ints) -> dict[str, Floats]:
    """Return bounds of each request's first and last token; NaN where none came."""
    after, some = np.cumsum(counts), counts > 0
    found = {}
    for name, place in (("first", after - counts), ("last", after - 1)):
        for bound, times_s in (("lo", lo_s), ("hi", hi_s)):
            values = np.full(len(counts), np.nan)
            values[some] = times_s[place[some]]
            found[f"{name}_{bound}_s"] = values
    return found


def _gaps(lo_s: Floats, hi_s: Floats, counts: Ints, kept: Bools) -> tuple[Floats, Floats]:
    """Return bounds of the gaps between arrivals within each request kept: they were at least and at most so long."""
    inside = np.repeat(kept, counts)[:-1]
    last = np.cumsum(counts)[counts > 0] - 1  # the gap behind a last token leads into another request
    inside[last[last < len(inside)]] = False
    return np.maximum(lo_s[1:] - hi_s[:-1], 0.0)[inside], (hi_s[1:] - lo_s[:-1])[inside]
