"""What models' servers may put on a connection, and what the gateway makes of it for this request and the next."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.backend import Address
from reference_stack.services.infrastructure.api_gateway.wire.chunk import chunk_at
from reference_stack.services.infrastructure.api_gateway.wire.connection import Connection
from reference_stack.services.infrastructure.api_gateway.wire.exchange import Exchange, Headers
from reference_stack.services.infrastructure.api_gateway.wire.pool import Pool
from reference_stack.services.infrastructure.api_gateway.wire.watch import Watch
from tests.reference_stack.infrastructure.conftest import (
    DONE,
    ROLE,
    TEXTS,
    WHOLE,
    Gateway,
    Script,
    Wire,
    chat,
    eventually,
    text_event,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n\r\n" % len(WHOLE)


def sends(*parts: bytes, keeps: bool = True) -> Script:
    """Send these bytes as they are; close behind them unless the connection is kept."""

    async def script(wire: Wire) -> None:
        wire.keeps = keeps
        for part in parts:
            await wire.send(part)

    return script


WELL = {
    "interim": sends(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HEAD + LENGTH + WHOLE
    ),
    "until_close": sends(HEAD + b"\r\n" + WHOLE, keeps=False),
    "http_1_0": sends(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n", WHOLE, keeps=False),
    "byte_by_byte": sends(*(bytes([byte]) for byte in HEAD + LENGTH + WHOLE)),
    "extension_and_trailer": sends(
        HEAD + b"transfer-encoding: chunked\r\n\r\n%x;a=b\r\n%b\r\n0\r\nx-t: 1\r\n\r\n" % (len(WHOLE), WHOLE)
    ),
}


@pytest.mark.parametrize("name", WELL)
def test_an_answer_in_any_lawful_form(gateway: Gateway, name: str) -> None:
    """However a server frames and cuts its answer, the client gets the same bytes."""
    gateway.backend.script = WELL[name]

    for _ in range(2):
        reply = gateway.post(chat())
        assert (reply.status_code, reply.content) == (200, WHOLE)


EVENTS = (ROLE, *(text_event(f"word {number}, thrée") for number in range(8)), text_event("", "stop"), DONE)
STREAM = b"".join(EVENTS)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKS = b"".join(map(chunk, EVENTS))
LINE = len(b"xx\r\n")


def cut_behind_chunks(by: int) -> list[bytes]:
    """Return the stream in reads that end `by` bytes into the next chunk."""
    places = [0, *(len(b"".join(map(chunk, EVENTS[:count]))) + by for count in range(1, len(EVENTS))), len(CHUNKS)]
    return [CHUNKS[start:end] for start, end in itertools.pairwise(places)]


FRAMED = {
    "an_event_a_chunk": [*map(chunk, EVENTS)],
    "all_at_once": [CHUNKS],
    "two_chunks_a_read": [b"".join(map(chunk, EVENTS[at : at + 2])) for at in range(0, len(EVENTS), 2)],
    "a_chunk_over_two_reads": [CHUNKS[at : at + 100] for at in range(0, len(CHUNKS), 100)],
    "an_event_over_two_chunks": [chunk(STREAM[at : at + 77]) for at in range(0, len(STREAM), 77)],
    "two_events_a_chunk": [chunk(b"".join(EVENTS[at : at + 2])) for at in range(0, len(EVENTS), 2)],
    "sizes_in_another_spelling": [b"%06X;x=y\r\n%b\r\n" % (len(each), each) for each in EVENTS],
    "size_and_rest_apart": [part for each in EVENTS for part in (b"%x\r\n" % len(each), each + b"\r\n")],
    "line_end_apart": [part for each in EVENTS for part in (chunk(each)[:-2], b"\r\n")],
    "next_size_begun": cut_behind_chunks(1),
    "next_size_read": cut_behind_chunks(LINE),
}


@pytest.mark.parametrize("name", FRAMED)
def test_a_stream_in_any_framing(gateway: Gateway, name: str) -> None:
    """However chunks and reads cut a stream, the client gets its events, and the texts are counted."""

    async def script(wire: Wire) -> None:
        wire.keeps = True
        await wire.head(200, "text/event-stream", "transfer-encoding: chunked")
        for part in FRAMED[name]:
            await wire.send(part)
            await asyncio.sleep(0.002)  # so that it is a read of its own
        await wire.end()

    gateway.backend.script = script
    reply = gateway.post(chat(stream=True))
    assert reply.content == STREAM
    assert gateway.usage.last().output_tokens == 8


ADDRESS = Address("127.0.0.1", 1, tls=False)


class Heard(asyncio.Transport):
    """Both ends of a connection to a model's server: takes what is sent there, and keeps what is heard from it."""

    def __init__(self) -> None:
        super().__init__()
        self.exchange = Exchange(ADDRESS, b"", self)
        self.body = b""
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None: ...

    def head(self, status: int, headers: Headers) -> None: ...

    def part(self, data: bytes) -> None:
        self.body += data
        self.exchange.shorten(self.takes)

    def takes(self, read: bytes) -> int:
        taken = 0
        while (found := chunk_at(read, taken)) != (0, 0):
            self.body += read[slice(*found)]
            taken = found[1] + 2
        return taken

    def end(self) -> None:
        self.ended = True

    def lost(self, why: str, *, reached: bool = True) -> None:
        raise AssertionError(f"{why}, {reached}")


LIKE_CHUNK = st.sampled_from([b"3\r\nabc\r\n", b"1\r\n", b"0\r\n\r\n", b"a", b"\r\n"])


@given(st.lists(st.lists(LIKE_CHUNK, min_size=1, max_size=6).map(b"".join), max_size=6), st.lists(st.integers(0, 400)))
@example([b"a", b"abc\r\n" + b"x" * 14], [54, 62])  # the second size is 13: a read begins with its 3
def test_a_chunk_is_one_wherever_reads_cut(payloads: list[bytes], cuts: list[int]) -> None:
    """What only looks like a chunk, being within one or behind the first digit of a size, is not taken for one."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    data = head + b"".join(map(chunk, payloads)) + b"0\r\n\r\n"
    places = sorted({cut % len(data) for cut in cuts} | {0, len(data)})
    heard = Heard()
    connection = Connection(Pool(Watch(), 1.0), ADDRESS)
    connection.connection_made(heard)
    connection.begin(heard.exchange)
    for start, end in itertools.pairwise(places):
        connection.data_received(data[start:end])
    assert (heard.body, heard.ended) == (b"".join(payloads), True)


BAD = {
    "upgrade": sends(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "endless_head": sends(HEAD + b"x-long: " + b"y" * 100_000),
    "endless_interim": sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000),
    "two_lengths": sends(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}"),
    "length_and_chunks": sends(HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "short": sends(HEAD + b"content-length: 5000\r\n\r\n" + WHOLE, keeps=False),
    "negative_length": sends(HEAD + b"content-length: -1\r\n\r\n" + WHOLE),
    "huge_chunk": sends(HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + WHOLE),
    "eof_in_chunk": sends(HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\n{", keeps=False),
}


@pytest.mark.owasp("API10:2023")
@pytest.mark.parametrize("name", BAD)
def test_an_answer_in_no_lawful_form(gateway: Gateway, name: str) -> None:
    """What can be read two ways, or has no end, is a 502 at once; its connection serves nobody after it."""
    gateway.backend.script = BAD[name]

    assert gateway.post(chat()).status_code == 502
    assert gateway.usage.last().outcome == "failed"
    gateway.backend.script = sends(HEAD + LENGTH + WHOLE)
    assert gateway.post(chat()).content == WHOLE
    ports = [each.client_port for each in gateway.backend.asked]
    assert len(ports) == len(set(ports)) >= 2


@pytest.mark.owasp("API10:2023", "LLM02:2025")
@pytest.mark.parametrize("extra", [WHOLE, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"garbage"])
def test_bytes_behind_an_answer_reach_nobody(gateway: Gateway, extra: bytes) -> None:
    """What a server sends beyond the end of an answer is no part of it, nor of the next one."""
    gateway.backend.script = sends(HEAD + LENGTH + WHOLE + extra)

    for _ in range(3):
        assert gateway.post(chat()).content == WHOLE
    ports = [each.client_port for each in gateway.backend.asked]
    assert len(ports) == len(set(ports)) == 3


def test_connections_are_kept(gateway: Gateway) -> None:
    """Requests one after another share connections; a stream's is free again just behind its [DONE]."""
    for number in range(6):
        stream = number % 2 == 1
        assert gateway.post(chat(stream=stream)).content == (b"".join((*TEXTS, DONE)) if stream else WHOLE)

    assert len({each.client_port for each in gateway.backend.asked}) <= 2


def test_an_idle_connection_is_given_up_first(gateway: Gateway) -> None:
    """A free connection is closed by us, well before a server of 5 s would do it at the wrong moment."""

    async def waits(wire: Wire) -> None:
        wire.keeps = False
        await wire.send(HEAD + LENGTH + WHOLE)
        await wire.wait_gone()

    gateway.backend.script = waits
    assert gateway.post(chat()).content == WHOLE
    assert eventually(lambda: gateway.backend.asked[0].gone_at_s, within_s=4.5)


def test_an_answer_before_the_whole_request(gateway: Gateway) -> None:
    """A server that refuses while the request is still being sent is heard, and its connection is not used again."""
    body = chat(messages=[{"role": "user", "content": "x" * 3_000_000}])

    async def hasty(wire: Wire) -> None:
        await wire.answer(b"{}", 429, "text/plain", "retry-after: 2")

    gateway.backend.script = hasty
    reply = gateway.post(body)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")
