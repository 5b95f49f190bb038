"""The Unix socket on which a parent takes commands: one word a connection, answered with one line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from reference_stack.errors import NotReady, StackError, nearest

_LONGEST = 4096
COMMANDS = ("status", "restart", "reload", "drain")


class Commanded(Protocol):
    """What takes the commands."""

    selector: selectors.BaseSelector

    def status(self) -> dict[str, object]: ...
    def restart(self, told: Callable[[str], None]) -> None: ...
    def reload(self, told: Callable[[str], None]) -> None: ...
    def stop(self) -> None: ...


class Control:
    """Listens at `path`, for the owner of this process alone, while it is open."""

    def __init__(self, path: Path, parent: Commanded) -> None:
        self._path = path
        self._parent = parent
        self._pid = os.getpid()
        path.unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        try:
            self._listen()
        except BaseException:
            self._sock.close()
            raise
        parent.selector.register(self._sock, selectors.EVENT_READ, self._accept)

    def _listen(self) -> None:
        with _reachable(self._path) as address:
            old = os.umask(0o177)
            try:
                self._sock.bind(address)
            except OSError as error:
                raise NotReady(f"cannot listen on {self._path}: {error.strerror}", hint="set process.control") from None
            finally:
                os.umask(old)
        self._sock.listen(16)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._sock.close()
        if os.getpid() == self._pid:
            self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            asked, _ = self._sock.accept()
            asked.setblocking(False)
            self._parent.selector.register(asked, selectors.EVENT_READ, lambda: self._hear(asked))

    def _hear(self, asked: socket.socket) -> None:
        self._parent.selector.unregister(asked)
        try:
            word = asked.recv(_LONGEST).decode("utf-8", "replace").strip()
        except OSError:
            word = ""

        def told(problem: str) -> None:
            _answer(asked, {"ok": not problem, "error": problem})

        if word == "status":
            _answer(asked, {"ok": True, **self._parent.status()})
        elif word in ("restart", "reload"):
            getattr(self._parent, word)(told)
        elif word == "drain":
            told("")
            self._parent.stop()
        else:
            told(f"no command {word[:40]!r}: {nearest(word, COMMANDS)}")


def _answer(asked: socket.socket, row: Mapping[str, object]) -> None:
    with asked, contextlib.suppress(OSError):
        asked.send(json.dumps(row).encode() + b"\n")
        asked.shutdown(socket.SHUT_RDWR)  # a worker that was forked meanwhile has it open too


def command(path: Path, word: str, within_s: float) -> dict[str, Any]:
    """Give a parent that listens at `path` a command; return its answer. Raises NotReady when there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(within_s)
    answer = b""
    try:
        with sock, _reachable(path) as address:
            sock.connect(address)
            sock.sendall(word.encode() + b"\n")
            while part := sock.recv(65536):
                answer += part
    except TimeoutError:
        raise NotReady(f"the gateway did not answer within {within_s:g} s", hint="read its log") from None
    except OSError as error:
        hint = "hxp-stack status shows what runs; hxp-stack up starts a stack"
        raise NotReady(f"no gateway listens at {path}: {error.strerror}", hint=hint) from None
    try:
        row = json.loads(answer)
    except ValueError:
        raise StackError("the gateway ended before it answered", hint="read its log") from None
    assert isinstance(row, dict)  # noqa: S101 - ours on both ends
    return row


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """Yield a name of `path` that is short enough for a socket's address (108 bytes)."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NotReady(f"cannot open {path.parent}: {error.strerror}", hint="set process.control") from None
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
