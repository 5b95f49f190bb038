"""Promises of the nursery: services forked from it are like children of our own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from reference_stack.catalogue import load_catalogue
from reference_stack.errors import StackError
from reference_stack.orchestration import ports, readiness
from reference_stack.orchestration.fork_services import _SHARED, WANTED
from reference_stack.orchestration.forked import SERVICES, Nursery
from reference_stack.orchestration.process import Process

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
Gone = Callable[[int], bool]


@pytest.fixture
async def nursery(tmp_path: Path) -> AsyncIterator[Nursery]:
    made = Nursery(tmp_path)
    yield made
    await made.close()


async def storage(nursery: Nursery, folder: Path, port: int, text: str = "{}") -> Process:
    """Fork the storage service, the cheapest there is."""
    settings = folder / "storage.json"
    settings.write_text(text)
    with ports.listen(port) as sock:
        wanted = {"settings": str(settings)}
        return await nursery.spawn("storage", wanted, folder / "storage.log", (sock.fileno(),))


async def ready(port: int) -> None:
    probe = readiness.http(f"http://127.0.0.1:{port}/health/live")
    async with asyncio.timeout(30):
        while await probe():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)


async def test_a_forked_service_serves_and_stops(nursery: Nursery, tmp_path: Path, port: int) -> None:
    """A forked service has a name, a group and a log of its own, serves, and ends orderly when asked."""
    process = await storage(nursery, tmp_path, port)
    await ready(port)
    assert psutil.Process(process.pid).name() == "hxp-storage"
    assert os.getpgid(process.pid) == process.pid

    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5) as answer:
            return str(json.load(answer)["service"])

    assert await asyncio.to_thread(ask) == "storage"
    await process.stop(signal.SIGTERM, 30)
    assert process.exit_status == "exit 0"
    assert "startup complete" in process.log_tail()


async def test_wrong_settings_end_in_the_log(nursery: Nursery, tmp_path: Path, port: int) -> None:
    """A forked service that refuses its settings says so in its log and exits 2."""
    process = await storage(nursery, tmp_path, port, '{"no_such": 1}')
    await process.wait()
    assert process.exit_status == "exit 2"
    assert "storage: setting 'no_such'" in process.log_tail()
    process.signal(signal.SIGTERM)  # there is nobody left to hear it


async def test_children_end_with_the_nursery(
    nursery: Nursery, tmp_path: Path, port: int, eventually: Eventually, gone: Gone
) -> None:
    """When the nursery is killed its children are gone, we hear of it, and the next child gets a new nursery."""
    first = await storage(nursery, tmp_path, port)
    parent = psutil.Process(first.pid).ppid()
    os.kill(parent, signal.SIGKILL)
    await first.wait()
    assert first.exit_status == "SIGKILL"
    await eventually(lambda: gone(first.pid))
    second = await storage(nursery, tmp_path, port)
    assert psutil.Process(second.pid).ppid() != parent
    await second.stop(signal.SIGTERM, 30)


async def test_a_nursery_that_dies_before_it_answers_is_told(nursery: Nursery, tmp_path: Path, port: int) -> None:
    """Who waits for a child when the nursery dies gets an error with the log to read."""
    asking = asyncio.create_task(storage(nursery, tmp_path, port))
    async with asyncio.timeout(15):
        while nursery._process is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)
    nursery._process.kill()
    with pytest.raises(StackError, match="the nursery ended"):
        await asking


async def test_a_nursery_that_hangs_is_told(tmp_path: Path, port: int) -> None:
    """A nursery that does not answer in time is an error, not a wait for ever."""
    nursery = Nursery(tmp_path, dataclasses.replace(SERVICES, fork_s=0.2))
    asking = asyncio.create_task(storage(nursery, tmp_path, port))
    async with asyncio.timeout(15):
        while nursery._process is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)
    nursery._process.pause()
    with pytest.raises(StackError, match="the nursery does not answer"):
        await asking
    nursery._process.kill()
    await nursery.close()


def test_only_what_several_want_is_imported_before_the_fork() -> None:
    """Of what takes long to import the nursery has ready what two of the wanted services share, and nothing else."""
    assert set[str]().union(*_SHARED.values()) <= set(load_catalogue())
    script = """
        import sys
        from reference_stack.orchestration.fork_services import _SHARED, prepare
        prepare()
        print(*(name for name in _SHARED if name in sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, WANTED: "api_gateway,cache,mixtral,storage"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == ["redis.asyncio"]
