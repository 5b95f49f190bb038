"""Many traces as columns: what metrics are computed from, read out of the file `traces.parquet`.

The file has one row a request and one column a field of `Trace`, under the same name and in the same units; what a
Trace calls None is null. `token_lo_s` and `token_hi_s` are list<double>. One line reads it:

    pandas.read_parquet("traces.parquet")
    polars.read_parquet("traces.parquet")
    duckdb.sql("select replicate, count(*) from 'traces.parquet' group by 1")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hxp_harness.errors import UsageError
from hxp_harness.metrics import columns
from hxp_harness.metrics.digest import TYPES as DIGEST_TYPES
from hxp_harness.metrics.digest import digest, gaps
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
    single precision, right to 1 part in 16 million; they are missing where the table was read without them. The file
    has every time in full, and the texts about single requests (request_id, finish_reason, detail), which are not read
    back. Tables made of some rows share the gaps: request i's begin at `gap_start[i]`.
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
    gaps_lo_s: Floats  # bounds of the sum of the gaps between arrivals
    gaps_hi_s: Floats
    tokens_seen: Ints  # arrivals: chunks, counted as often as they have tokens where the server tells
    gap_start: Longs
    gap_count: Ints
    all_gap_lo_s: Singles
    all_gap_hi_s: Singles
    stream: bool = True  # False: the contract was without streaming
    has_gaps: bool = True  # False: read without them

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
    def read(cls, path: Path, *, gaps: bool = True) -> TraceTable:
        """Read what `write_traces` wrote; raise UsageError when `path` holds no traces.

        Without `gaps` it takes a tenth of the time and of the memory, and only `gaps_s` is not to be had.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                columns.check_schema(path, file.schema_arrow)
                stream = columns.is_stream(file.schema_arrow)
                tokens = gaps or not columns.is_digested(file.schema_arrow)
                room = columns.token_room(file.metadata) if gaps else 0
                batches = columns.read_batches(file, tokens=tokens)
                return cls._fill(batches, file.metadata.num_rows, room, stream=stream, gaps=gaps, tokens=tokens)
        except (pa.ArrowInvalid, OSError) as error:
            reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            raise UsageError(f"{path} {reason}", hint="name the folder of a finished run") from None

    @classmethod
    def _fill(
        cls,
        batches: Iterator[pa.RecordBatch],
        rows: int,
        room: int,
        *,
        stream: bool,
        gaps: bool = True,
        tokens: bool = True,
    ) -> TraceTable:
        """Copy batches into arrays of the final size: joining lists of arrays would need everything twice.

        `tokens` says that the batches have all token times; `gaps` that the gaps are kept. A digest is worked out only
        where the batches have none.
        """
        held = {name: np.zeros(rows, kind) for name, kind in (columns.NUMPY_TYPES | DIGEST_TYPES).items()}
        store = _Gaps(rows, room)
        row = 0
        for batch in batches:
            part = slice(row, row + batch.num_rows)
            row = part.stop
            for name in columns.NUMPY_TYPES:
                held[name][part] = columns.to_numpy(batch, name)
            times = columns.tokens(batch) if tokens else None
            found = {} if times is None or columns.is_digested(batch.schema) else digest(*times)
            for name in DIGEST_TYPES:
                held[name][part] = found[name] if found else columns.to_numpy(batch, name)
            kept = (held["error"][part] == "") & (held["replicate"][part] >= 0)
            store.add(part, held["tokens_seen"][part], kept, times if gaps else None)
        return cls(**held, **store.columns(), stream=stream, has_gaps=gaps)

    @classmethod
    def joined(cls, tables: Sequence[TraceTable]) -> TraceTable:
        """Return the rows of one or more tables, one table's after another's; they hold gaps all, or none."""
        names = (*columns.NUMPY_TYPES, *DIGEST_TYPES, "gap_count", "all_gap_lo_s", "all_gap_hi_s")
        rows: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in tables]) for name in names}
        before = np.cumsum([0, *(len(table.all_gap_lo_s) for table in tables[:-1])])
        starts = [table.gap_start + shift for table, shift in zip(tables, before, strict=True)]
        return replace(tables[0], **rows, gap_start=np.concatenate(starts))

    def without_gaps(self) -> TraceTable:
        """Return the table as if it had been read without gaps: most of its memory is theirs."""
        none = np.zeros(0, np.float32)
        return replace(self, all_gap_lo_s=none, all_gap_hi_s=none, has_gaps=False)

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
        plain = (*columns.NUMPY_TYPES, *DIGEST_TYPES, "gap_start", "gap_count")
        rows = {name: getattr(self, name)[chosen] for name in plain}
        return replace(self, **rows)

    def in_order(self) -> TraceTable:
        """Return the requests in the order of the schedule; the file has them in the order in which they ended."""
        order = np.argsort(self.index, kind="stable")
        plain = (*columns.NUMPY_TYPES, *DIGEST_TYPES, "gap_start", "gap_count")
        return replace(self, **{name: getattr(self, name)[order] for name in plain})

    def rows(self, start: int, stop: int) -> TraceTable:
        """Return the rows from `start` up to `stop`; nothing is copied."""
        plain = (*columns.NUMPY_TYPES, *DIGEST_TYPES, "gap_start", "gap_count")
        return replace(self, **{name: getattr(self, name)[start:stop] for name in plain})

    def gaps_s(self) -> tuple[Singles, Singles]:
        """Return bounds of every gap between token arrivals, request after request.

        Raises RuntimeError for a table that was read without them.
        """
        if not self.has_gaps:
            raise RuntimeError("this table was read without gaps: TraceTable.read(path, gaps=True) has them")
        total = int(self.gap_count.sum())
        if total == len(self.all_gap_lo_s):
            return self.all_gap_lo_s, self.all_gap_hi_s
        start = int(self.gap_start[0]) if len(self) else 0
        if bool((np.diff(self.gap_start) == self.gap_count[:-1]).all()):  # they stand side by side
            return self.all_gap_lo_s[start : start + total], self.all_gap_hi_s[start : start + total]
        shift = self.gap_start - (np.cumsum(self.gap_count) - self.gap_count)
        places = np.repeat(shift, self.gap_count) + np.arange(total)
        return self.all_gap_lo_s[places], self.all_gap_hi_s[places]


class _Gaps:
    """Collects the gaps of the requests kept, and where each request's begin."""

    def __init__(self, rows: int, room: int) -> None:
        self._counts = np.zeros(rows, np.int32)
        self._lo_s, self._hi_s = np.zeros(room, np.float32), np.zeros(room, np.float32)
        self._end = 0

    def add(self, rows: slice, seen: Ints, kept: Bools, times: tuple[Floats, Floats, Ints] | None) -> None:
        """Take rows with so many arrivals `seen` each; without `times` only the counts are known."""
        self._counts[rows] = np.where(kept, np.maximum(seen - 1, 0), 0)
        if times is None:
            return
        lower, upper = gaps(*times, kept)
        end = self._end + len(lower)
        self._lo_s[self._end : end], self._hi_s[self._end : end] = lower, upper
        self._end = end

    def columns(self) -> dict[str, NDArray[Any]]:
        return {
            "gap_start": np.cumsum(self._counts, dtype=np.int64) - self._counts,
            "gap_count": self._counts,
            "all_gap_lo_s": self._lo_s[: self._end],
            "all_gap_hi_s": self._hi_s[: self._end],
        }


def write_traces(path: Path, traces: Iterable[Trace], *, stream: bool = True) -> int:
    """Write traces as Parquet while they come, a few thousand held at a time; return how many there were."""
    return columns.write(path, columns.batches(traces), stream=stream)
