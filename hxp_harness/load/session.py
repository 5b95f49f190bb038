"""One load session as the run sees it: started, polled for traces, stopped, and never left running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

from hxp_harness.errors import InvalidRun
from hxp_harness.load.folder import KEY_VARIABLE, LoadFolder
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.schedule import write_schedule
from hxp_harness.load.stop_signals import held_back
from hxp_harness.load.trace_file import Tail
from hxp_harness.trace import Trace

_LOOK_S = 0.05
_STOP_S = 3.0
_LOG_TAIL_CHARACTERS = 2000


class Session(Protocol):
    """A load under way, whoever sends it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def finished(self) -> bool:
        """Whether it has ended and every trace was handed out."""

    @property
    def summary(self) -> LoadSummary:
        """What the senders said of themselves; InvalidRun while they still send."""

    def poll(self, wait_s: float) -> list[Trace]:
        """Return the traces completed since the last call; wait up to `wait_s` seconds for the first of them."""

    def stop(self) -> None:
        """Ask for an early stop."""


class OpenSession(Protocol):
    """Prepares a load, which begins when it is entered."""

    def __call__(self, folder: Path, plan: LoadPlan, schedule: Sequence[Due], *, api_key: str = "") -> Session:
        """Return a session whose files lie in `folder`."""


class LoadSession:
    """Runs a schedule in child processes: Locust, and under it as many hot loops as there are `clients`.

    Use as a context manager. `poll` until `finished`; `summary` is there thereafter.
    """

    def __init__(
        self, folder: Path, plan: LoadPlan, schedule: Sequence[Due], *, api_key: str = "", clients: int = 1
    ) -> None:
        self._clients = clients
        self._folder = LoadFolder(folder)
        self._plan = plan
        self._schedule = schedule
        self._api_key = api_key
        self._tail = Tail(self._folder.traces)
        self._process: subprocess.Popen[bytes] | None = None
        self._summary: LoadSummary | None = None

    def __enter__(self) -> Self:
        """Write plan and schedule and start the children. Raises InvalidRun when the folder cannot be written."""
        try:
            self._folder.path.mkdir(parents=True, exist_ok=True)
            for stale in (self._folder.traces, self._folder.summary, self._folder.error):
                stale.unlink(missing_ok=True)
            self._folder.write_plan(self._plan)
            write_schedule(self._folder.schedule, self._schedule)
            log = self._folder.log.open("wb")
        except OSError as error:
            raise InvalidRun(f"cannot write the run folder {self._folder.path}: {error.strerror}") from None
        with log, held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hxp_harness.load.locust_worker", *self._words()],
                stdin=subprocess.PIPE,  # its end tells the child that we are gone
                stdout=log,
                stderr=log,
                env={**os.environ, KEY_VARIABLE: self._api_key},
                process_group=0,  # Ctrl-C in the terminal reaches us alone, and we stop the child
            )
        return self

    def _words(self) -> list[str]:
        return [str(self._folder.path), "--clients", str(self._clients)]

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        process.stdin.close()
        process.wait()

    @property
    def finished(self) -> bool:
        """Whether the children have ended and every trace was handed out."""
        return self._summary is not None

    @property
    def summary(self) -> LoadSummary:
        """What the hot loop said of itself. Raises InvalidRun while it still runs."""
        if self._summary is None:
            raise InvalidRun("the load has not ended yet, so there is no summary of it")
        return self._summary

    def poll(self, wait_s: float) -> list[Trace]:
        """Return the traces completed since the last call; wait up to `wait_s` seconds for the first of them.

        Raises InvalidRun with the last words of the children when they failed.
        """
        until_s = time.monotonic() + wait_s
        while True:
            ended = self._process is None or self._process.poll() is not None
            traces = self._tail.read()
            if ended and self._summary is None:
                self._summary = self._read_summary()
            if traces or ended or time.monotonic() >= until_s:
                return traces
            time.sleep(min(_LOOK_S, max(0.0, until_s - time.monotonic())))  # another process appends

    def stop(self) -> None:
        """Ask for an early stop: nothing more is sent, and open requests become UNFINISHED."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _read_summary(self) -> LoadSummary:
        if self._process is None:
            raise InvalidRun("the load was never started")
        if self._process.returncode == 0 and self._folder.summary.exists():
            return self._folder.read_summary()
        why = self._folder.read_error() or self._log_tail()
        raise InvalidRun(
            f"the load generator failed (exit status {self._process.returncode}): {why}",
            hint=f"its log is {self._folder.log}",
        )

    def _log_tail(self) -> str:
        return self._folder.log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARACTERS:].strip()
