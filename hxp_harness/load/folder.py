"""The files of a load folder, by which the run and its load processes speak with each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from hxp_harness.load.plan import LoadPlan, LoadSummary

KEY_VARIABLE = "HXP_API_KEY"
_LOG_TAIL_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class LoadFolder:
    """Where everything lies that one load session reads and writes."""

    path: Path

    @property
    def plan(self) -> Path:
        return self.path / "load.json"

    @property
    def schedule(self) -> Path:
        return self.path / "schedule.jsonl"

    @property
    def traces(self) -> Path:
        return self.path / "traces.part"

    @property
    def summary(self) -> Path:
        return self.path / "load.done.json"

    def part(self, number: int) -> Path:
        """Return where the client of this number, from 1, leaves its summary."""
        return self.path / f"load.done-{number}.json"

    @property
    def error(self) -> Path:
        return self.path / "load.error.json"

    @property
    def log(self) -> Path:
        return self.path / "load.log"

    def write_plan(self, plan: LoadPlan) -> None:
        self.plan.write_bytes(msgspec.json.format(msgspec.json.encode(plan)) + b"\n")

    def read_plan(self) -> LoadPlan:
        return msgspec.json.decode(self.plan.read_bytes(), type=LoadPlan)

    def write_summary(self, summary: LoadSummary, number: int = 0) -> None:
        """Write the summary of the whole, or of the client of that number."""
        file = self.part(number) if number else self.summary
        file.write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")

    def read_summary(self) -> LoadSummary:
        return msgspec.json.decode(self.summary.read_bytes(), type=LoadSummary)

    def write_error(self, message: str) -> None:
        self.error.write_bytes(msgspec.json.encode({"error": message}) + b"\n")

    def read_error(self) -> str:
        """Return why the hot loop ended before its time, or the empty string."""
        try:
            return str(msgspec.json.decode(self.error.read_bytes(), type=dict[str, str])["error"])
        except (OSError, msgspec.DecodeError, KeyError):
            return ""

    def log_tail(self) -> str:
        """Return the last words of the client processes."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARACTERS:].strip()
