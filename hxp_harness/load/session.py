"""One load session as the run sees it: started, polled for traces, stopped, and never left running."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import msgspec

from hxp_harness.errors import InvalidRun
from hxp_harness.load.hot_loops import LEAD_S, HotLoops
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.stored_load import StoredLoad
from hxp_harness.trace import Trace

_STOP_S = 3.0
_STEP_S = 0.01


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


class LoadSession(StoredLoad):
    """Runs a schedule in child processes, as many hot loops as there are `clients`; they begin as it is polled.

    Use as a context manager. `poll` until `finished`; `summary` is there thereafter.
    """

    def __init__(
        self, folder: Path, plan: LoadPlan, schedule: Sequence[Due], *, api_key: str = "", clients: int = 1
    ) -> None:
        super().__init__(folder, plan, schedule)
        self._api_key, self._clients = api_key, clients
        self._hot_loops: HotLoops | None = None
        self._going = False

    def _begin(self) -> None:
        self._hot_loops = HotLoops(self._folder.path, self._clients, api_key=self._api_key, log=self._folder.log)

    def __exit__(self, *_: object) -> None:
        if self._hot_loops is None:
            return
        self._hot_loops.stop()
        until_s = time.monotonic() + _STOP_S
        while self._hot_loops.status() is None and time.monotonic() < until_s:
            time.sleep(_STEP_S)  # other processes end, or are ended
        self._hot_loops.kill()

    def _look(self, wait_s: float) -> bool:
        if self._hot_loops is None:
            raise InvalidRun("the load was never started")
        if self._going:
            time.sleep(wait_s)  # another process appends
        elif self._hot_loops.ready_within(wait_s):
            self._going = True
            self._hot_loops.go(time.monotonic_ns() + int(LEAD_S * 1e9))
        return self._hot_loops.status() is not None

    def _sum_up(self) -> LoadSummary:
        assert self._hot_loops is not None  # noqa: S101 - it was looked at
        status = self._hot_loops.status()
        try:
            if status:
                raise self._failed(status)
            summary = LoadSummary.together(self._hot_loops.summaries())
            self._folder.write_summary(summary)
        except (OSError, msgspec.DecodeError) as error:
            raise InvalidRun(f"what the load generator said of itself cannot be kept: {error}") from None
        return summary

    def stop(self) -> None:
        """Ask for an early stop: nothing more is sent, and open requests become UNFINISHED."""
        if self._hot_loops is not None:
            self._hot_loops.stop()
