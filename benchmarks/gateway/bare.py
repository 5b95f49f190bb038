"""A relay in Python that does nothing else, the floor of any: `python bare.py PORT BACKEND_PORT`.

uvloop, httptools, connections kept on both sides; no key, no check, no limit, no count, no log, no deadline.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop

_HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_REQUEST = b"POST %b HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class Model(asyncio.Protocol):
    """One connection to the backend, free or with one request."""

    def __init__(self, free: list[Model]) -> None:
        self._free = free
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, client: asyncio.Transport, url: bytes, body: bytes) -> None:
        self._client, self._parts, self._begun, self._length = client, list[bytes](), False, -1
        self._transport.write(_REQUEST % (url, len(body), body))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._length < 0 and self._parts:
            head, self._begun = b"" if self._begun else _STREAM, True
            part = b"".join(self._parts)
            self._parts.clear()
            self._client.write(b"%b%x\r\n%b\r\n" % (head, len(part), part))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-length":
            self._length = int(value)

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)

    def on_message_complete(self) -> None:
        rest = b"".join(self._parts)
        self._parts.clear()
        if self._length >= 0:
            self._client.write(_WHOLE % (len(rest), rest))
        else:
            self._client.write((b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\n\r\n")
        self._free.append(self)


class Client(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, free: list[Model], backend_port: int) -> None:
        self._free = free
        self._backend_port = backend_port
        self._parser = httptools.HttpRequestParser(self)
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._parser.get_method() != b"POST":
            self._transport.write(_HEALTHY)
        elif self._free:
            self._free.pop().send(self._transport, self._url, self._body)
        else:
            self._dialling = asyncio.ensure_future(self._dial(self._url, self._body))

    async def _dial(self, url: bytes, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, model = await loop.create_connection(lambda: Model(self._free), "127.0.0.1", self._backend_port)
        model.send(self._transport, url, body)


async def serve(port: int, backend_port: int) -> None:
    free: list[Model] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(free, backend_port), "127.0.0.1", port, backlog=8192)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
