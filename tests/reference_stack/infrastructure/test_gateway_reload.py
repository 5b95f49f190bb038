"""The gateway as real processes: started, reloaded and drained, with requests and streams open."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.reference_stack.infrastructure.gateway_processes import (
    CHAT,
    KEY,
    PEPPER,
    WITHIN_S,
    Load,
    Served,
    held_open,
    refused,
    served,
    stream,
    until,
)

NIGHTLY = os.environ.get("GATEWAY_PROCESS_SIZE") == "nightly"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n "workers": 2,\n "timeot_s": 3\n}', "settings.yaml:3: api_gateway: setting 'timeot_s': no such setting"),
        ('{\n "workers": 0\n}', "settings.yaml:2: api_gateway: setting 'workers'"),
        ("{", "is not YAML"),
        ('{"metrics": {"port": 0}}', "metrics.port cannot be changed by a reload"),
        ('{"database_dsn": "no database at all"}', "ended (exit 2) before all of them served"),
    ],
)
def test_a_wrong_reload_changes_nothing(standing: Served, text: str, said: str) -> None:
    """A configuration that is wrong is refused with its file, line and key, and the old workers go on.

    So it is with one that only a new worker finds wrong.
    """
    before = standing.serving()
    file = standing.folder / "settings.yaml"
    good = file.read_text()
    if "database_dsn" in text:
        text = json.dumps(json.loads(good) | json.loads(text))
    file.write_text(text)
    try:
        answer = standing.ask("reload")
        assert not answer["ok"]
        assert said in answer["error"]
        told = standing.log.count("old workers stay") + standing.log.count("refused")
        standing.process.send_signal(signal.SIGHUP)
        until(lambda: standing.log.count("old workers stay") + standing.log.count("refused") > told)
    finally:
        file.write_text(good)
    assert standing.serving() == before
    assert standing.post(CHAT).status_code == 200


async def test_a_reload_takes_a_model_away_and_lets_its_requests_end(backend: Any, tmp_path: Path) -> None:
    """After a reload without a model it is unknown; a stream of it that was open ends as if nothing had been."""
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    with served(tmp_path, backend.url) as gateway:
        reader, writer, _ = await stream(gateway.port, {})
        gateway.write(upstreams={"phi3": {"base_url": backend.url}}, workers=3)
        assert (await asyncio.to_thread(gateway.ask, "reload"))["ok"]
        assert len(await asyncio.to_thread(gateway.serving)) == 3
        assert (await asyncio.to_thread(gateway.post, CHAT)).json()["error"]["code"] == "model_not_found"
        assert (await asyncio.to_thread(gateway.post, {**CHAT, "model": "phi3"})).status_code == 200
        backend.call(gate.set)
        assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        writer.close()


async def test_sigterm_lets_everything_end(backend: Any, tmp_path: Path) -> None:
    """SIGTERM amid requests and open streams: all that was begun ends whole, nothing new is taken, nothing is left."""
    wanted = 5000 if NIGHTLY else 300
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    with served(tmp_path, backend.url) as gateway:
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        streams = [await stream(gateway.port, {}) for _ in range(100)]
        load = Load(gateway.port)
        async with load:
            await load.reach(wanted)
            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(until, lambda: refused(gateway.port))
            load.stop = True
        backend.call(gate.set)
        for reader, writer, _ in streams:
            assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            writer.close()
        assert await asyncio.to_thread(gateway.process.wait, WITHIN_S) == 0
        assert load.ended["refused"] == 0
        # After its last answer a client knows that the connection closes: what is lost was never accepted.
        assert [error for error in load.errors if "Refused" not in error] == []
        assert psutil.wait_procs(family, timeout=1)[1] == []


async def test_streams_that_take_too_long_are_told(backend: Any, tmp_path: Path) -> None:
    """At the cap an open stream gets an error event, then the end of its connection, without [DONE]; a request that is
    not streamed gets 503.
    """
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    with served(tmp_path, backend.url, process={"control": str(tmp_path / "control"), "drain_s": 0.3}) as gateway:
        reader, writer, _ = await stream(gateway.port, {})
        gateway.process.send_signal(signal.SIGTERM)
        rest = await reader.read()
        writer.close()
        events = [json.loads(line[6:]) for line in rest.split(b"\n") if line.startswith(b"data: {")]
        assert events[-1]["error"]["code"] == "shutting_down"
        assert b"[DONE]" not in rest
        assert await asyncio.to_thread(gateway.process.wait, WITHIN_S) == 0
    backend.call(gate.set)


async def test_a_slow_reader_gets_all_of_its_answer(backend: Any, tmp_path: Path) -> None:
    """An answer that was written and not yet read by its client is not lost when the gateway is stopped."""
    text = "x" * 16_000_000
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer = json.dumps({"id": "x", "choices": [{"index": 0, "message": {"content": text}}], "usage": usage}).encode()

    async def large(wire: Any) -> None:
        await wire.answer(answer)

    backend.script = large
    with served(tmp_path, backend.url) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=4096)
        body = json.dumps(CHAT).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"\r\n\r\n")
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: refused(gateway.port))
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the client, longer than for one that is idle
            await asyncio.to_thread(gateway.process.wait, 1.5)
        assert await reader.readexactly(len(answer)) == answer
        writer.close()
        assert await asyncio.to_thread(gateway.process.wait, WITHIN_S) == 0


async def test_a_second_signal_ends_at_once(backend: Any, tmp_path: Path) -> None:
    """Told twice to stop, the gateway does not wait for open streams."""
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    with served(tmp_path, backend.url) as gateway:
        reader, writer, _ = await stream(gateway.port, {})
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        gateway.process.send_signal(signal.SIGINT)
        await asyncio.to_thread(until, lambda: refused(gateway.port))
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.process.wait, 2.0) == 0
        assert psutil.wait_procs(family, timeout=1)[1] == []
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1 << 20)
        writer.close()
    backend.call(gate.set)


@pytest.mark.parametrize(
    ("setting", "code", "said"),
    [
        ("database_dsn=no database at all", 2, "database_dsn"),
        ("metrics={{port: {taken}}}", 5, "cannot listen on 127.0.0.1:{taken}"),
        ("process={{control: {folder}/nowhere/control}}", 5, "cannot open {folder}/nowhere"),
    ],
)
def test_a_gateway_that_cannot_start_says_why(tmp_path: Path, setting: str, code: int, said: str) -> None:
    """When it or its first workers cannot come up the gateway ends with an exit code and words that say why."""
    pepper = tmp_path / "pepper"
    pepper.write_text(PEPPER)
    with socket.create_server(("127.0.0.1", 0)) as other:
        facts = {"taken": other.getsockname()[1], "folder": tmp_path}
        argv = [sys.executable, "-m", "reference_stack", "serve", "api_gateway", "--port", "0", "--set", "workers=2"]
        argv += ["--set", f"pepper_file={pepper}", "--set", setting.format(**facts)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert said.format(**facts) in done.stderr
