"""Children of the nursery as if they were ours: asked for, signalled, waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

from reference_stack.errors import StackError
from reference_stack.orchestration.nursery import LARGEST_PACKET
from reference_stack.orchestration.process import Process
from reference_stack.schemas.common.limits import FREE, Hold
from reference_stack.schemas.common.program import Program

_FORK_S = 60.0
_END_S = 2.0  # it ends by itself when its socket does


class ForkedChild:
    """One service that the nursery forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        return self.returncode or 0

    def send_signal(self, signal: int) -> None:
        # The nursery reaps it and tells us; until we know, the pid may be nobody's but never somebody else's for long.
        if self.returncode is None:
            os.kill(self.pid, signal)

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class Nursery:
    """Starts the nursery's process when first asked for a child. Its own output is `folder`/nursery.log."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "nursery.log"
        self._socket: socket.socket | None = None
        self._process: Process | None = None
        self._asked: dict[str, asyncio.Future[ForkedChild]] = {}
        self._children: dict[int, ForkedChild] = {}
        self._opening = asyncio.Lock()

    async def spawn(self, name: str, settings: Path, listening: socket.socket, log: Path, hold: Hold = FREE) -> Process:
        """Return the process that serves `name` with `settings` on `listening` under `hold`.

        Raises StackError when there is none.
        """
        nursery = await self._open()
        answer = asyncio.get_running_loop().create_future()
        self._asked[name] = answer
        held = {"cores": hold.cores, "cgroup": str(hold.cgroup or ""), "data_bytes": hold.data_bytes}
        request = json.dumps({"name": name, "settings": str(settings), "hold": held}).encode()
        with log.open("ab") as output:
            socket.send_fds(nursery, [request], [listening.fileno(), output.fileno()])
        try:
            async with asyncio.timeout(_FORK_S):
                return Process(name, await answer, log)
        except TimeoutError:
            raise StackError(f"{name}: the nursery does not answer", hint=f"read {self._log}") from None

    async def close(self) -> None:
        """End the nursery; children that it still has are killed with it."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._process is not None:
            await self._process.end(_END_S)
            self._process = None

    async def _open(self) -> socket.socket:
        async with self._opening:
            if self._socket is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    argv = (sys.executable, "-m", "reference_stack.orchestration.nursery", str(theirs.fileno()))
                    self._process = await Process.start("nursery", Program(argv), self._log, (theirs.fileno(),))
                ours.setblocking(False)
                asyncio.get_running_loop().add_reader(ours, self._hear, ours)
                self._socket = ours
            return self._socket

    def _hear(self, nursery: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            packet = nursery.recv(LARGEST_PACKET)
            if not packet:
                self._nursery_is_gone(nursery)
                return
            row = json.loads(packet)
            if "ended" in row:
                self._children.pop(row["pid"]).end(row["ended"])
            else:
                child = self._children[row["pid"]] = ForkedChild(row["pid"])
                answer = self._asked.pop(row["name"])
                if not answer.done():  # else nobody waits any more, and it ends with the nursery
                    answer.set_result(child)

    def _nursery_is_gone(self, nursery: socket.socket) -> None:
        """Whoever waits for it is told; its children died with it."""
        asyncio.get_running_loop().remove_reader(nursery)
        for answer in self._asked.values():
            answer.set_exception(StackError("the nursery ended", hint=f"read {self._log}"))
        self._asked.clear()
        for child in self._children.values():
            child.end(-9)
        self._children.clear()
        nursery.close()
        self._socket = None
