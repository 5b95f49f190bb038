"""The connections to all models' servers: kept for a moment when they are free, made when none is."""

from __future__ import annotations

import asyncio

from reference_stack.services.infrastructure.api_gateway.backend import Address, Backend
from reference_stack.services.infrastructure.api_gateway.wire.connection import Connection
from reference_stack.services.infrastructure.api_gateway.wire.exchange import Exchange, Listener
from reference_stack.services.infrastructure.api_gateway.wire.watch import Watch


class Pool:
    """Its size is bounded by the gateway's own limit of requests in flight."""

    def __init__(self, watch: Watch, connect_s: float) -> None:
        """A server must take a connection within `connect_s`."""
        self._watch = watch
        self._connect_s = connect_s
        self._free: dict[Address, dict[Connection, None]] = {}  # the last that was freed is the first to be used
        self._open: set[Connection] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def send(self, backend: Backend, route: str, body: bytes, request_id: str, listener: Listener) -> Exchange:
        """Send `body` as it is; `listener` hears of the answer, never before this has returned.

        Redirects are not followed, for a model's server does not say where requests go.
        """
        exchange = Exchange(backend.address, backend.request(route, body, request_id), listener)
        free = self._free.get(backend.address)
        while free:
            connection, _ = free.popitem()
            if connection.usable:
                connection.begin(exchange)
                return exchange
        self._dial(exchange)
        return exchange

    async def close(self) -> None:
        """Close everything at once."""
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()
        await self._empty.wait()

    @property
    def open_connections(self) -> int:
        return len(self._open)

    # What a connection tells.

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)
        self._empty.clear()
        self._watch.add(connection)

    def free(self, connection: Connection) -> None:
        self._free.setdefault(connection.address, {})[connection] = None

    def stale(self, exchange: Exchange) -> None:
        self._dial(exchange)

    def closed(self, connection: Connection) -> None:
        self._watch.discard(connection)
        self._open.discard(connection)
        self._free.get(connection.address, {}).pop(connection, None)
        if not self._open:
            self._empty.set()

    def _dial(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _connect(self, exchange: Exchange) -> None:
        address, connection = exchange.address, Connection(self, exchange.address)
        try:
            async with asyncio.timeout(self._connect_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, address.host, address.port, ssl=True if address.tls else None
                )
            if not connection.usable:
                raise ConnectionResetError
        except OSError as error:  # TimeoutError and ssl's errors among them
            self.closed(connection)
            listener, exchange.listener = exchange.listener, None
            if listener is not None:
                listener.lost(f"no connection: {type(error).__name__}", reached=False)
        except asyncio.CancelledError:
            self.closed(connection)  # uvloop does not tell it
            raise
        else:
            # An exchange that was cancelled meanwhile leaves its connection to another one.
            connection.wait() if exchange.listener is None else connection.begin(exchange)
