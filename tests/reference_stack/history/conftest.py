"""Run folders as the harness writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hxp_harness.report.record import CheckResult, Figures, GateResult, Record, write_record

Write = Callable[..., Path]
UNITS = {"ttft": "s", "e2e": "s", "tpot": "s", "error_rate": "ratio"}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the folder of a run: `write("r1", ttft=0.1, failed="ttft")`; returns the folder of all runs."""

    def one(
        run: str, service: str = "mixtral", day: int = 1, failed: str = "", check: str = "", **metrics: float
    ) -> Path:
        verdict = "INVALID" if check else "FAIL" if failed else "PASS"
        sentence = f"{failed or 'e2e'} p95 was seen over 4 replicates"
        record = Record(
            id=run,
            started=f"2026-01-{day:02}T12:00:00+00:00",
            verdict=verdict,
            reasons=(sentence,),
            evidence="simulated",
            metrics={
                name: Figures(unit=UNITS[name], n=100, p95=None if name == "error_rate" else value, mean=value)
                for name, value in metrics.items()
            },
            gates=tuple(
                GateResult(
                    text=f"{name} p95 <= 1 s",
                    metric=name,
                    unit=UNITS[name],
                    outcome="FAIL" if name == failed else "PASS",
                    limit=1.0,
                    sentence=sentence,
                )
                for name in metrics
            ),
            checks=(CheckResult(name=check, outcome="failed", sentence="it was not so"),) if check else (),
            profile={"name": service, "title": f"{service}, chat", "service": service, "schema": 1},
        )
        folder = tmp_path / "reports" / run
        folder.mkdir(parents=True)
        write_record(folder, record)
        return folder.parent

    return one
