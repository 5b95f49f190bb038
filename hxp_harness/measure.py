"""The measured part of a run: load on, traces in, stop when the verdict is certain or a person says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.session import LoadSession, OpenSession, Session
from hxp_harness.trace import Trace

POLL_S = 0.25
DRAIN_S = 5.0  # after an early stop the load processes have this long to write what is open


def measure(
    folder: Path,
    plan: LoadPlan,
    schedule: Sequence[Due],
    *,
    api_key: str,
    on_traces: Callable[[Sequence[Trace]], bool],
    open_session: OpenSession = LoadSession,
) -> LoadSummary:
    """Send `schedule` and hand traces to `on_traces` as they end, until all are in or it returns True (decided).

    On Ctrl-C open requests are written down as unfinished before KeyboardInterrupt goes on. Raises InvalidRun when the
    load processes fail.
    """
    with open_session(folder, plan, schedule, api_key=api_key) as session:
        try:
            while not session.finished:
                if on_traces(session.poll(POLL_S)):
                    session.stop()
                    _drain(session, on_traces)
        except KeyboardInterrupt:
            session.stop()
            _drain(session, on_traces)
            raise
        on_traces(session.poll(0.0))
        return session.summary


def _drain(session: Session, on_traces: Callable[[Sequence[Trace]], bool]) -> None:
    deadline = time.monotonic() + DRAIN_S
    while not session.finished and time.monotonic() < deadline:
        on_traces(session.poll(POLL_S))
