"""One reading of the server's counters and of the GPU, and the file in which a run keeps them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import msgspec

from hxp_harness.metrics.scrape import Scrape
from hxp_harness.telemetry.gpu import GpuReading

PLAN_FILE = "telemetry.json"
PART_FILE = "server.part"  # JSON lines, while the run lasts


class Plan(msgspec.Struct, frozen=True):
    """What the sampler is told."""

    metrics_url: str = ""  # empty: the target has no counters
    gpu: bool = False  # whether the GPUs of this machine are the target's
    every_s: float = 1.0
    most: int = 86_400  # readings; a day of them is 40 MB


class Reading(msgspec.Struct, frozen=True):
    """What was read at one tick. Times are seconds on the monotonic clock.

    The counters are those of some moment between `asked_s` and `asked_s + took_s`. A page that did not come, or not in
    time, is data too: `error` says why, and the rest is None.
    """

    due_s: float
    asked_s: float
    took_s: float
    error: str = ""  # timeout | refused | http | no_counters
    scrape: Scrape | None = None
    gpu: GpuReading | None = None

    @property
    def late_s(self) -> float:
        return self.asked_s - self.due_s


SCRAPED = tuple(field.name for field in fields(Scrape) if field.name != "process_start_s")
GPU = tuple(field.name for field in fields(GpuReading))


def read_readings(file: Path) -> list[Reading]:
    """Return every complete line of `file`, oldest first; nothing where there is no file."""
    if not file.exists():
        return []
    decode = msgspec.json.Decoder(Reading).decode
    return [decode(line) for line in file.read_bytes().split(b"\n")[:-1]]
