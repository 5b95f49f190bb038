"""Promises of the nursery for real vLLM: one import, many servers, each with its own log, limits and end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import psutil
import pytest

from reference_stack.errors import StackError
from reference_stack.orchestration.deployment.models import _trade
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.deployment.want import Want
from reference_stack.orchestration.fork_vllm import _WARM
from reference_stack.orchestration.forked import Nursery, vllm_trade
from reference_stack.orchestration.process import Process
from reference_stack.orchestration.state import StackState, read
from reference_stack.schemas.common.limits import Hold
from reference_stack.schemas.common.program import Program
from reference_stack.services.ai_models.vllm_recipe import flaw, recipe_for

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
Gone = Callable[[int], bool]
# What vLLM does on a CPU: its command starts an engine in a process that it wants spawned.
MAIN = """
import multiprocessing, os, signal, sys, time

IMPORTED_BY = os.getpid()

def engine():
    print("engine", os.getpid(), IMPORTED_BY, flush=True)
    signal.pause()

def main():
    print(" ".join(sys.argv), os.environ["HXP_TEST"], sorted(os.sched_getaffinity(0)), flush=True)
    if sys.argv[2] == "wrong":
        raise ValueError("no such flag")
    if sys.argv[2] == "refused":
        sys.exit("refused")
    child = multiprocessing.get_context("spawn").Process(target=engine, daemon=True)
    child.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    child.join()
"""


@pytest.fixture
async def nursery(tmp_path: Path) -> AsyncIterator[Nursery]:
    """A nursery whose vLLM is a package of ours."""
    site = tmp_path / "site"
    for name in _WARM:
        file = site.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(MAIN if name.endswith("cli.main") else "", encoding="utf-8")
    made = Nursery(tmp_path, vllm_trade(Path(sys.executable)), {"PYTHONPATH": str(site), "HXP_TEST": "yes"})
    yield made
    await made.close()


async def serve(nursery: Nursery, folder: Path, word: str = "x", hold: Hold | None = None) -> Process:
    return await nursery.spawn("phi3", {"argv": ["vllm", "serve", word]}, folder / "phi3.log", hold=hold or Hold())


async def engine_of(process: Process, eventually: Eventually) -> tuple[int, int]:
    """Wait for the engine; return its pid and that of the process which imported vLLM for it."""
    line = re.compile(r"^engine (\d+) (\d+)\n", re.MULTILINE)
    await eventually(lambda: line.search(process.log.read_text()))
    found = line.search(process.log.read_text())
    assert found is not None
    return int(found[1]), int(found[2])


async def test_a_forked_server_is_vllms_own_command(nursery: Nursery, tmp_path: Path, eventually: Eventually) -> None:
    """It has its arguments, environment, cores and log; nothing is imported again; it ends when it is asked to."""
    core = min(os.sched_getaffinity(0))
    process = await serve(nursery, tmp_path, hold=Hold(cores=(core,)))
    _, imported_by = await engine_of(process, eventually)
    assert imported_by == psutil.Process(process.pid).ppid()
    assert process.log_tail().splitlines()[0] == f"vllm serve x yes [{core}]"
    assert psutil.Process(process.pid).name() == "hxp-phi3"
    await process.stop(signal.SIGTERM, 30)
    assert process.exit_status == "exit 0"


async def test_no_engine_outlives_its_server(
    nursery: Nursery, tmp_path: Path, eventually: Eventually, gone: Gone
) -> None:
    """When a server is killed its engine goes, when the nursery is killed all go; the next server gets a new one."""
    first = await serve(nursery, tmp_path)
    engine, _ = await engine_of(first, eventually)
    first.kill()
    await eventually(lambda: gone(engine))
    (tmp_path / "phi3.log").unlink()
    second = await serve(nursery, tmp_path)
    engine, imported_by = await engine_of(second, eventually)
    os.kill(imported_by, signal.SIGKILL)
    await eventually(lambda: gone(engine) and gone(second.pid))
    (tmp_path / "phi3.log").unlink()
    third = await serve(nursery, tmp_path)
    assert (await engine_of(third, eventually))[1] != imported_by


@pytest.mark.parametrize(("word", "said"), [("wrong", "ValueError: no such flag"), ("refused", "refused")])
async def test_a_server_that_fails_says_why(nursery: Nursery, tmp_path: Path, word: str, said: str) -> None:
    """What vLLM raises is the last line of its log, and the server's exit code is 1."""
    process = await serve(nursery, tmp_path, word)
    await process.wait()
    assert process.exit_status == "exit 1"
    assert said in process.log_tail()


async def test_an_environment_that_cannot_import_vllm_is_told(tmp_path: Path) -> None:
    """Where the import fails who asks gets an error with the log to read, and the log has the reason."""
    nursery = Nursery(tmp_path, vllm_trade(Path(sys.executable)))
    with pytest.raises(StackError, match="the nursery ended") as caught:
        await serve(nursery, tmp_path)
    assert "nursery-vllm.log" in caught.value.hint
    assert "No module named 'vllm'" in (tmp_path / "nursery-vllm.log").read_text()
    await nursery.close()


def test_one_server_alone_is_started_as_it_would_be_typed(tmp_path: Path) -> None:
    """Only several toys are forked: one alone, and engines on a GPU, are programs of their own."""
    program = Program(("/env/bin/vllm", "serve"))

    def trade(*services: str, weights: str = "tiny") -> object:
        wishes = {"engine": "vllm", "weights": weights, "services": services}
        return _trade(Room(Want(tmp_path, tmp_path, **wishes)), program)  # type: ignore[arg-type]  # by name

    assert trade("phi3", "hermes") == vllm_trade(Path("/env/bin/python"))
    assert trade("phi3") is None
    assert trade("phi3", "hermes", weights="dummy") is None


def ask(row: Mapping[str, object], name: str) -> str:
    body = json.dumps({"model": name, "prompt": "hello", "max_tokens": 4}).encode()
    request = urllib.request.Request(f"{row['base_url']}/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return str(json.load(answer)["choices"][0]["text"])


async def test_two_real_servers_are_forked_and_end_with_the_stack(
    room: Path, eventually: Eventually, gone: Gone
) -> None:
    """Real vLLM, forked: both answer; one that is killed leaves the other; a killed supervisor leaves nothing."""
    if reason := flaw(Path(".hxp/cache/vllm-cpu"), recipe_for("cpu")):
        pytest.skip(f"vLLM's environment {reason}: hxp-stack tools --vllm cpu")
    words = ("--engine", "vllm", "--weights", "tiny", "--ports", "free", "--folder", str(room))
    names = ("phi3", "hermes")
    only = [word for name in names for word in ("--only", name)]
    command = [sys.executable, "-m", "reference_stack", "up", *only, *words]
    started = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=580, check=False)
    assert started.returncode == 0, started.stderr
    assert "phi3: HF_HUB_OFFLINE=1" in started.stderr
    state = read(room)
    assert isinstance(state, StackState)
    rows = state.services
    try:
        assert all(ask(rows[name], name) for name in names)
        pids = [int(str(rows[name]["pid"])) for name in names]
        engines = [child.pid for pid in pids for child in psutil.Process(pid).children()]
        assert len(engines) == 2
        assert {psutil.Process(pid).ppid() for pid in pids} == {psutil.Process(pids[0]).ppid()}
        os.kill(pids[0], signal.SIGKILL)
        await eventually(lambda: gone(engines[0]))
        assert ask(rows["hermes"], "hermes")
    finally:
        os.kill(state.pid, signal.SIGKILL)
    await eventually(lambda: all(gone(pid) for pid in (*pids, *engines)))
