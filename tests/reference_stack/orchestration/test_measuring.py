"""Runs that a calibration needs, measured: with the simulated engine in place of a real one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration.measured_run import read_engine
from reference_stack.orchestration.measuring import Loads, measure, most_rps_of, perf

SIMULATED = Loads(engine="sim")


def test_every_second_load_is_held_back_and_measured_once_more(tmp_path: Path) -> None:
    """Loads go up; those that the fit is tested on come a second time at their rate, after all others."""
    asked: list[tuple[str, float]] = []

    def run_load(_model: str, _url: str, rate_rps: float, out: Path, _loads: Loads) -> None:
        out.mkdir()
        asked.append((out.name, rate_rps))

    fitted_to, held_back = measure(["phi3"], "dummy", tmp_path, SIMULATED, run_load)

    assert [run.name for run in fitted_to] == ["phi3-10", "phi3-60", "phi3-120"]
    assert [run.name for run in held_back] == ["phi3-30", "phi3-90", "phi3-30-again", "phi3-90-again"]
    assert all(read_engine(run).model == "phi3" for run in fitted_to + held_back)
    names, rates = zip(*asked, strict=True)
    assert names == ("phi3-10", "phi3-30", "phi3-60", "phi3-90", "phi3-120", "phi3-30-again", "phi3-90-again")
    assert [rate / rates[0] for rate in rates] == pytest.approx([1, 3, 6, 9, 12, 3, 9])


def test_a_server_that_refuses_is_told_with_its_words() -> None:
    """A burst that is not answered with 200 ends the measurement, with what was said."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=503, text="the queue is full")

    async def ask() -> float:
        app = web.Application()
        app.router.add_post("/v1/completions", refuse)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return await most_rps_of(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", "phi3")
        finally:
            await runner.cleanup()

    with pytest.raises(NotReady, match="answers 503: the queue is full"):
        asyncio.run(ask())


def test_a_run_without_traces_is_told_with_the_command(tmp_path: Path) -> None:
    """Where nothing listens, what the harness made of the load is said again, with its command to try."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(NotReady, match="wrote no traces") as caught:
        perf("phi3", f"http://127.0.0.1:{port}/v1", 5.0, tmp_path / "run", SIMULATED)
    assert "hxp perf --profile" in caught.value.hint
    assert f"127.0.0.1:{port}" in str(caught.value)  # it came as far as that: the profile is one
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["contract"]["rate"] == "5 rps"


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
