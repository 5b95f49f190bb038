"""The proxy passes bytes unchanged, and each toxic does what its name says and heals."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hxp_harness.errors import UsageError
from hxp_harness.faults.fixture import Faults
from hxp_harness.faults.proxy import Proxy
from hxp_harness.faults.toxic import KINDS, make_toxic
from hxp_harness.target import Target


class Echo:
    """A server that sends back what it gets and closes when its client does; `lost` counts resets that it saw."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.lost = 0
        self._socks: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._socks.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while received := sock.recv(65536):
                    sock.sendall(received)
            except OSError:
                self.lost += 1

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address, seed=1) as running:
        yield running


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(proxy.address, timeout=5)


def receive(sock: socket.socket, size: int) -> bytes:
    """Return `size` bytes, or what came before the end."""
    received = b""
    while len(received) < size:
        more = sock.recv(size - len(received))
        if not more:
            break
        received += more
    return received


def ask(proxy: Proxy, text: bytes = b"hello") -> tuple[bytes, float]:
    """Send `text` on a connection of its own; return what comes back and after how many seconds."""
    with connect(proxy) as sock:
        started_s = time.monotonic()
        sock.sendall(text)
        return receive(sock, len(text)), time.monotonic() - started_s


def wait_until(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "in vain"
        threading.Event().wait(0.005)


def test_without_toxics_bytes_pass(proxy: Proxy) -> None:
    """A megabyte comes back unchanged, and the end of the stream with it."""
    payload = random.Random(1).randbytes(1 << 20)
    with connect(proxy) as sock:

        def send() -> None:
            sock.sendall(payload)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert receive(sock, len(payload)) == payload
        assert sock.recv(1) == b""
        sender.join(5)
    wait_until(lambda: proxy.connections == 0)


def test_latency_delays_and_heals(proxy: Proxy) -> None:
    """Latency holds each answer back for its delay, and nothing when it is gone."""
    with proxy.toxic("latency", delay_s=0.15):
        answer, slow_s = ask(proxy)
        assert answer == b"hello"
    healed, quick_s = ask(proxy)

    assert healed == b"hello"
    assert slow_s >= 0.15
    assert quick_s < 0.15


def test_latency_costs_no_rate(proxy: Proxy) -> None:
    """Two pieces 50 ms apart arrive 50 ms apart, not twice the delay."""
    with proxy.toxic("latency", delay_s=0.2, stream="upstream"), connect(proxy) as sock:
        started_s = time.monotonic()
        for _ in range(4):
            sock.sendall(b"x")
            threading.Event().wait(0.05)
        assert receive(sock, 4) == b"xxxx"
        assert 0.35 <= time.monotonic() - started_s < 0.7


def test_jitter_keeps_order(proxy: Proxy) -> None:
    """With jitter larger than the delay bytes still arrive in order."""
    with proxy.toxic("latency", delay_s=0.01, jitter_s=0.03), connect(proxy) as sock:
        for number in range(20):
            sock.sendall(bytes([number]))
            threading.Event().wait(0.002)
        assert receive(sock, 20) == bytes(range(20))


def test_down_refuses_and_comes_back(proxy: Proxy) -> None:
    """While down, open connections are reset and new ones refused; thereafter the same port serves."""
    with connect(proxy) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        with proxy.toxic("down"):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            with pytest.raises(ConnectionRefusedError):
                connect(proxy)
    assert ask(proxy)[0] == b"hello"


def test_bandwidth_bounds_the_rate(proxy: Proxy) -> None:
    """Forty kilobytes at 100 kB/s take about 0.4 s."""
    payload = b"x" * 40_000
    with proxy.toxic("bandwidth", rate_bytes_per_s=100_000):
        answer, took_s = ask(proxy, payload)
    assert answer == payload
    assert 0.35 <= took_s < 1.5


def test_slow_close_holds_the_end_back(proxy: Proxy) -> None:
    """The bytes come at once, the end of the stream later."""
    with proxy.toxic("slow_close", delay_s=0.2), connect(proxy) as sock:
        sock.sendall(b"x")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b"x"
        started_s = time.monotonic()
        assert sock.recv(1) == b""
        assert time.monotonic() - started_s >= 0.15


def test_timeout_lets_nothing_pass_then_closes(proxy: Proxy) -> None:
    """A black hole with a time to live ends the connection without a byte."""
    with proxy.toxic("timeout", timeout_s=0.1):
        answer, took_s = ask(proxy)
    assert answer == b""
    assert took_s >= 0.08


def test_timeout_of_zero_holds_until_healed(proxy: Proxy) -> None:
    """A black hole without end gives back what it held when it is healed."""
    with connect(proxy) as sock:
        with proxy.toxic("timeout"):
            sock.sendall(b"x")
            sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        sock.settimeout(5)
        assert sock.recv(1) == b"x"


@pytest.mark.parametrize("timeout_s", [0.0, 0.1])
def test_reset_peer_resets(proxy: Proxy, timeout_s: float) -> None:
    """Open and new connections are reset, not ended."""
    with connect(proxy) as before:
        before.sendall(b"x")
        assert before.recv(1) == b"x"
        with proxy.toxic("reset_peer", timeout_s=timeout_s):
            with pytest.raises(ConnectionResetError), connect(proxy) as during:
                during.recv(1)
            with pytest.raises(ConnectionResetError):
                before.recv(1)
    assert ask(proxy)[0] == b"hello"


def test_taking_a_reset_away_spares_connections(proxy: Proxy) -> None:
    """A connection whose reset was called off lives on."""
    with connect(proxy) as sock:
        with proxy.toxic("reset_peer", timeout_s=0.2):
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        threading.Event().wait(0.25)
        sock.sendall(b"y")
        assert sock.recv(1) == b"y"


@given(payload=st.binary(min_size=1, max_size=200), average=st.integers(1, 7), variation=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_slicer_cuts_and_keeps_all(echo: Echo, payload: bytes, average: int, variation: int) -> None:
    """Whatever the sizes of the slices, all bytes come in order."""
    with Proxy(echo.address) as proxy, proxy.toxic("slicer", average_bytes=average, variation_bytes=variation):
        assert ask(proxy, payload)[0] == payload


def test_slicer_pauses_between_slices(proxy: Proxy) -> None:
    """Ten bytes in slices of two, 20 ms apart, take at least 80 ms."""
    with proxy.toxic("slicer", average_bytes=2, delay_s=0.02), connect(proxy) as sock:
        started_s = time.monotonic()
        sock.sendall(b"0123456789")
        assert sock.recv(65536) == b"01"
        assert receive(sock, 8) == b"23456789"
        assert time.monotonic() - started_s >= 0.08


def test_limit_data_closes_after_its_bytes(proxy: Proxy) -> None:
    """Exactly the allowed bytes pass, over several reads, then the connection ends."""
    with proxy.toxic("limit_data", limit_bytes=7), connect(proxy) as sock:
        sock.sendall(b"01234")
        assert receive(sock, 5) == b"01234"
        sock.sendall(b"56789")
        assert receive(sock, 5) == b"56"


def test_corrupt_flips_every_nth_byte(proxy: Proxy) -> None:
    """Each fourth byte is off by one bit, counted over the whole stream."""
    with proxy.toxic("corrupt", every_bytes=4), connect(proxy) as sock:
        sock.sendall(b"aaaaaa")
        first = receive(sock, 6)
        sock.sendall(b"aaaaaa")
        assert first + receive(sock, 6) == b"aaa`aaa`aaa`"


def test_client_reset_is_passed_on(proxy: Proxy, echo: Echo) -> None:
    """When a client resets, the server sees a reset."""
    before = echo.lost
    sock = connect(proxy)
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    wait_until(lambda: echo.lost == before + 1)
    wait_until(lambda: proxy.connections == 0)


def test_dead_upstream_is_a_reset() -> None:
    """A proxy whose server is gone resets its clients."""
    with socket.socket() as deaf:  # bound and not listening: nobody else can answer there
        deaf.bind(("127.0.0.1", 0))
        with Proxy(deaf.getsockname()) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as sock:
            sock.recv(1)


def test_leaving_while_down_leaves_nothing(echo: Echo) -> None:
    """A proxy that is left while it is down, with a client connected, closes everything."""
    with Proxy(echo.address) as proxy:
        sock = connect(proxy)
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        proxy.add("down")
    with sock, pytest.raises(ConnectionResetError):
        sock.recv(1)


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("latence", {}, "did you mean 'latency'"),
        ("latency", {"delay": 1}, "did you mean 'delay_s'"),
        ("latency", {}, "needs delay_s"),
        ("latency", {"delay_s": -1}, "cannot be -1"),
        ("bandwidth", {"rate_bytes_per_s": 0}, "cannot be 0"),
        ("slicer", {"average_bytes": 0}, "cannot be 0"),
        ("down", {"delay_s": 1}, "takes none"),
    ],
)
def test_nonsense_is_refused(kind: str, attributes: dict[str, float], message: str) -> None:
    """An unknown toxic or attribute is refused with the nearest right spelling, before anything is poisoned."""
    with pytest.raises(UsageError, match=message):
        make_toxic(kind, "downstream", attributes)


def test_every_kind_can_be_made() -> None:
    """Each toxic of the table can be made from its required attributes."""
    for kind, attributes in KINDS.items():
        assert make_toxic(kind, "upstream", {name: 1.0 for name, default in attributes.items() if default is None})


def test_faults_put_a_target_behind_a_proxy(echo: Echo) -> None:
    """The fixture's faults give the same target at another address, with its key and path."""
    target = Target("http://{}:{}/v1".format(*echo.address), "m", "key")
    with Faults() as faults:
        with faults.latency(target, delay_s=0.1) as slow:
            assert slow.port != target.port
            assert (slow.base_url.endswith("/v1"), slow.api_key, slow.api_model) == (True, "key", "m")
            with socket.create_connection((slow.host, slow.port), timeout=5) as sock:
                started_s = time.monotonic()
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
                assert time.monotonic() - started_s >= 0.1
        with faults.down(target) as gone, pytest.raises(ConnectionRefusedError):
            socket.create_connection((gone.host, gone.port), timeout=5)
