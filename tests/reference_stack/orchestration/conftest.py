"""A small server of our own as the program that is supervised, and processes watched until they are gone."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from reference_stack.orchestration import ports, readiness
from reference_stack.orchestration.supervisor import Unit
from reference_stack.schemas.common.program import Program

# Answers 200 to everything on the socket --fd; what it prints is its log.
SERVER = """
import http.server, socket, sys
print("serving", flush=True)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Page, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
server.serve_forever()
"""


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds; fails when it does not within 15 s."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.01)  # polls a condition, with a deadline

    return wait


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """The same, while the event loop goes on."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(15):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a pid no longer runs."""

    def look(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return look


@pytest.fixture
def server_script() -> str:
    """The Python text of the server."""
    return SERVER


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is ours for the test."""
    reservation = ports.reserve()
    yield reservation.port
    reservation.close()


@pytest.fixture
def server(port: int) -> Unit:
    """A unit that serves HTTP."""
    program = Program((sys.executable, "-c", SERVER))
    return Unit("server", program, readiness.http(f"http://127.0.0.1:{port}/"), listen_port=port)


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder for a stack."""
    return tmp_path / "stack"
