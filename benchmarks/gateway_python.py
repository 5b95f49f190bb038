"""What a request costs the gateway in Python alone: `python -m benchmarks.gateway_python [--stages] [--profile]`.

Both sides' sockets are stand-ins: the request's bytes are handed to the protocol of the client's connection, and the
answer's to that of the model's. All features are on that need no server: journal (its two writes to the disk are the
only system calls), limits, metrics in shared memory, log line. The figure is the least of many requests, so that
whatever else the machine does in between hardly shows.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import logging
import os
import pstats
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import uvicorn
import uvloop

from reference_stack.draining import uvicorn_config
from reference_stack.place import Place
from reference_stack.schemas.api.keys import ApiKey, KeyLimits, digest_of
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.infrastructure.api_gateway.backend import Address
from reference_stack.services.infrastructure.api_gateway.wire.connection import Connection
from reference_stack.workers.board import Board
from reference_stack.workers.counts import count_in
from reference_stack.workers.lines import Lines

KEY, PEPPER = b"benchmark-key", b"a pepper for benchmarks alone"
WIDE = KeyLimits(requests_per_minute=10**9, tokens_per_minute=10**12, concurrent=10**6)
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{"content":" end"},"finish_reason":"length"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":64,"completion_tokens":16}}\n\n'
EVENTS = (*[EVENT] * 15, LAST, USAGE, b"data: [DONE]\n\n")
WHOLE = (
    b'{"id":"x","choices":[{"index":0,"message":{"content":"%s"}}],"usage":{"prompt_tokens":64,"completion_tokens":16}}'
)
ROUND = 40
_ASKED_S = 10.0
# Of a stream's reads: the head and the first event; the event that ends the text, the usage, [DONE] and the body's end.
_BEFORE, _BEHIND = 2, 4

# What is done in turn: the functions with all that they call, and those whose part of it is another line's.
STAGES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "know the request's head, take its body": (("hot/known.py:body_in",), ()),
    "let the key in": (("api_gateway/story.py:recognise",), ()),
    "parse the body, check parameters": (("api_gateway/story.py:read",), ()),
    "limits, and the journal's first line": (("api_gateway/story.py:accept_at_once",), ()),
    "choose a server": (("api_gateway/story.py:lease",), ()),
    "send the request": (("wire/pool.py:send",), ()),
    "read the answer's head and body": (("wire/connection.py:data_received",), ("wire/connection.py:_tell",)),
    "check the answer; the journal's last line": (("api_gateway/relay.py:_answer",), ("hot/cycle.py:whole",)),
    "write the answer": (("hot/cycle.py:whole",), ("hot/cycle.py:_end",)),
    "metrics and the log line": (("api_gateway/settlement.py:settle",), ()),
}


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


class Store:
    """Stands where the database is: has the one key, and takes all rows."""

    async def find_key(self, digest: bytes) -> ApiKey | None:
        wanted = digest_of(KEY, PEPPER)
        return ApiKey("benchmark", digest, frozenset("*"), "tenant", WIDE) if digest == wanted else None

    async def add(self, rows: Sequence[UsageRow]) -> None: ...


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


class Sides:
    """A client's connection and a model's, and the bytes that come on each."""

    def __init__(self, app: Any, port: int, *, stream: bool) -> None:
        config = uvicorn_config(app)
        config.load()
        self._written = Transport()
        protocol: Any = config.http_protocol_class
        self._client = protocol(config=config, server_state=uvicorn.Server(config).server_state, app_state={})
        self._client.connection_made(self._written)
        self._model = Connection(app.state.http_protocol.args[0].pool, Address("127.0.0.1", port, tls=False))
        self._asked = Transport()
        self._model.connection_made(cast("asyncio.BaseTransport", self._asked))
        self._model.wait()
        self._sent, self._parts = request(stream=stream), answer(stream=stream)
        self.event_s = float("inf")

    async def exchange(self) -> float:
        """Let one request and its answer through; return the seconds that took, infinity where it had to wait.

        A request waits when its key is to be looked up again, or more of a limit is drawn.
        """
        began_s, asked, written = time.perf_counter(), self._asked.written, self._written.written
        self._client.data_received(self._sent)
        waits = self._asked.written == asked
        if waits:
            async with asyncio.timeout(_ASKED_S):
                while self._asked.written == asked:  # noqa: ASYNC110 - a stand-in for a socket tells nobody
                    await asyncio.sleep(0.001)
        self._answer()
        took_s = time.perf_counter() - began_s
        assert self._written.written > written + len(WHOLE), "the request was not answered"
        return float("inf") if waits else took_s

    def _answer(self) -> None:
        parts = self._parts
        for part in parts[:_BEFORE]:
            self._model.data_received(part)
        amid_s = time.perf_counter()
        for part in parts[_BEFORE:-_BEHIND]:
            self._model.data_received(part)
        amid = max(1, len(parts) - _BEFORE - _BEHIND)
        self.event_s = min(self.event_s, (time.perf_counter() - amid_s) / amid)
        for part in parts[max(_BEFORE, len(parts) - _BEHIND) :]:
            self._model.data_received(part)

    def close(self) -> None:
        self._model.connection_lost(None)


async def rounds(sides: Sides, count: int, lines: Lines, profile: cProfile.Profile | None) -> float:
    """Return the least seconds that a request took."""
    least_s = float("inf")
    for _ in range(count):
        await asyncio.sleep(0)
        lines.flush()
        if profile is not None:
            profile.enable()
        for _ in range(ROUND):
            least_s = min(least_s, await sides.exchange())
        if profile is not None:
            profile.disable()
    return least_s


def stages(profile: cProfile.Profile) -> str:
    """Return the share of each stage: of what the profiler sees, to which calls are dearer than they are."""
    timings = pstats.Stats(profile).stats  # type: ignore[attr-defined] # typeshed leaves it out
    table: list[tuple[str, str, float]] = [
        (name, of, took_s) for (name, _, of), (_, _, _, took_s, _) in timings.items()
    ]

    def seconds(wanted: Sequence[str]) -> float:
        places = [each.rsplit(":", 1) for each in wanted]
        return sum(
            took for name, of, took in table if any(name.endswith("/" + file) and of == it for file, it in places)
        )

    whole_s = seconds(["gateway_python.py:exchange"])
    shares = {name: (seconds(one) - seconds(other)) / whole_s for name, (one, other) in STAGES.items()}
    shares["what ties it together"] = 1 - sum(shares.values())
    return "\n".join(
        ["| stage | share |", "|---|---|", *(f"| {name} | {share:.1%} |" for name, share in shares.items())]
    )


async def healthy(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


async def measure(options: argparse.Namespace, folder: Path) -> None:
    (folder / "pepper").write_bytes(PEPPER)
    server = await asyncio.start_server(healthy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = ApiGatewaySettings.model_validate(
        {
            "upstreams": {"mixtral": {"base_url": f"http://127.0.0.1:{port}/v1"}},
            "pepper_file": str(folder / "pepper"),
            "journal": {"directory": str(folder / "journal")},
        }
    )
    slab = Board(1).free()
    assert slab is not None
    count_in(slab)
    lines = Lines(os.open(os.devnull, os.O_WRONLY))
    lines.patient = True
    logging.getLogger("reference_stack").setLevel(logging.INFO)
    store: Any = Store()
    app = create_app(settings, key_repository=store, usage_repository=store, place=Place(line=lines.put))
    profile = cProfile.Profile() if options.profile or options.stages else None
    async with app.router.lifespan_context(app):
        sides = Sides(app, port, stream=options.stream)
        try:
            least_s = await rounds(sides, options.rounds, lines, None)
            if profile is not None:
                await rounds(sides, options.rounds, lines, profile)
        finally:
            sides.close()
    print(f"{least_s * 1e6:.1f} us of Python a request, the least of {options.rounds * ROUND}")
    if options.stream:
        print(f"{sides.event_s * 1e6:.2f} us of Python an event amid a stream")
    if options.stages and profile is not None:
        print(stages(profile))
    if options.profile and profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--stages", action="store_true", help="the share of each step, as a table")
    parser.add_argument("--profile", action="store_true", help="the 40 functions that take longest")
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(parser.parse_args(), Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
