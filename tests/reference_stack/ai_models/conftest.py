"""A simulated engine on a real socket, and a small HTTP client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.sim_server import create_app


@dataclass(frozen=True)
class Answer:
    """A whole answer; `json` and `events` read it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The JSON of each event; the last line must be [DONE]."""
        lines = [part.removeprefix(b"data: ") for part in self.body.split(b"\n\n") if part]
        assert lines[-1] == b"[DONE]"
        return [json.loads(line) for line in lines[:-1]]

    @property
    def error(self) -> Any:
        return self.json["error"]


@dataclass(frozen=True)
class Sim:
    """A running simulated engine."""

    port: int
    service: str

    def request(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request; `body` is bytes as they are, or becomes JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if method == "POST" else {}
        with contextlib.closing(connection):
            connection.request(method, path, raw, {**kind, **(headers or {})})
            answer = connection.getresponse()
            got = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, got, answer.read())

    def chat(self, text: str = "Say hi", **fields: object) -> Answer:
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, **fields}
        return self.request("POST", "/v1/chat/completions", body)

    def complete(self, prompt: object = "Hello world", **fields: object) -> Answer:
        return self.request("POST", "/v1/completions", {"prompt": prompt, "temperature": 0, **fields})

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a sample on /metrics; labels not given may be anything."""
        for line in self.request("GET", "/metrics").body.decode().splitlines():
            head, _, value = line.rpartition(" ")
            if head.split("{")[0] == name and all(f'{key}="{text}"' in head for key, text in labels.items()):
                return float(value)
        raise AssertionError(f"no sample {name} {labels}")


SimFactory = Callable[..., Sim]


@contextlib.contextmanager
def serving(settings: ModelSettings) -> Iterator[Sim]:
    """Serve `settings` in a thread on a free port."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(settings), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        yield Sim(sock.getsockname()[1], settings.service)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        sock.close()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def ideal() -> Iterator[Sim]:
    """Hermes without physics: answers come as fast as they can be written."""
    with serving(ModelSettings(service="hermes", device="ideal", max_model_len=2048)) as sim:
        yield sim


@pytest.fixture
def start() -> Iterator[SimFactory]:
    """Start simulated engines with settings of one's own."""
    with contextlib.ExitStack() as stack:
        yield lambda service="mixtral", **settings: stack.enter_context(
            serving(ModelSettings(service=service, **settings))
        )


def eventually(condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
    """Return when `condition` holds; fail after `deadline_s`."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, "did not come true in time"
        time.sleep(0.005)  # polls a condition, with a deadline


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., None]:
    return eventually
