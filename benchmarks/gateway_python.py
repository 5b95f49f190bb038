"""What a request costs the gateway in Python alone, no system call: `python benchmarks/gateway_python.py [--profile]`.

Both sides' sockets are stand-ins: the request's bytes are handed to the protocol of the client's connection, and the
answer's to that of the model's. The figure is the least of many requests, so that whatever else the machine does
in between hardly shows.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import uvicorn
import uvloop

from benchmarks.gateway_cost import EVENTS, KEY, PEPPER, WHOLE
from reference_stack.draining import uvicorn_config
from reference_stack.schemas.api.keys import digest_of
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.infrastructure.api_gateway.backend import Address
from reference_stack.services.infrastructure.api_gateway.wire.connection import Connection

ROUND = 40
# Of a stream's reads: the head and the first event; the event that ends the text, the usage, [DONE] and the body's end.
_BEFORE, _BEHIND = 2, 4


class Transport:
    """Takes what is written and throws it away."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, _name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    abort = write_eof = close


def request(*, stream: bool) -> bytes:
    messages = [{"role": "user", "content": "word " * 180}]
    body = json.dumps({"model": "mixtral", "messages": messages, "max_tokens": 16, "stream": stream}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (KEY, len(body), body)
    )


def answer(*, stream: bool) -> list[bytes]:
    """Return the answer as the reads that bring it."""
    if not stream:
        body = WHOLE % (b"word " * 16)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        return [head + body]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%s\r\n" % (len(event), event) for event in EVENTS), b"0\r\n\r\n"]


async def rounds(app: Any, settings: argparse.Namespace) -> tuple[float, float, cProfile.Profile]:
    """Return the least seconds that a request took of all rounds, and the least of an event amid a stream."""
    config = uvicorn_config(app)
    config.load()
    client_side = Transport()
    protocol: Any = config.http_protocol_class
    client = protocol(config=config, server_state=uvicorn.Server(config).server_state, app_state={})
    client.connection_made(client_side)
    model = _model_side(app, settings.port)
    sent, parts = request(stream=settings.stream), answer(stream=settings.stream)
    profile, least_s, event_s = cProfile.Profile(), float("inf"), float("inf")
    for _ in range(settings.rounds):
        await asyncio.sleep(0)
        if settings.profile:
            profile.enable()
        for _ in range(ROUND):
            began_s = time.perf_counter()
            client.data_received(sent)
            for part in parts[:_BEFORE]:
                model.data_received(part)
            amid_s = time.perf_counter()
            for part in parts[_BEFORE:-_BEHIND]:
                model.data_received(part)
            event_s = min(event_s, time.perf_counter() - amid_s)
            for part in parts[-_BEHIND:]:
                model.data_received(part)
            least_s = min(least_s, time.perf_counter() - began_s)
        profile.disable()
    model.connection_lost(None)
    assert client_side.written > settings.rounds * ROUND * len(WHOLE), "the requests were not answered"
    return least_s, event_s / max(1, len(parts) - _BEFORE - _BEHIND), profile


def _model_side(app: Any, port: int) -> Connection:
    """Have one free connection to the model, for all requests."""
    connection = Connection(app.state.http_protocol.args[0].pool, Address("127.0.0.1", port, tls=False))
    connection.connection_made(cast("asyncio.BaseTransport", Transport()))
    connection.wait()
    return connection


async def healthy(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


async def measure(settings: argparse.Namespace, folder: Path) -> None:
    (folder / "pepper").write_bytes(PEPPER)
    server = await asyncio.start_server(healthy, "127.0.0.1", 0)
    settings.port = server.sockets[0].getsockname()[1]
    app = create_app(
        ApiGatewaySettings.model_validate(
            {
                "upstreams": {"mixtral": {"base_url": f"http://127.0.0.1:{settings.port}/v1"}},
                "keys": [{"id": "benchmark", "hash": digest_of(KEY, PEPPER).hex()}],
                "pepper_file": str(folder / "pepper"),
            }
        )
    )
    async with app.router.lifespan_context(app):
        least_s, event_s, profile = await rounds(app, settings)
    print(f"{least_s * 1e6:.1f} us of Python a request, the least of {settings.rounds * ROUND}")
    if settings.stream:
        print(f"{event_s * 1e6:.2f} us of Python an event amid a stream")
    if settings.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--profile", action="store_true")
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(parser.parse_args(), Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
