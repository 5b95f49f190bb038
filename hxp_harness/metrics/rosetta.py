"""The same traces under other tools' definitions: what each would report of the run that we measured.

The points are the upper ends of what was observed. What a tool adds by its own clock and its own lag is not in here:
this is about definitions. A role-only chunk has no time in our traces; vLLM sends it with the first token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hxp_harness.metrics import columns
from hxp_harness.metrics.definitions import Demand
from hxp_harness.metrics.peers import Peer, Row, Seen, rows
from hxp_harness.metrics.table import Bools, Floats, Ints, Singles, TraceTable

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Reported:
    """What one tool would print for one subject; None: it prints nothing, and `row.formula` says why."""

    row: Row
    n: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PointGaps:
    """Gaps between arrivals as a tool with points only sees them, request after request, all rows of a run."""

    values_s: Singles
    counts: Ints  # how many gaps each row has

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch]) -> PointGaps:
        """Take the upper ends of the token times in `batches`."""
        values, counts = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
        for batch in batches:
            _, hi_s, seen = columns.tokens(batch)
            first = np.zeros(len(hi_s), np.bool_)
            starts = np.cumsum(seen) - seen
            first[starts[seen > 0]] = True
            values.append(np.diff(hi_s)[~first[1:]].astype(np.float32))
            counts.append(np.maximum(seen - 1, 0).astype(np.int32))
        return cls(np.concatenate(values), np.concatenate(counts))

    @classmethod
    def read(cls, path: Path) -> PointGaps:
        """Read them from traces.parquet, which is whole."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(path, pre_buffer=False) as file:
            return cls.of(columns.read_batches(file, tokens=True))

    def where(self, chosen: Bools) -> Floats:
        """Return the gaps of the rows for which `chosen` is true."""
        return np.asarray(self.values_s[np.repeat(chosen, self.counts)], dtype=np.float64)


def translate(table: TraceTable, gaps: PointGaps, demands: Sequence[Demand] = ()) -> dict[str, list[Reported]]:
    """Return for each subject what every tool would report of the measured requests, in base units.

    `table` is a whole run and `gaps` those of its rows; `demands` are the latency limits that goodput counts.
    """
    found: dict[str, list[Reported]] = {}
    for row in rows():
        found.setdefault(row.subject, []).append(_reported(row, observe(table, gaps, row.peer), demands))
    return found


def _reported(row: Row, seen: Seen, demands: Sequence[Demand]) -> Reported:
    if row.values is None or seen.attempted == 0:
        return Reported(row, 0)
    values = row.values(seen)
    if row.subject == "goodput":
        good = _good(row.peer, seen, demands)
        return Reported(row, 0) if good is None else Reported(row, seen.attempted, float(values[good].sum()))
    if row.total:
        return Reported(row, seen.attempted, float(values.sum()))
    if len(values) == 0:
        return Reported(row, 0)
    percentile = row.peer.percentile
    return Reported(row, len(values), float(values.mean()), *(percentile(values, q) for q in (0.5, 0.95, 0.99)))


def observe(table: TraceTable, gaps: PointGaps, peer: Peer) -> Seen:
    """Return what `peer` would have taken into its figures: the measured requests that it counts as successes."""
    measured = table.replicate >= 0
    counted: Bools = table.ok & measured
    for kind in peer.counts:
        counted |= (table.error == kind) & (table.tokens_seen > 0) & measured
    taken, table = table.where(counted), table.measured
    output_tokens = np.where(taken.output_tokens >= 0, taken.output_tokens, taken.tokens_seen)
    started_s = table.sent_s[~np.isnan(table.sent_s)]
    ended_s = table.end_s[~np.isnan(table.sent_s)]
    return Seen(
        intended_s=taken.intended_s,
        sent_s=taken.sent_s,
        first_s=taken.first_hi_s,
        last_s=taken.last_hi_s,
        end_s=taken.end_s,
        output_tokens=output_tokens.astype(np.float64),
        prompt_tokens=np.maximum(taken.prompt_tokens, 0).astype(np.float64),
        gaps_s=gaps.where(counted),
        attempted=len(table),
        window_s=float(np.nanmax(ended_s) - started_s.min()) if len(started_s) else 0.0,
        first_due_s=float(table.intended_s.min(initial=np.inf)),
        last_due_s=float(table.intended_s.max(initial=-np.inf)),
    )


def _good(peer: Peer, seen: Seen, demands: Sequence[Demand]) -> Bools | None:
    """Return which requests meet every demand by the tool's own values; None without demands that it can make."""
    good: Bools = np.ones(len(seen.sent_s), np.bool_)
    for demand in demands:
        if demand.metric not in peer.per_request:
            return None
        values = peer.per_request[demand.metric](seen)
        meets = values < demand.limit if demand.strict else values <= demand.limit
        good &= meets | (np.isnan(values) & peer.undefined_is_good)
    return good if demands else None
