"""Hxp capacity against servers of known capacity, through the program itself."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.metrics.table import TraceTable
from tests.hxp_harness.run.conftest import program, run_program, write_profile

# Four slots of 24 ms each: 167 requests a second, and no more
SLOTS, SERVICE_S = 4, 0.024
BEHAVIOUR = Behaviour(ttft_s=0.01, itl_s=0.002)
TRUE_RPS = SLOTS / SERVICE_S
QUICK = ("--replicates", "4", "--requests", "300", "--resolution", "100 %")


def found(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "capacity.json").read_text(encoding="utf-8"))
    return record


def test_the_capacity_of_a_known_server_lies_in_the_bracket(tmp_path: Path) -> None:
    """Both ends are certain, the true capacity lies between them, every run can be judged again, and views exist."""
    out = tmp_path / "out"
    with golden(tmp_path / "golden", BEHAVIOUR, slots=SLOTS) as target:
        file = write_profile(tmp_path, "e2e p95 <= 20 s")
        at = ("--target", target.base_url, "--api-model", target.model, "--out", str(out), "--start", "130rps")
        done = run_program(tmp_path, "capacity", "--profile", str(file), *at, *QUICK, most_s=400)
    record = found(out)

    assert done.code == 0, done.err + done.out
    assert record["passes_at_rps"] <= TRUE_RPS * 1.02
    assert record["fails_at_rps"] >= TRUE_RPS * 0.95
    assert record["passes_at_rps"] < record["fails_at_rps"]
    assert "the capacity lies between" in done.out
    assert {"report.html", "report.md", "junit.xml"} <= {path.name for path in out.iterdir()}
    deciding = next(
        one
        for one in record["points"]
        if (one["rate_rps"], one["outcome"], one["certifying"]) == (record["passes_at_rps"], "PASS", True)
    )
    again = run_program(tmp_path, "judge", str(out / deciding["folder"]), "--verify")
    assert again.code == 0, again.err
    assert "Supposed is" in run_program(tmp_path, "explain", str(out)).out
    measured = len(TraceTable.read(out / deciding["folder"] / "traces.parquet").measured)
    assert 300 <= measured <= 1200  # a run may be decided at a quarter


def test_stopping_keeps_what_is_there(tmp_path: Path) -> None:
    """Ctrl-C after the first run: its point stays, the record says why it ends, and the answer is no pass."""
    out = tmp_path / "out"
    with golden(tmp_path / "golden", Behaviour(ttft_s=0.01, itl_s=0.001)) as target:
        file = write_profile(tmp_path, rate=50)
        at = ("--target", target.base_url, "--api-model", target.model, "--out", str(out), *QUICK)
        words = program("capacity", "--profile", str(file), *at)
        with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            until_s = time.monotonic() + 90
            while not (out / "run-02" / "load.json").exists() and time.monotonic() < until_s:
                time.sleep(0.05)  # polls what another process writes
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
    record = found(out)

    assert process.returncode in {3, 4}  # 4: the one run that was made was disturbed
    assert len(record["points"]) == 1
    assert record["stopped"] == "stopped by hand"
    assert (out / "report.html").exists()
    assert b"report:" in said


def test_a_load_that_cannot_be_measured_is_not_sent(tmp_path: Path) -> None:
    """Where the certificate fails twice the search ends as INVALID, says what to do, and has sent no load."""
    out = tmp_path / "out"
    with golden(tmp_path / "golden", BEHAVIOUR) as target:
        at = ("--target", target.base_url, "--api-model", target.model, "--out", str(out), "--clients", "1")
        file = write_profile(tmp_path, "e2e p95 <= 20 s")
        done = run_program(tmp_path, "capacity", "--profile", str(file), *at, "--start", "6000rps", *QUICK, most_s=240)
    record = found(out)

    assert done.code == 4, done.err + done.out
    assert [(one["rate_rps"], one["outcome"], one["uncertified"]) for one in record["points"]] == [
        (6000, "INVALID", True),
        (6000, "INVALID", True),
    ]
    assert not list(out.glob("run-*/traces*"))
    assert "No run could be measured" in done.out
    assert "this machine cannot measure 6000 rps; try --start with a lower rate" in record["stopped"]


def test_time_that_is_over_ends_the_search(tmp_path: Path) -> None:
    """With no minute to spare no run is made, which is inconclusive and says so."""
    out = tmp_path / "out"
    with golden(tmp_path / "golden", BEHAVIOUR) as target:
        at = ("--target", target.base_url, "--api-model", target.model, "--out", str(out), "--max-minutes", "0")
        done = run_program(tmp_path, "capacity", "--profile", str(write_profile(tmp_path)), *at)

    assert done.code == 3, done.err
    assert found(out)["points"] == []
    assert "0 minutes are over" in found(out)["stopped"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--expect", "50"), "has no unit"),
        (("--expect", "0 rps"), "not above zero"),
        (("--resolution", "0.1 %"), "not within"),
        (("--set", "device"), "KEY=VALUE"),
        (("--api-model", "x"), "--target, which is missing"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """A wrong option ends with code 2 before anything is started."""
    done = run_program(tmp_path, "capacity", "--profile", str(write_profile(tmp_path)), *words)

    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "reports").exists()


def test_a_gate_on_the_rate_is_refused(tmp_path: Path) -> None:
    """A profile that fixes the rate by a gate leaves none to search."""
    file = write_profile(tmp_path, "throughput >= 20 rps")
    done = run_program(tmp_path, "capacity", "--profile", str(file))

    assert done.code == 2
    assert "fixes the rate" in done.err
