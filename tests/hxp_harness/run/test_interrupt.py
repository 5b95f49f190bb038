"""Ctrl-C at every stage: everything that was started stops, and what was measured is kept and judged INVALID."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.metrics.table import TraceTable
from tests.hxp_harness.run.conftest import program, run_program, write_profile

INVALID = 4


def interrupted_at(folder: Path, phase: str, *words: str, by: signal.Signals = signal.SIGINT) -> tuple[int, str]:
    """Run, send the signal to the harness when it says `phase`; return its exit code and what it said."""
    argv = program("perf", "--profile", str(write_profile(folder)), "--out", str(folder / "run"), *words)
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        said = ""
        family: list[psutil.Process] = []
        for line in run.stderr:
            said += line
            if phase in line:
                family = psutil.Process(run.pid).children(recursive=True)
                os.kill(run.pid, by)
                break
        said += run.stderr.read()
        code = run.wait(60)
    assert phase in said
    assert psutil.wait_procs(family, timeout=10)[1] == []
    return code, said


@pytest.mark.parametrize("phase", ["certificate", "replicate 1 of 2"])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stopped_run_is_kept_and_invalid(tmp_path: Path, phase: str, by: signal.Signals) -> None:
    """Stopped during the certificate or the load, the run is recorded as INVALID with the traces that it has."""
    with golden(tmp_path / "golden", Behaviour(ttft_s=0.3, itl_s=0.01)) as server:
        target = ("--target", server.base_url, "--api-model", server.model)
        code, said = interrupted_at(tmp_path, phase, *target, by=by)

    assert code == INVALID, said
    assert "stopped by hand" in said
    assert "Traceback" not in said
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["verdict"] == "INVALID"
    assert (tmp_path / "run" / "report.html").exists()
    table = TraceTable.read(tmp_path / "run" / "traces.parquet")
    assert (len(table) > 0) == (phase != "certificate")


def test_a_run_stopped_before_it_began_leaves_nothing(tmp_path: Path) -> None:
    """Stopped while the stack starts, there is nothing to judge: exit code 4, no record, no process."""
    code, said = interrupted_at(tmp_path, "starting mixtral")

    assert code == INVALID, said
    assert "before there was anything to judge" in said
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_stopped_while_judging_can_be_judged(tmp_path: Path) -> None:
    """Stopped after the measurement, nothing is lost: hxp judge reaches the verdict that the run would have had."""
    with golden(tmp_path / "golden", Behaviour(ttft_s=0.02, itl_s=0.002)) as server:
        target = ("--target", server.base_url, "--api-model", server.model)
        code, said = interrupted_at(tmp_path, "judging", *target)

    assert code == INVALID, said
    assert "stopped while judging" in said
    assert "hxp judge" in said
    again = run_program(tmp_path, "judge", str(tmp_path / "run"))
    assert again.code == 0, again.out + again.err


def test_a_killed_harness_takes_all_along(tmp_path: Path) -> None:
    """After SIGKILL of the harness its stack and its load processes end by themselves."""
    code, _ = interrupted_at(tmp_path, "load", by=signal.SIGKILL)

    assert code == -signal.SIGKILL
