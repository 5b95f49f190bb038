"""Between traces, Arrow batches and Parquet: the columns of `traces.parquet` and their types."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from hxp_harness.errors import UsageError
from hxp_harness.metrics import digest
from hxp_harness.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 2048  # 2048 traces of 64 tokens are 8 MB as Python objects
_STREAM_KEY = b"hxp.stream"
_TEXT = np.dtypes.StringDType()

# column -> (Arrow type, numpy type); null is NaN in floats and -1 in integers
_TYPES: dict[str, tuple[str, np.dtype]] = {
    "index": ("int32", np.dtype(np.int32)),
    "replicate": ("int32", np.dtype(np.int32)),
    "intended_s": ("float64", np.dtype(np.float64)),
    "asked_prompt_tokens": ("int32", np.dtype(np.int32)),
    "asked_output_tokens": ("int32", np.dtype(np.int32)),
    "tag": ("string", _TEXT),
    "sent_s": ("float64", np.dtype(np.float64)),
    "end_s": ("float64", np.dtype(np.float64)),
    "chunks": ("int32", np.dtype(np.int32)),
    "prompt_tokens": ("int32", np.dtype(np.int32)),
    "output_tokens": ("int32", np.dtype(np.int32)),
    "cached_tokens": ("int32", np.dtype(np.int32)),
    "status": ("int32", np.dtype(np.int32)),
    "finish_reason": ("string", _TEXT),
    "error": ("string", _TEXT),
    "detail": ("string", _TEXT),
    "read_lag_s": ("float64", np.dtype(np.float64)),
    "new_connection": ("bool", np.dtype(np.bool_)),
    "request_id": ("string", _TEXT),
}
# What a table holds: the rest is text for whoever looks at one request, and 100,000 of them cost memory.
NUMPY_TYPES = {
    name: kind for name, (_, kind) in _TYPES.items() if name not in {"request_id", "detail", "finish_reason"}
}
_NULLABLE = ("sent_s", "end_s", "prompt_tokens", "output_tokens", "cached_tokens", "status")
_TOKENS = ("token_lo_s", "token_hi_s")


def schema(*, stream: bool = True, digested: bool = False) -> pa.Schema:
    """Return the columns of traces, and of the file with `digested`; whether the contract streamed is metadata."""
    import pyarrow as pa

    plain = [pa.field(name, _arrow(kind)) for name, (kind, _) in _TYPES.items()]
    lists = [pa.field(name, pa.list_(pa.float64())) for name in _TOKENS]
    more = [pa.field(name, _arrow(str(kind))) for name, kind in digest.TYPES.items()] if digested else []
    return pa.schema(plain + lists + more, metadata={_STREAM_KEY: b"1" if stream else b"0"})


def _arrow(kind: str) -> pa.DataType:
    import pyarrow as pa

    known: dict[str, pa.DataType] = {
        "int32": pa.int32(),
        "float64": pa.float64(),
        "string": pa.string(),
        "bool": pa.bool_(),
    }
    return known[kind]


def batches(traces: Iterable[Trace]) -> Iterator[pa.RecordBatch]:
    """Turn traces into Arrow batches of `BATCH_ROWS`, holding no more than that at a time."""
    import pyarrow as pa

    source = iter(traces)
    layout = schema()
    while chunk := list(itertools.islice(source, BATCH_ROWS)):
        arrays = [pa.array([getattr(trace, field.name) for trace in chunk], field.type) for field in layout]
        yield pa.RecordBatch.from_arrays(arrays, schema=layout)


def is_digested(found: pa.Schema) -> bool:
    """Whether a file has the digest columns, so that judging need not read its token times."""
    return all(name in found.names for name in digest.TYPES)


def read_batches(file: pq.ParquetFile, *, tokens: bool) -> Iterator[pa.RecordBatch]:
    """Yield the rows that a table keeps, with all token times where asked for, and their digest where the file has it.

    Gives memory back in between: Arrow would keep 30 MB that it no longer uses.
    """
    import pyarrow as pa

    stored = digest.TYPES if is_digested(file.schema_arrow) else ()
    names = [*NUMPY_TYPES, *(_TOKENS if tokens else ()), *stored]
    # the two columns of token times are nine tenths of the work, and each can have a core
    for number, batch in enumerate(file.iter_batches(BATCH_ROWS, columns=names, use_threads=tokens)):
        yield batch
        if number % 8 == 7:
            pa.default_memory_pool().release_unused()
    pa.default_memory_pool().release_unused()


def write(path: Path, source: Iterable[pa.RecordBatch], *, stream: bool) -> int:
    """Write batches to `path`, whole or not at all, each as its own row group; return the number of rows.

    The digest columns are worked out on the way.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    part = path.with_name(path.name + ".part")
    layout = schema(stream=stream, digested=True)
    with pq.ParquetWriter(part, layout, compression="zstd") as writer:
        for batch in source:
            whole = digest.with_digest(batch, digest.digest(*tokens(batch)), layout)
            writer.write_table(pa.Table.from_batches([whole]))
            rows += batch.num_rows
    part.replace(path)
    return rows


def check_schema(path: Path, found: pa.Schema) -> None:
    """Raise UsageError when a column of traces is missing or of another type."""
    for field in schema():
        if field.name not in found.names or found.field(field.name).type != field.type:
            raise UsageError(
                f"{path} holds no traces of ours: the column {field.name} ({field.type}) is missing",
                hint="name the folder of a finished run",
            )


def is_stream(found: pa.Schema) -> bool:
    return (found.metadata or {}).get(_STREAM_KEY, b"1") != b"0"


def token_room(metadata: pq.FileMetaData) -> int:
    """Return room that holds all token times: an empty list counts as one value in the file."""
    names = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
    place = next(number for number, name in enumerate(names) if name.startswith("token_hi_s"))
    return sum(metadata.row_group(group).column(place).num_values for group in range(metadata.num_row_groups))


def tokens(batch: pa.RecordBatch) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """Return lower bounds, upper bounds, and how many tokens each row has."""
    lists = [cast("pa.ListArray[pa.DoubleScalar]", batch.column(name)) for name in _TOKENS]
    offsets = lists[1].offsets.to_numpy()
    # not flatten(), nor fill_null() below: both import pyarrow.compute, which takes a tenth of a second
    lo_s, hi_s = (column.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]] for column in lists)
    return lo_s, hi_s, np.diff(offsets).astype(np.int32)


def to_numpy(batch: pa.RecordBatch, name: str) -> NDArray[np.generic]:
    """Return a plain column with null as NaN or -1."""
    column = batch.column(name)
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    if column.null_count and str(column.type) == "int32":  # Arrow gives floats with NaN
        values = np.nan_to_num(values, nan=-1.0).astype(np.int32)
    return values
