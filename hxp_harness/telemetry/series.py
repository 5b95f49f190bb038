"""The readings of a run as columns, and the file server.parquet that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hxp_harness.errors import UsageError
from hxp_harness.telemetry.reading import GPU, SCRAPED, Reading

FILE = "server.parquet"
Floats = NDArray[np.float64]
NUMBERS = ("asked_s", "took_s", "late_s", *SCRAPED, *(f"gpu_{name}" for name in GPU))


@dataclass(frozen=True, slots=True, eq=False)
class ServerSeries:
    """One row a reading, oldest first. `columns` has all of NUMBERS; NaN is what was not told.

    `asked_s` counts from the run's t0, as the times of the traces do.
    """

    errors: tuple[str, ...]
    columns: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.errors)

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    @property
    def at_s(self) -> Floats:
        """The middle of the time in which each page was made."""
        return self["asked_s"] + self["took_s"] / 2

    def between(self, start_s: float, end_s: float) -> ServerSeries:
        """Return the readings of a span of the run."""
        inside = (self.at_s >= start_s) & (self.at_s <= end_s)
        return ServerSeries(
            tuple(error for error, held in zip(self.errors, inside, strict=True) if held),
            {name: values[inside] for name, values in self.columns.items()},
        )

    @classmethod
    def of(cls, readings: Sequence[Reading], t0_s: float) -> ServerSeries:
        """Take readings whose times are on the monotonic clock of a run that began at `t0_s`."""
        return cls(
            tuple(reading.error for reading in readings),
            {name: np.array([_number(reading, name, t0_s) for reading in readings], np.float64) for name in NUMBERS},
        )


def _number(reading: Reading, name: str, t0_s: float) -> float:
    if name == "asked_s":
        return reading.asked_s - t0_s
    if name in {"took_s", "late_s"}:
        return float(getattr(reading, name))
    source, field = (reading.gpu, name.removeprefix("gpu_")) if name not in SCRAPED else (reading.scrape, name)
    value = getattr(source, field, None)
    return float("nan") if value is None else float(value)


def write_series(folder: Path, series: ServerSeries) -> Path:
    """Write server.parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: pa.array(series[name], pa.float64(), from_pandas=True) for name in NUMBERS}
    part = folder / f"{FILE}.draft"
    pq.write_table(pa.table({**arrays, "error": pa.array(series.errors, pa.string())}), part, compression="zstd")
    return part.replace(folder / FILE)


def read_series(folder: Path) -> ServerSeries | None:
    """Return what `write_series` wrote; None where there is no file. Raises UsageError for anything else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / FILE
    if not file.exists():
        return None
    try:
        table = pq.read_table(file)
        columns = {name: table.column(name).to_numpy().astype(np.float64) for name in NUMBERS}
        errors = tuple(str(error) for error in table.column("error").to_pylist())
    except (pa.ArrowInvalid, KeyError, OSError, ValueError) as error:
        raise UsageError(f"{file} is damaged: {error}") from None
    return ServerSeries(errors, columns)
