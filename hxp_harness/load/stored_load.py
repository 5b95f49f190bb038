"""A load whose plan, schedule, traces and summary lie in one folder: what every kind of session has in common."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from hxp_harness.errors import InvalidRun
from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.schedule import write_schedule
from hxp_harness.load.trace_file import Tail
from hxp_harness.trace import Trace

_LOOK_S = 0.05


class StoredLoad:
    """Polled for traces until it has ended. Who sends it begins in `_begin`, and `_look` tells when it is over."""

    def __init__(self, folder: Path, plan: LoadPlan, schedule: Sequence[Due]) -> None:
        self._folder = LoadFolder(folder)
        self._plan, self._schedule = plan, schedule
        self._tail = Tail(self._folder.traces)
        self._summary: LoadSummary | None = None

    def __enter__(self) -> Self:
        """Write plan and schedule and begin. Raises InvalidRun when the folder cannot be written."""
        try:
            self._folder.path.mkdir(parents=True, exist_ok=True)
            for stale in (self._folder.traces, self._folder.summary, self._folder.error):
                stale.unlink(missing_ok=True)
            self._folder.write_plan(self._plan)
            write_schedule(self._folder.schedule, self._schedule)
            self._folder.log.touch()
        except OSError as error:
            raise InvalidRun(f"cannot write the run folder {self._folder.path}: {error.strerror}") from None
        self._begin()
        return self

    def _begin(self) -> None:
        """Set off whoever sends."""
        raise NotImplementedError

    def _look(self, wait_s: float) -> bool:
        """Return whether all has ended, having waited up to `wait_s` seconds for news. Raises InvalidRun."""
        raise NotImplementedError

    def _sum_up(self) -> LoadSummary:
        """Return the summary of a load that has ended. Raises InvalidRun where it failed."""
        return self._folder.read_summary()

    @property
    def finished(self) -> bool:
        """Whether the load has ended and every trace was handed out."""
        return self._summary is not None

    @property
    def summary(self) -> LoadSummary:
        """What the senders said of themselves. Raises InvalidRun while they send."""
        if self._summary is None:
            raise InvalidRun("the load has not ended yet, so there is no summary of it")
        return self._summary

    def poll(self, wait_s: float) -> list[Trace]:
        """Return the traces completed since the last call; wait up to `wait_s` seconds for the first of them.

        Raises InvalidRun with the last words of the senders when they failed.
        """
        until_s, look_s = time.monotonic() + wait_s, 0.0
        while True:
            ended = self._look(look_s)
            traces = self._tail.read()
            if ended and self._summary is None:
                self._summary = self._sum_up()
            if traces or ended or time.monotonic() >= until_s:
                return traces
            look_s = min(_LOOK_S, max(0.0, until_s - time.monotonic()))

    def _failed(self, status: int) -> InvalidRun:
        """Return what to raise for client processes that ended with `status`."""
        why = self._folder.read_error() or self._folder.log_tail()
        return InvalidRun(
            f"the load generator failed (exit status {status}): {why}", hint=f"its log is {self._folder.log}"
        )
