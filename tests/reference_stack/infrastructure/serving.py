"""Serves an application on a real socket, and waits for what is to become true."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import uvicorn
from starlette.types import ASGIApp

from reference_stack.draining import uvicorn_config

DEADLINE_S = 60.0
T = TypeVar("T")


def eventually(read: Callable[[], T], *, within_s: float = DEADLINE_S) -> T:
    """Return the first truthy value that `read` gives, or fail."""
    ends = time.monotonic() + within_s
    while True:
        found = read()
        if found:
            return found
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.005)  # polls a condition, with a deadline


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve `app` on a free port under a real uvicorn; yield its base URL."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(4096)
        with serving_on(sock, app):
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextmanager
def serving_on(sock: socket.socket, app: ASGIApp) -> Iterator[None]:
    """Serve `app` on a socket that listens."""
    config = uvicorn_config(app)
    config.timeout_graceful_shutdown = 2
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started, "the application did not start"
        yield
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
