"""Clients that ask while everything is killed around them, and write down what they got: the first ledger."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from hxp_harness.faults.backend import mark
from hxp_harness.faults.ledger import ClientRow, Ended
from tests.reference_stack.kill.processes import KEY

_DEADLINE_S = 60.0
# The one refusal that comes after a request was accepted: its row says that it failed, with no token.
_ACCEPTED = "model_unavailable"


@dataclass
class Answer:
    """What came of one answer so far."""

    status: int = 0
    code: str = ""
    tokens: int = 0
    proof: str = ""
    done: bool = False
    error: bool = False

    def hear(self, text: str) -> None:
        words = text.split()
        if words and not self.proof:
            self.proof = words[0]
        self.tokens += len(words)

    def event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        said = json.loads(data)
        if "error" in said:
            self.error = True
            return
        for choice in said["choices"]:
            self.hear(choice["delta"].get("content") or "")


@dataclass
class Load:
    """At least `total` requests, and on until it is `enough`, over `clients` connections, each kept while it lasts."""

    port: int
    total: int
    clients: int
    rows: list[ClientRow] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    enough: bool = False
    _next: int = 0

    def reached(self, count: float) -> bool:
        """Whether so many requests are over."""
        return len(self.rows) >= count

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.clients):
                tasks.create_task(self._client())

    async def _client(self) -> None:
        wire: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self._next < self.total or not self.enough:
            number = self._next
            self._next += 1
            answer = Answer()
            keeps = False
            try:
                async with asyncio.timeout(_DEADLINE_S):
                    wire = wire or await asyncio.open_connection("127.0.0.1", self.port)
                    keeps = await _ask(number, answer, *wire)
            except (OSError, EOFError, TimeoutError):
                pass
            if not keeps and wire is not None:
                wire[1].close()
                wire = None
            self._note(number, answer)
        if wire is not None:
            wire[1].close()

    def _note(self, number: int, answer: Answer) -> None:
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        if answer.done:
            ended = Ended.OK
        elif answer.error or answer.status == 503:
            ended = Ended.FAILED  # told so: the stream broke, or the request was refused
        else:
            ended = Ended.UNKNOWN  # the connection went with the gateway
        accepted = answer.status == 200 or answer.code == _ACCEPTED
        row = ClientRow(f"r{number}", f"n{number}", ended, accepted, answer.tokens, answer.proof)
        self.rows.append(row)


async def _ask(number: int, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Ask once; return whether the connection is good for another."""
    stream = number % 3 == 0
    body = json.dumps(
        {
            "model": "scripted",
            "messages": [{"role": "user", "content": mark(f"r{number}", f"n{number}")}],
            "max_tokens": 1 + number % 8,
            "stream": stream,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nx-request-id: r{number}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    answer.status = int(lines[0].split(b" ")[1])
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:-2])
    if b"content-length" in headers:
        said = json.loads(await reader.readexactly(int(headers[b"content-length"])))
        if answer.status == 200:
            answer.hear(said["choices"][0]["message"]["content"])
            answer.done = True
        else:
            answer.code = said["error"]["code"]
    else:
        await _stream(answer, reader)
    return headers.get(b"connection") != b"close"


async def _stream(answer: Answer, reader: asyncio.StreamReader) -> None:
    rest = b""
    while size := int(await reader.readuntil(b"\n"), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *events, rest = rest.split(b"\n\n")
        for event in events:
            answer.event(event.removeprefix(b"data: "))
    await reader.readuntil(b"\n")
