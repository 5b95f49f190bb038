"""Runs that a calibration needs, measured: with the simulated engine in place of a real one."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration.loads import Load, Loads, Speed
from reference_stack.orchestration.measured_run import read_engine, read_run, read_runs
from reference_stack.orchestration.measuring import measure, perf, speed_of

KEPT = Path(__file__).parents[3] / "benchmarks" / "calibration" / "h200" / "phi3_4rps"
SIMULATED = Loads(engine="sim")


def test_a_model_is_measured_in_closed_loops_and_tested_in_open_ones(tmp_path: Path) -> None:
    """The fullest loop comes first, and its capacity says how much the open loads are; each run says what it is for."""
    asked: list[Load] = []

    def run_load(_model: str, _url: str, load: Load, out: Path, _loads: Loads) -> None:
        out.mkdir()
        shutil.copy(KEPT / "traces.parquet", out)
        (out / "load.done.json").write_text(json.dumps({"t0_monotonic_s": time.monotonic()}), encoding="utf-8")
        asked.append(load)

    runs = measure(["phi3"], "dummy", tmp_path, replace(SIMULATED, closed=2, learned=(), parts=((0.9, 2),)), run_load)

    most = asked[0].slots
    assert [run.name for run in runs] == [f"phi3-closed-{most}", "phi3-90", "phi3-closed-1", "phi3-90-again1"]
    assert [read_engine(run).held_back for run in runs] == [False, True, False, True]
    assert [read_engine(run).slots for run in runs] == [most, 0, 1, 0]
    assert asked[1].rate_rps == pytest.approx(0.9 * most / read_run(runs[0]).figures["e2e mean"])
    assert {run.name for run in read_runs([tmp_path])[1]} == {"phi3-90", "phi3-90-again1"}
    for run in runs:
        drift = read_run(run).drift
        assert drift is not None
        assert abs(drift.at_s[0]) < 60.0, "on the clock of the traces"


def test_runs_that_are_there_already_are_not_taken_for_new_ones(tmp_path: Path) -> None:
    """A folder that holds runs of the model is refused before anything is started, with what can be done with them."""
    (tmp_path / "phi3-90").mkdir()
    (tmp_path / "phi3-90" / "engine.json").touch()

    with pytest.raises(SettingsError, match="holds 1 measured runs of phi3 already") as caught:
        measure(["phi3"], "dummy", tmp_path, SIMULATED)
    assert str(tmp_path) in caught.value.hint
    assert not (tmp_path / "phi3-stack").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A path below a file is no place for runs."""
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match=r"cannot write to .*file/runs: Not a directory"):
        measure(["phi3"], "dummy", tmp_path / "file" / "runs", SIMULATED)


def test_a_server_that_refuses_is_told_with_its_words() -> None:
    """A burst that is not answered with 200 ends the measurement, with what was said."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=503, text="the queue is full")

    async def ask() -> Speed:
        app = web.Application()
        app.router.add_post("/v1/completions", refuse)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return await speed_of(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", "phi3")
        finally:
            await runner.cleanup()

    with pytest.raises(NotReady, match="answers 503: the queue is full"):
        asyncio.run(ask())


def test_a_run_without_traces_is_told_with_the_command(tmp_path: Path) -> None:
    """Where nothing listens, what the harness made of the load is said again, with its command to try."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(NotReady, match="wrote no traces") as caught:
        perf("phi3", f"http://127.0.0.1:{port}/v1", Load("phi3-closed-3", 5.0, 3), tmp_path / "run", SIMULATED)
    assert "hxp perf --profile" in caught.value.hint
    assert f"127.0.0.1:{port}" in str(caught.value)  # it came as far as that: the profile is one
    contract = yaml.safe_load((tmp_path / "run.yaml").read_text())["contract"]
    assert (contract["rate"], contract["arrival"]) == ("5 rps", {"kind": "closed", "concurrency": 3})


def test_a_model_that_is_none_is_told_first(tmp_path: Path) -> None:
    """A name with a mistake in it is answered with the right one, and nothing is started for the others."""
    with pytest.raises(SettingsError, match="no model 'phi4'") as caught:
        measure(["phi3", "phi4"], "dummy", tmp_path, SIMULATED)
    assert caught.value.hint == "did you mean 'phi3'?"
    assert not list(tmp_path.iterdir())


def test_an_engine_that_cannot_start_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stack says, and what it advises, is what is told."""
    monkeypatch.setenv("HXP_STACK_PHI3__SPEDE", "1")

    with pytest.raises(NotReady, match=r"phi3\.spede: no such setting") as caught:
        measure(["phi3"], "dummy", tmp_path, SIMULATED)
    assert caught.value.hint == "did you mean 'speed'?"
