"""The timer of the hot loop: it rings when it was set to, and says so where it cannot be had."""

from __future__ import annotations

import errno
import os
import resource
import select
import time

import pytest

from hxp_harness.load.alarm import Alarm

SOON_NS = 5_000_000


def test_it_rings_at_its_time_and_not_before() -> None:
    """The latest time set counts; what was acknowledged is quiet until it is set again."""
    alarm = Alarm()
    try:
        alarm.set(time.monotonic_ns() + 10**12)
        at_ns = time.monotonic_ns() + SOON_NS
        alarm.set(at_ns)
        alarm.set(at_ns)
        assert select.select([alarm.fd], [], [], 10.0)[0] == [alarm.fd]
        assert time.monotonic_ns() >= at_ns
        alarm.acknowledge()
        alarm.acknowledge()
        assert select.select([alarm.fd], [], [], 0.0)[0] == []
        alarm.set(1)
        assert select.select([alarm.fd], [], [], 10.0)[0] == [alarm.fd]
    finally:
        alarm.close()


def test_no_descriptor_left_is_an_error_of_its_own() -> None:
    """Without a timer the hot loop would send nothing, and silently so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            Alarm()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
