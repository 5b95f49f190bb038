"""Kernel stamps on the monotonic clock."""

import socket
import time

from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.load.alarm import Alarm
from hxp_harness.load.stamps import CONTROL_BYTES, WallOffset, ask_for_stamps, stamp_ns, stamping


def test_a_late_read_keeps_the_arrival_time() -> None:
    """A stamp says when bytes came, however late they are read."""
    offset = WallOffset()
    with (
        stamping() as stamped,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        assert stamped
        ask_for_stamps(client)
        before_ns = time.monotonic_ns()
        server.send(b"x")
        sent_ns = time.monotonic_ns()
        time.sleep(0.02)  # the lateness of the read
        _, control, _, _ = client.recvmsg(10, CONTROL_BYTES)
        stamp = stamp_ns(control)
        read_ns = time.monotonic_ns()
    assert before_ns - 50_000 <= stamp - offset.ns <= sent_ns + 10_000_000 < read_ns


def test_no_stamp_is_zero() -> None:
    """Control messages of others and none at all are no stamps."""
    assert stamp_ns([]) == 0
    assert stamp_ns([(socket.SOL_SOCKET, 1, b"x" * 16), (socket.SOL_SOCKET, 35, b"x")]) == 0


def test_a_socket_that_cannot_be_stamped_stays_usable() -> None:
    """Where the kernel knows no stamps nothing breaks."""
    sock = socket.socket()
    sock.close()
    ask_for_stamps(sock)


@given(
    interrupted_ns=st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)),
    true_ns=st.integers(-(10**18), 10**18),
    error_ns=st.integers(-500, 500),
)
def test_an_interrupted_reading_does_no_harm(interrupted_ns: tuple[int, int], true_ns: int, error_ns: int) -> None:
    """Wherever a reading was interrupted, what was known well stays as well known."""
    offset = WallOffset()
    offset.ns = true_ns + error_ns
    before_ns, after_ns = 10**9, 10**9 + sum(interrupted_ns)
    offset.learn(before_ns, before_ns + interrupted_ns[0] + true_ns, after_ns)
    assert abs(offset.ns - true_ns) <= max(abs(error_ns), 500)


def test_a_clock_step_is_seen() -> None:
    """Setting the clock shows, even in an interrupted reading."""
    offset = WallOffset()
    offset.learn(1_000, 5_000, 1_200)
    offset.largest_step_ns = 0
    offset.learn(10_000, 1_000_010_000, 90_000)
    assert offset.largest_step_ns > 990_000_000
    assert offset.ns > 990_000_000


def test_an_alarm_rings_when_set() -> None:
    """The alarm rings at its time, not before, once."""
    import select

    alarm = Alarm()
    poller = select.epoll()
    poller.register(alarm.fd)
    try:
        assert poller.poll(0) == []
        at_ns = time.monotonic_ns() + 5_000_000
        alarm.set(at_ns)
        alarm.set(at_ns)
        assert poller.poll(5) != []
        assert time.monotonic_ns() >= at_ns
        alarm.acknowledge()
        assert poller.poll(0) == []
        alarm.acknowledge()
        alarm.set(1)
        assert poller.poll(5) != [], "a time that has passed rings at once"
    finally:
        poller.close()
        alarm.close()
