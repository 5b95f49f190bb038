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

from hxp_harness.load.folder import KEY_VARIABLE, LoadFolder
from hxp_harness.load.plan import LoadSummary
from hxp_harness.load.stop_signals import held_back

LEAD_S = 0.1  # from the word to t0: every hot loop has heard it by then


class HotLoops:
    """`clients` hot loops that share the load of one folder; each stops when this process is gone."""

    def __init__(self, folder: Path, clients: int, *, api_key: str | None = None, log: Path | None = None) -> None:
        """Start them. They prepare and wait for `go`. Without a key or a log of their own they have this process's."""
        self._folder = LoadFolder(folder)
        self._waiting: set[int] = set()
        self._processes: list[subprocess.Popen[bytes]] = []
        environment = os.environ if api_key is None else {**os.environ, KEY_VARIABLE: api_key}
        with contextlib.nullcontext() if log is None else log.open("ab") as errors, held_back():
            for number in range(1, clients + 1):
                command = [sys.executable, "-m", "hxp_harness.load.generator", str(folder)]
                command += ["--part", f"{number}/{clients}"]
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=environment,
                    process_group=0,  # Ctrl-C in the terminal reaches us alone, and we stop them
                )
                self._waiting.add(len(self._processes))
                self._processes.append(process)

    @property
    def ready(self) -> bool:
        """Whether all have prepared, or will not: then `status` tells."""
        return self.ready_within(0.0)

    def ready_within(self, wait_s: float) -> bool:
        """Say whether all have prepared or ended, having waited up to `wait_s` seconds for the next of them."""
        said = {place: self._processes[place].stdout for place in self._waiting}
        heard, _, _ = select.select([pipe for pipe in said.values() if pipe is not None], [], [], wait_s)
        self._waiting -= {place for place, pipe in said.items() if pipe in heard}  # a pipe of the dead is at its end
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
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def summaries(self) -> list[LoadSummary]:
        """Return what each said of itself at its end. Raises OSError or msgspec.DecodeError where one did not."""
        numbers = range(1, len(self._processes) + 1)
        return [msgspec.json.decode(self._folder.part(number).read_bytes(), type=LoadSummary) for number in numbers]
