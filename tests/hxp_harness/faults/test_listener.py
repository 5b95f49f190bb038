"""A listener that ends leaves no connection open, whatever state it was in."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from hxp_harness.faults.backend import Backend
from hxp_harness.faults.background import Background
from hxp_harness.faults.listener import Listener
from hxp_harness.faults.proxy import Proxy

LARGE_BYTES = 64 << 20  # more than the buffers of two sockets hold


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing until the client goes."""
    await reader.read(1)


async def unread(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what a client that does not read never takes, and be done."""
    writer.write(bytes(LARGE_BYTES))


def dialled(port: int, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))


def ended(client: socket.socket) -> bool:
    """Read to the end of the connection, which comes or the read times out."""
    try:
        while client.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("turns", range(8))
async def test_what_is_just_accepted_is_closed(turns: int) -> None:
    """However far the loop has come with a new connection when the listener ends, its client sees the end."""
    listener = Listener(silent)
    port = await listener.open()
    with ExitStack() as stack:
        clients = [dialled(port, stack) for _ in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.close()
        gc.collect()  # an open transport would be an error here
        assert all(ended(client) for client in clients)


async def test_an_answer_that_nobody_reads_is_dropped() -> None:
    """A talk that is over, and whose last bytes the client does not take, holds nothing up at the end."""
    listener = Listener(unread)
    port = await listener.open()
    with ExitStack() as stack:
        client = dialled(port, stack)
        await asyncio.to_thread(client.recv, 1)
        async with asyncio.timeout(60):
            await listener.close()
        assert ended(client)


async def test_a_listener_opens_again() -> None:
    """What was closed listens again on another socket, and serves."""

    async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    listener = Listener(hello)
    await listener.close()
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", await listener.open())
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        await listener.close()


async def test_a_talk_that_fails_is_told_and_closed() -> None:
    """What a talk raises reaches the loop's handler of errors, and the client sees the end."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    async def broken(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise ValueError("broken on purpose")

    listener = Listener(broken)
    reader, writer = await asyncio.open_connection("127.0.0.1", await listener.open())
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await listener.close()
    assert [str(each["exception"]) for each in told] == ["broken on purpose"]


@pytest.mark.parametrize("kind", ["backend", "proxy"])
def test_servers_that_end_amid_new_connections_leave_none_open(kind: str) -> None:
    """A backend, and a proxy before one, end while clients dial: each client sees the end, and nothing is left open."""
    with ExitStack() as stack:
        for _ in range(10):
            with Backend("headers_never_come") as backend, Proxy(("127.0.0.1", backend.port)) as proxy:
                port = backend.port if kind == "backend" else proxy.port
                clients = [dialled(port, stack) for _ in range(20)]
            assert all(ended(client) for client in clients)
    gc.collect()  # an open transport would be an error here


def test_a_background_ends_what_is_born_while_it_ends() -> None:
    """A task that a cancelled task starts ends, too, before the loop is closed."""
    ends: list[str] = []

    async def heir() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("heir")

    async def testator(begun: asyncio.Event) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            heirs.add(asyncio.create_task(heir()))
            await asyncio.sleep(0)  # it begins

    async def start() -> None:
        begun = asyncio.Event()
        heirs.add(asyncio.create_task(testator(begun)))
        await begun.wait()

    heirs: set[asyncio.Task[None]] = set()
    with Background() as background:
        background.run(start())
    assert ends == ["heir"]
