"""Children of a nursery as if they were ours: asked for, signalled, waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reference_stack.errors import StackError
from reference_stack.orchestration import fork_services, fork_vllm, nursery
from reference_stack.orchestration.nursery import LARGEST_PACKET
from reference_stack.orchestration.process import Process
from reference_stack.schemas.common.limits import FREE, Hold
from reference_stack.schemas.common.program import Program

_END_S = 2.0  # it ends by itself when its socket does


@dataclass(frozen=True, slots=True)
class Trade:
    """What a nursery has ready: a Python file of ours, run by an interpreter that can import what it names.

    `fork_s` is how long the imports may take before the first child; `log` is the name of the nursery's own.
    """

    python: str
    file: Path
    log: str
    fork_s: float


SERVICES = Trade(sys.executable, Path(fork_services.__file__), "nursery.log", 60.0)


def vllm_trade(python: Path) -> Trade:
    """Return the trade of real vLLM, whose environment has the interpreter `python`."""
    return Trade(str(python), Path(fork_vllm.__file__), "nursery-vllm.log", 180.0)


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
    """Starts the nursery's process when first asked for a child; it has `environment` added to ours."""

    def __init__(self, folder: Path, trade: Trade = SERVICES, environment: Mapping[str, str] | None = None) -> None:
        self._trade = trade
        self._environment = environment or {}
        self._log = folder / trade.log
        self._socket: socket.socket | None = None
        self._process: Process | None = None
        self._asked: dict[str, asyncio.Future[ForkedChild]] = {}
        self._children: dict[int, ForkedChild] = {}
        self._opening = asyncio.Lock()

    async def spawn(
        self, name: str, wanted: Mapping[str, object], log: Path, descriptors: Sequence[int] = (), hold: Hold = FREE
    ) -> Process:
        """Return the process that is what the trade makes of `wanted`; it inherits `descriptors` and is under `hold`.

        Raises StackError when there is none.
        """
        requests = await self._open()
        answer = asyncio.get_running_loop().create_future()
        self._asked[name] = answer
        held = {"cores": hold.cores, "cgroup": str(hold.cgroup or ""), "data_bytes": hold.data_bytes}
        request = json.dumps({**wanted, "name": name, "hold": held}).encode()
        with log.open("ab") as output:
            socket.send_fds(requests, [request], [output.fileno(), *descriptors])
        try:
            async with asyncio.timeout(self._trade.fork_s):
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
                    program = Path(nursery.__file__)
                    argv = (self._trade.python, "-P", str(program), str(theirs.fileno()), str(self._trade.file))
                    started = Program(argv, self._environment)
                    self._process = await Process.start("nursery", started, self._log, (theirs.fileno(),))
                ours.setblocking(False)
                asyncio.get_running_loop().add_reader(ours, self._hear, ours)
                self._socket = ours
            return self._socket

    def _hear(self, requests: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            packet = requests.recv(LARGEST_PACKET)
            if not packet:
                self._nursery_is_gone(requests)
                return
            row = json.loads(packet)
            if "ended" in row:
                self._children.pop(row["pid"]).end(row["ended"])
            else:
                child = self._children[row["pid"]] = ForkedChild(row["pid"])
                answer = self._asked.pop(row["name"])
                if not answer.done():  # else nobody waits any more, and it ends with the nursery
                    answer.set_result(child)

    def _nursery_is_gone(self, requests: socket.socket) -> None:
        """Whoever waits for it is told; its children died with it."""
        asyncio.get_running_loop().remove_reader(requests)
        for answer in self._asked.values():
            answer.set_exception(StackError("the nursery ended", hint=f"read {self._log}"))
        self._asked.clear()
        for child in self._children.values():
            child.end(-9)
        self._children.clear()
        requests.close()
        self._socket = None
