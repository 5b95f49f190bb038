"""A run whose load comes from several client processes is judged as one whose load comes from one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.metrics.table import TraceTable
from tests.hxp_harness.run.conftest import Done, run_program, write_profile

FAIL, INVALID = 1, 4


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The small run again, sent by two clients."""
    folder = tmp_path_factory.mktemp("shared")
    with golden(folder / "golden", Behaviour(ttft_s=0.02, itl_s=0.002)) as target:
        at = ("--target", target.base_url, "--api-model", target.model, "--clients", "2")
        file = write_profile(folder)
        return run_program(folder, "perf", "--profile", str(file), *at, "--out", str(folder / "run"))


def test_two_clients_send_what_one_sends(passed: Done, shared: Done) -> None:
    """Of one seed come the same requests at the same times, and the same verdict; manifest and record tell of both."""
    verdicts = {done.record["verdict"] for done in (passed, shared)}
    assert verdicts - {"INVALID"} <= {"PASS"}, shared.out  # INVALID: the machine was too busy, and the record says so
    assert "the load comes from 2 client processes, as --clients says" in shared.err
    one, two = (TraceTable.read(done.folder / "traces.parquet").in_order() for done in (passed, shared))
    assert len(two) == len(one) > 200
    assert two.index.tolist() == one.index.tolist()
    assert two.intended_s.tolist() == one.intended_s.tolist()
    manifest = json.loads((shared.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["load"]["clients"] == 2
    assert [client["sent"] for client in shared.record["load"]["clients"]] == [len(two) // 2, len(two) // 2]
    assert shared.record["certificate"]["before"]["fidelity"]["clients"] == 2


def test_gates_see_the_same(passed: Done, shared: Done) -> None:
    """The gated latency is the same, and a limit below it FAILs with both; a machine that was busy may say INVALID."""
    one, two = (done.record["metrics"]["e2e"]["p50"] for done in (passed, shared))
    assert two == pytest.approx(one, abs=0.01)
    gates = ("--gate", "e2e p50 <= 20 ms", "--gate", "error_rate <= 10 %")
    answers = [run_program(done.folder.parent, "judge", str(done.folder), *gates) for done in (passed, shared)]
    assert {answer.code for answer in answers} <= {FAIL, INVALID}, [answer.out for answer in answers]


def test_a_wrong_number_of_clients_is_refused(tmp_path: Path) -> None:
    """None at all is no load; said before anything starts."""
    done = run_program(tmp_path, "perf", "--model", "mixtral", "--clients", "0")
    assert done.code == 2
    assert "--clients 0: between 1 and 256" in done.err
