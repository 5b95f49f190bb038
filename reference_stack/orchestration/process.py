"""One child process: started so that it cannot outlive us, signalled by pid, its output in a log file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psutil

from reference_stack.errors import StackError
from reference_stack.schemas.common.limits import FREE, Hold
from reference_stack.schemas.common.program import Program

_TAIL_BYTES = 4096


def bound(argv: Sequence[str], parent: int, hold: Hold = FREE) -> tuple[str, ...]:
    """Return `argv` such that the kernel kills it when `parent`, which starts it, is gone, and held as `hold` says.

    Small programs do it before they become `argv`: nothing of ours runs between fork and exec, which is not safe in a
    process with threads. The shell looks whether the parent went before the kill could be asked for. What cannot be
    put into force is an error of the start: the program never runs outside its limits.
    """
    steps = [f'[ "$PPID" = {parent} ]']
    if hold.cgroup is not None:
        steps.append(f"echo 0 > {shlex.quote(str(hold.cgroup))}/cgroup.procs")
    if hold.data_bytes:
        steps.append(f"ulimit -d {hold.data_bytes // 1024}")
    pinned = ("taskset", "-c", ",".join(map(str, hold.cores))) if hold.cores else ()
    script = " && ".join([*steps, 'exec "$@"'])
    return ("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", script, "sh", *pinned, *argv)


class Child(Protocol):
    """A child of ours, or of a process that we started for having them."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def send_signal(self, signal: int) -> None: ...


class Process:
    """A started program. `log` is appended to; `pid` is the leader of a process group of its own."""

    def __init__(self, name: str, child: Child, log: Path) -> None:
        self.name = name
        self.log = log
        self.pid = child.pid
        self.created = _created(child.pid)
        self._child = child

    @classmethod
    async def start(
        cls, name: str, program: Program, log: Path, descriptors: Sequence[int] = (), hold: Hold = FREE
    ) -> Process:
        """Start `program` under `hold`; it inherits `descriptors`. Raises StackError when it cannot be executed."""
        if shutil.which(program.argv[0]) is None:
            raise StackError(f"{name}: cannot start {program.argv[0]}: there is no such program")
        with log.open("ab") as output:
            try:
                child = await asyncio.create_subprocess_exec(
                    *bound(program.argv, os.getpid(), hold),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    env={**os.environ, **program.environment},
                    pass_fds=tuple(descriptors),
                    process_group=0,
                    user=program.user_id,
                    extra_groups=None if program.user_id is None else (),
                )
            except OSError as error:
                raise StackError(f"{name}: cannot be started: {error}") from None
        return cls(name, child, log)

    @property
    def exit_status(self) -> str:
        """Return "" while it runs, else how it ended ("exit 1", "SIGKILL")."""
        code = self._child.returncode
        if code is None:
            return ""
        return signal.Signals(-code).name if code < 0 else f"exit {code}"

    async def wait(self) -> None:
        """Wait until it has ended."""
        await self._child.wait()

    def signal(self, number: int) -> None:
        """Send signal `number` to the process itself; one that has ended is left alone."""
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    async def stop(self, polite: int, grace_s: float) -> None:
        """Ask with signal `polite`; what is still there after `grace_s` is killed."""
        self.signal(polite)
        self.resume()  # a paused process cannot hear
        await self.end(grace_s)

    async def end(self, grace_s: float) -> None:
        """Wait for it to end by itself; what is still there after `grace_s` is killed, with its family."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.wait()
                return
        family = members(self.pid, self.created)
        self.kill()
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        await self.wait()

    def log_tail(self, lines: int = 12) -> str:
        """Return the last `lines` of the log."""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])


def members(group: int, since: float) -> list[psutil.Process]:
    """Return the processes of process group `group` that started no earlier than `since` (seconds since the epoch)."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.create_time() >= since:
                found.append(process)
    return found


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # gone already; the readiness check says so
        return 0.0
