"""Lanes, marks, segments and syncs on a real disk: who may write where, what stays, and what a full disk does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.journal.lane import (
    MARKS,
    Strange,
    claim,
    claim_left,
    is_held,
    lanes,
    segment_path,
    segments,
)
from reference_stack.services.infrastructure.api_gateway.journal.marks import LeftMarks, Marks, Progress, halves
from reference_stack.services.infrastructure.api_gateway.journal.record import FORMAT, Opened, line_of, scan
from reference_stack.services.infrastructure.api_gateway.journal.segment import SegmentWriter
from reference_stack.services.infrastructure.api_gateway.journal.sync import Syncer
from tests.reference_stack.infrastructure.conftest import eventually

NONE = Progress(started=False, tokens=0)
LINE = line_of(Opened(FORMAT))


@contextlib.contextmanager
def syncing(age_s: float = 0.01) -> Iterator[tuple[Syncer, list[OSError]]]:
    problems: list[OSError] = []
    syncer = Syncer(age_s, also=lambda: None, failed=problems.append)
    try:
        yield syncer, problems
    finally:
        syncer.close()


def test_each_process_gets_a_lane_of_its_own(tmp_path: Path) -> None:
    """A lane that is held is nobody else's; when it is let go the next one takes it."""
    with claim(tmp_path / "new") as first, claim(tmp_path / "new") as second:
        assert [first.path.name, second.path.name] == ["lane-0", "lane-1"]
        assert is_held(first.path)
    assert not is_held(first.path)
    with claim(tmp_path / "new") as third:
        assert third.path == first.path


def test_a_lane_with_something_left_is_adopted_and_not_written_on(tmp_path: Path) -> None:
    """Who starts writes into a clean lane; who adopts takes only those that are left."""
    with claim(tmp_path) as dead:
        segment_path(dead.path, 1).touch()
        assert list(claim_left(tmp_path)) == []

    with claim(tmp_path) as fresh:
        assert fresh.path.name == "lane-1"
        with contextlib.closing(claim_left(tmp_path)) as left:
            assert next(left).path == dead.path
            assert is_held(dead.path)
    assert [path.name for path in lanes(tmp_path)] == ["lane-0", "lane-1"]


def test_a_directory_belongs_to_one_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While a gateway of one database lives nobody of another gets in; later one does, and what was left is told."""
    with claim(tmp_path, "here:5432/a") as first, claim(tmp_path, "here:5432/a"):
        with pytest.raises(Strange, match="another database"):
            claim(tmp_path, "there:5432/b")
        segment_path(first.path, 1).touch()

    with claim(tmp_path, "there:5432/b") as other:
        assert other.path.name == "lane-1"
        assert "rows left in" in caplog.text
        with pytest.raises(Strange):
            claim(tmp_path, "here:5432/a")


def test_the_kernel_lets_go_of_a_killed_process_s_lane(tmp_path: Path) -> None:
    """SIGKILL frees the lane, whatever the process was doing."""
    module = "reference_stack.services.infrastructure.api_gateway.journal.lane"
    program = f"from pathlib import Path; from {module} import claim; l = claim(Path({str(tmp_path)!r}));"
    argv = [sys.executable, "-c", program + "print(flush=True); input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert is_held(tmp_path / "lane-0")
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not is_held(tmp_path / "lane-0")


def test_a_folder_that_cannot_be_locked_is_an_error(tmp_path: Path) -> None:
    """What is in the way is said, rather than waited for."""
    (tmp_path / "lane-0").mkdir()
    (tmp_path / "lane-0" / "lock").mkdir()

    with pytest.raises(IsADirectoryError):
        claim(tmp_path)


@dataclass
class Open:
    """A request as the test knows it."""

    mark: int
    progress: Progress = NONE


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(st.sampled_from(["take", "put", "end"]), st.integers(0, 50)), max_size=40))
def test_marks_outlive_who_wrote_them(steps: list[tuple[str, int]]) -> None:
    """What is read back is each open request's own progress, and nothing of those that had its place before."""
    with tempfile.TemporaryDirectory() as folder:
        marks = Marks(Path(folder), 4)
        held: list[Open] = []
        ended: list[int] = []
        for step, number in steps:
            if step == "take" and marks.free:
                held.append(Open(marks.take()))
            elif step == "put" and held:
                one = held[number % len(held)]
                marks.put(one.mark, number)
                one.progress = Progress(started=True, tokens=number)
            elif step == "end" and held:
                ended.append(held.pop(number % len(held)).mark)
                marks.give_back(ended[-1])
        assert len(marks.free) == 4 - len(held)
        left = LeftMarks(Path(folder))
        assert [left.of(*halves(one.mark)) for one in held] == [one.progress for one in held]
        taken = {halves(one.mark)[0] for one in held}
        assert all(left.of(*halves(mark)) == NONE for mark in ended if halves(mark)[0] in taken)
        marks.sync()
        marks.close()


def test_marks_that_are_not_there_say_nothing(tmp_path: Path) -> None:
    """A lane whose marks are missing or cut off still gives its rows, with nothing billed."""
    assert LeftMarks(tmp_path).of(0, 1) == Progress(started=False, tokens=0)
    (tmp_path / MARKS).write_bytes(b"\x02\0\0\0\x01\0\0\0\x05\0\0")

    left = LeftMarks(tmp_path)

    assert left.of(0, 1) == Progress(started=True, tokens=1)
    assert left.of(1, 1) == Progress(started=False, tokens=0)


def test_no_room_for_marks_is_an_error(tmp_path: Path) -> None:
    """Room is taken at the start, so that a full disk is an error and not the death of the process."""
    with limited_files(1000), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        Marks(tmp_path, 4096)


@contextlib.contextmanager
def limited_files(most_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond `most_bytes`."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_segments_follow_one_another(tmp_path: Path) -> None:
    """A segment that has its size is followed by the next; every line is whole in one of them."""
    with syncing() as (syncer, _):
        writer = SegmentWriter(tmp_path, syncer, segment_bytes=3 * len(LINE))
        for _ in range(5):
            writer.append(LINE)
        writer.close()

    found = [scan(path.read_bytes()) for _, path in segments(tmp_path)]
    assert [number for number, _ in segments(tmp_path)] == [1, 2, 3]
    assert [len(each.records) for each in found] == [3, 3, 2]  # the first of each says its format
    assert not any(each.damaged for each in found)


def test_a_line_that_found_no_room_spoils_no_other(tmp_path: Path) -> None:
    """A full disk leaves a part of a line at the end of a segment; what is written later stands in the next one."""
    with syncing() as (syncer, _):
        writer = SegmentWriter(tmp_path, syncer, segment_bytes=1 << 20)
        with limited_files(len(LINE) + 10):
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                writer.append(LINE)
            assert segment_path(tmp_path, 1).stat().st_size == len(LINE) + 10
        with limited_files(len(LINE) - 1), pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            writer.append(LINE)
        assert [number for number, _ in segments(tmp_path)] == [1]

        writer.append(LINE)
        writer.close()

    assert [len(scan(path.read_bytes()).records) for _, path in segments(tmp_path)] == [1, 2]


def test_who_waits_is_told_when_it_is_on_the_disk() -> None:
    """A wait ends long before the age at which a write would be synced by itself."""
    synced = threading.Event()

    async def story() -> None:
        syncer = Syncer(60.0, also=synced.set, failed=lambda _: None)
        try:
            async with asyncio.timeout(10):
                await asyncio.gather(syncer.synced(), syncer.synced())
            assert synced.is_set()
        finally:
            syncer.close()

    asyncio.run(story())


def test_a_write_is_synced_by_itself(tmp_path: Path) -> None:
    """Nobody has to ask: within its age a write is on the disk."""
    synced = threading.Event()
    syncer = Syncer(0.01, also=synced.set, failed=lambda _: None)
    try:
        with (tmp_path / "file").open("wb", buffering=0) as file:
            syncer.follow(os.dup(file.fileno()))
            assert synced.wait(10)
            synced.clear()
            file.write(b"more")
            syncer.wrote()
            assert synced.wait(10)
    finally:
        syncer.close()


def test_a_disk_that_cannot_sync_is_told_to_who_waits() -> None:
    """The error reaches both who waits and the journal."""

    def broken() -> None:
        raise OSError(errno.EIO, "broken")

    async def story() -> None:
        problems: list[OSError] = []
        syncer = Syncer(0.01, also=broken, failed=problems.append)
        try:
            with pytest.raises(OSError, match="broken"):
                await syncer.synced()
            assert problems
        finally:
            syncer.close()

    asyncio.run(story())


def test_who_no_longer_waits_is_not_told() -> None:
    """A wait that was cancelled, or whose loop has ended, disturbs nothing."""
    go = threading.Event()
    began = threading.Event()

    def slow() -> None:
        began.set()
        go.wait(10)

    syncer = Syncer(0.01, also=slow, failed=lambda _: None)

    async def story() -> None:
        first = asyncio.ensure_future(syncer.synced())
        await asyncio.to_thread(began.wait, 10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first, 0.01)

    asyncio.run(story())
    go.set()
    syncer.close()
    assert not syncer._thread.is_alive()


def test_a_retired_segment_is_closed(tmp_path: Path) -> None:
    """Descriptors of ended segments do not pile up."""

    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    with syncing() as (syncer, problems):
        before = descriptors()
        writer = SegmentWriter(tmp_path, syncer, segment_bytes=1)
        for _ in range(20):
            writer.append(LINE)
        eventually(lambda: descriptors() <= before + 1)
        writer.close()
    assert problems == []
