"""The hot loop: sends each request when it is due, whatever is still open, and reads what comes back.

One thread around one epoll. Sending goes before reading, because a send is late by the time it waits and a read is
not: the kernel has stamped what it brings. Bodies are parsed when their request has ended and nothing is due.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Sequence

from hxp_harness.load.alarm import Alarm
from hxp_harness.load.connection import Address, Connection, Receipts
from hxp_harness.load.exchange import Exchange
from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.timetable import NEVER_NS, Timetable
from hxp_harness.trace import ErrorKind, Trace

HOUSEKEEPING_S = 0.05
_QUIET_NS = 300_000  # parsing one body takes about this long at most
_BACKLOG = 256  # ended requests that may wait for a quiet moment
_MAX_EVENTS = 4096

Request = tuple[Due, bytes, str]  # what to send when, and its X-Request-Id
Follow = Callable[[Due, Exchange], bytes]  # the bytes of a request that follows an answer


class Client:
    """Sends a schedule. `on_trace` gets each trace, `on_idle` is called about every 50 ms."""

    def __init__(
        self,
        address: Address,
        requests: Sequence[Request],
        receipts: Receipts,
        *,
        plan: LoadPlan,
        on_trace: Callable[[Trace], None],
        on_idle: Callable[[], None],
        follow: Follow | None = None,
        lifeline: int | None = None,
    ) -> None:
        """`lifeline` is the reading end of a pipe; the client stops when its other end is gone."""
        self._address = address
        self._requests = requests
        self._receipts = receipts
        self._stream = plan.stream
        self._timeout_ns = int(plan.timeout_s * 1e9)
        self._on_trace = on_trace
        self._on_idle = on_idle
        self._poller = select.epoll()
        self._alarm = Alarm()
        self._poller.register(self._alarm.fd, select.EPOLLIN)
        self._lifeline = lifeline
        if lifeline is not None:
            self._poller.register(lifeline, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._open: deque[Exchange] = deque()  # in the order of their deadlines
        self._ended: deque[Exchange] = deque()
        self._timetable = Timetable([due for due, _, _ in requests], plan.concurrency)
        self._follow = follow
        self._followed: dict[int, Exchange] = {}  # ended exchanges by the place of the request that follows them
        self._composed: dict[int, bytes] = {}
        self._taken = 0
        self._next_ns = NEVER_NS
        self._t0_ns = 0
        self._stop_ns = 0
        self.sent = 0

    @property
    def due(self) -> int:
        """How many requests were due so far."""
        return self._taken

    @property
    def stopped(self) -> bool:
        return self._stop_ns != 0

    def stop(self) -> None:
        """Send nothing more and end what is open. Safe to call from a signal handler."""
        self._stop_ns = self._stop_ns or time.monotonic_ns()

    def run(self, t0_ns: int) -> None:
        """Send the whole schedule, whose times count from `t0_ns` on the monotonic clock; return when all has ended."""
        self._t0_ns = t0_ns
        self._timetable.begin(t0_ns)
        self._aim()
        # A time at which no watched socket held unread bytes: a poll was begun then that did not report the others.
        empty_ns = idle_ns = time.monotonic_ns()
        while not self._stop_ns and (self._next_ns != NEVER_NS or self._open):
            timeout_s = 0.0 if self._ended else HOUSEKEEPING_S
            begun_ns = time.monotonic_ns()
            events = self._poller.poll(timeout_s, _MAX_EVENTS)
            now_ns = self._receipts.offset.sample()
            if now_ns >= self._next_ns:
                now_ns = self._send_due(now_ns)
            for fd, event in events:
                now_ns = self._serve(fd, event, empty_ns, now_ns)
            if len(events) < _MAX_EVENTS:
                empty_ns = begun_ns
            self._expire(now_ns)
            self._parse_when_quiet(now_ns)
            if now_ns - idle_ns > HOUSEKEEPING_S * 1e9:
                idle_ns = now_ns
                self._on_idle()
        self._finish()

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._alarm.close()
        self._poller.close()

    def _aim(self) -> None:
        """Set the alarm to the next request."""
        self._next_ns = self._timetable.next_ns
        if self._next_ns != NEVER_NS:
            self._alarm.set(self._next_ns)

    def _send_due(self, now_ns: int) -> int:
        while now_ns >= self._next_ns:
            exchange = self._take()
            self._open.append(exchange)
            self._send(exchange)
            self._aim()
            now_ns = time.monotonic_ns()
        return now_ns

    def _take(self) -> Exchange:
        """Return the next request as an exchange; its bytes may have to be made of an answer first."""
        intended_ns, place = self._timetable.take()
        self._taken += 1
        self._compose(place)
        due, request, request_id = self._requests[place]
        request = self._composed.pop(place, request)
        return Exchange(due, request, request_id, self._stream, intended_ns, intended_ns + self._timeout_ns)

    def _compose(self, place: int) -> None:
        """Make the bytes of the request at `place` if it follows an answer that has come."""
        exchange = self._followed.pop(place, None)
        if exchange is not None and self._follow is not None:
            self._composed[place] = self._follow(self._requests[place][0], exchange)

    def _end(self, exchange: Exchange) -> None:
        """Take an exchange that has ended, and let who waits for it become due."""
        self._ended.append(exchange)
        place = self._timetable.follower(exchange.due)
        if place is not None:
            self._followed[place] = exchange
        self._timetable.ended(exchange.due, exchange.end_ns)
        self._aim()

    def _send(self, exchange: Exchange) -> None:
        connection = self._idle.pop() if self._idle and not exchange.retried else None
        now_ns = time.monotonic_ns()
        if connection is None:
            try:
                connection = Connection(self._address, self._receipts)
            except OSError as error:
                # No descriptor or no port is left on this machine: the load generator's failure, not the target's.
                exchange.error, exchange.detail, exchange.end_ns = ErrorKind.NOT_SENT, str(error), now_ns
                self._end(exchange)
                return
            self._connections[connection.fd] = connection
            self._poller.register(connection.fd, select.EPOLLIN)
        if not exchange.sent_ns:
            exchange.sent_ns = now_ns
            self.sent += 1
        connection.start(exchange, now_ns)
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Ask to be told of room to send while something is unsent."""
        if connection.unsent:
            self._poller.modify(connection.fd, select.EPOLLIN | select.EPOLLOUT)

    def _serve(self, fd: int, event: int, empty_ns: int, now_ns: int) -> int:
        connection = self._connections.get(fd)
        if connection is None:
            if fd == self._alarm.fd:
                self._alarm.acknowledge()
            elif fd == self._lifeline:
                self.stop()
        else:
            if event & select.EPOLLOUT:
                connection.send()
                if not connection.unsent:
                    self._poller.modify(fd, select.EPOLLIN)
            if event & ~select.EPOLLOUT:
                now_ns = connection.receive(empty_ns)
                if not connection.patience:
                    self._after(connection)
        return self._send_due(now_ns) if now_ns >= self._next_ns else now_ns

    def _after(self, connection: Connection) -> None:
        """Do what a read asks for: keep or drop the connection, end or repeat its request."""
        exchange = connection.exchange
        if exchange is not None and exchange.end_ns:
            connection.exchange = None
            self._end(exchange)
            if not connection.broken:
                self._idle.append(connection)
        if connection.broken:
            self._drop(connection)
            if exchange is not None and not exchange.end_ns:
                exchange.retried = True
                self._send(exchange)
        else:
            self._watch(connection)

    def _drop(self, connection: Connection) -> None:
        self._connections.pop(connection.fd, None)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()  # epoll forgets a closed socket by itself

    def _expire(self, now_ns: int) -> None:
        while self._open and (self._open[0].end_ns or self._open[0].deadline_ns <= now_ns):
            exchange = self._open.popleft()
            if not exchange.end_ns:
                self._abandon(exchange, now_ns, ErrorKind.TIMEOUT, f"not complete {self._timeout_ns / 1e9:g} s after")

    def _abandon(self, exchange: Exchange, now_ns: int, error: ErrorKind, detail: str) -> None:
        for connection in self._connections.values():
            if connection.exchange is exchange:
                connection.fail(now_ns, error, detail)
                self._after(connection)
                return

    def _parse_when_quiet(self, now_ns: int) -> None:
        while self._ended and (self._next_ns - now_ns > _QUIET_NS or len(self._ended) > _BACKLOG):
            exchange = self._ended.popleft()
            place = self._timetable.follower(exchange.due)
            if place is not None:
                self._compose(place)
            self._on_trace(exchange.to_trace(self._t0_ns))
            now_ns = time.monotonic_ns()

    def _finish(self) -> None:
        """Account for every request that was due: none is left without a trace."""
        now_ns = self._stop_ns or time.monotonic_ns()
        while self._next_ns <= now_ns:
            exchange = self._take()
            exchange.error, exchange.detail, exchange.end_ns = (
                ErrorKind.NOT_SENT,
                "due when the run was stopped",
                now_ns,
            )
            self._ended.append(exchange)
            self._aim()
        for exchange in self._open:
            if not exchange.end_ns:
                self._abandon(exchange, now_ns, ErrorKind.UNFINISHED, "open when the run was stopped")
        self._open.clear()
        for exchange in self._ended:
            self._on_trace(exchange.to_trace(self._t0_ns))
        self._ended.clear()
        self._on_idle()
