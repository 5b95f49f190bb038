"""The hot loops of one host: as many client processes as asked for, started, set off together, watched and stopped.

A plain object without a clock of its own: whoever runs it (Locust's foreman, on one host or on each of several) polls.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

import msgspec

from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.plan import LoadSummary
from hxp_harness.load.stop_signals import held_back


class HotLoops:
    """`clients` hot loops that share the load of one folder; each stops when this process is gone."""

    def __init__(self, folder: Path, clients: int) -> None:
        """Start them. They prepare and wait for `go`."""
        self._folder = LoadFolder(folder)
        self._waiting: set[int] = set()
        self._processes: list[subprocess.Popen[bytes]] = []
        with held_back():
            for number in range(1, clients + 1):
                command = [sys.executable, "-m", "hxp_harness.load.generator", str(folder)]
                command += ["--part", f"{number}/{clients}"]
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self._waiting.add(len(self._processes))
                self._processes.append(process)

    @property
    def ready(self) -> bool:
        """Whether all have prepared, or will not: then `status` tells."""
        for place in list(self._waiting):
            process = self._processes[place]
            if process.poll() is not None or _said(process):
                self._waiting.discard(place)
        return not self._waiting

    def go(self, t0_ns: int) -> None:
        """Let the times of the schedule count from `t0_ns` on the monotonic clock."""
        for process in self._processes:
            assert process.stdin is not None  # noqa: S101 - a pipe was asked for
            with contextlib.suppress(BrokenPipeError):  # it has ended, and `status` tells how
                os.write(process.stdin.fileno(), b"%d\n" % t0_ns)

    def status(self) -> int | None:
        """Return None while any runs, then 0 or the first exit status that is none. One that fails stops the others."""
        states = [process.poll() for process in self._processes]
        failed = next((state for state in states if state), None)
        if None not in states:
            return failed or 0
        if failed is not None:
            self.stop()
        return None

    def stop(self) -> None:
        """Ask for an early stop; the traces of open requests are still written."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()

    def kill(self) -> None:
        """End them at once; what they had not written is lost."""
        for process in self._processes:
            process.kill()
            process.wait()

    def summaries(self) -> list[LoadSummary]:
        """Return what each said of itself at its end. Raises OSError or msgspec.DecodeError where one did not."""
        numbers = range(1, len(self._processes) + 1)
        return [msgspec.json.decode(self._folder.part(number).read_bytes(), type=LoadSummary) for number in numbers]


def _said(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the process has written anything."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    return bool(select.select([process.stdout.fileno()], [], [], 0.0)[0])
