"""Promises of the log that makes nobody wait."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reference_stack.workers.lines import JsonHandler, Lines, log_to


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds 4 KiB."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_full_pipe_holds_then_drops(pipe: tuple[int, int]) -> None:
    """What nobody reads is held up to the bound, then dropped and counted; when it is read, the log says how many."""
    reader, writer = pipe
    lines = Lines(writer, most_held=10)
    told = []
    lines.on_drop = lambda: told.append(1)
    for number in range(100):
        lines.put(f"{number:02}" + "x" * 500)
    assert lines.dropped == len(told) > 50
    found = b""
    while not lines.flush():
        found += os.read(reader, 65536)
    found += os.read(reader, 65536)
    rows = found.decode().splitlines()
    assert [int(row[:2]) for row in rows[:-1]] == list(range(100 - lines.dropped))
    assert json.loads(rows[-1]) == {"event": "log_lines_dropped", "count": lines.dropped, "pid": os.getpid()}
    # The other users of the pipe may still wait for it, as they are used to.
    assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_patient_log_writes_when_told(tmp_path: Path) -> None:
    """With `patient` lines wait for `flush`; a file takes them all; what is too long is cut."""
    with (tmp_path / "log").open("wb") as file:
        lines = Lines(file.fileno())
        lines.patient = True
        for number in range(50):
            lines.put(f"{number} " + "x" * 1000)
        lines.put("y" * 10_000)
        assert (tmp_path / "log").read_bytes() == b""
        assert lines.flush()
        rows = (tmp_path / "log").read_text().splitlines()
        assert [row.split(" ")[0] for row in rows[:-1]] == [str(number) for number in range(50)]
        assert len(rows[-1]) == 4095


def test_a_line_may_be_made_when_it_is_written(tmp_path: Path) -> None:
    """What makes a line is called once, in its turn among the others, and not before lines are written."""
    made = []

    def make() -> str:
        made.append(1)
        return "made"

    with (tmp_path / "log").open("wb") as file:
        lines = Lines(file.fileno())
        lines.patient = True
        for line in ("first", make, "last" + "x" * 4090):
            lines.put(line)
        assert not made
        assert lines.flush()
    assert len(made) == 1
    assert [row[:5] for row in (tmp_path / "log").read_text().splitlines()] == ["first", "made", "lastx"]


def test_a_slow_reader_gets_all_at_the_end(pipe: tuple[int, int]) -> None:
    """`end` goes on while somebody reads, and gives up in its time when nobody does."""
    reader, writer = pipe
    lines = Lines(writer)
    for number in range(40):
        lines.put(f"{number} " + "x" * 500)
    found: list[bytes] = []

    def read() -> None:
        while b"39 x" not in b"".join(found):
            found.append(os.read(reader, 65536))

    thread = threading.Thread(target=read)
    thread.start()
    lines.end(5.0)
    thread.join()
    assert b"".join(found).count(b"\n") == 40
    other = Lines(writer)
    for number in range(40):
        other.put(f"{number} " + "x" * 500)
    began_s = time.monotonic()
    other.end(0.05)
    assert time.monotonic() - began_s < 1.0


def test_a_socket_and_a_reader_that_left() -> None:
    """A socket takes lines without being made non-blocking; with nobody at the other end nothing is held."""
    ours, theirs = socket.socketpair()
    lines = Lines(ours.fileno(), most_held=5)
    lines.put("one")
    assert theirs.recv(100) == b"one\n"
    for _ in range(2000):
        lines.put("x" * 4000)
    assert lines.dropped > 0
    theirs.close()
    assert lines.flush()
    lines.put("into nothing")
    lines.end(0.1)
    lines.put("after the end")
    assert lines.flush()
    assert ours.getblocking()
    ours.close()


def test_records_are_json(tmp_path: Path) -> None:
    """What the logging module has to say is one JSON object a line, with its traceback, whatever the text holds."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        with (tmp_path / "log").open("wb") as file:
            log_to(Lines(file.fileno()))
            assert [type(handler) for handler in root.handlers] == [JsonHandler]
            logging.getLogger("a.b").info("line one\nline two of %s", "x")
            try:
                int("no")
            except ValueError:
                logging.getLogger("a.b").exception("it broke")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first, second = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert (first["message"], first["level"], first["logger"]) == ("line one\nline two of x", "INFO", "a.b")
    assert "ValueError: invalid literal" in second["traceback"]
