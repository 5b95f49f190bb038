"""How far a run is, computed from its schedule and the traces so far; pure, time is an argument."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hxp_harness.load.plan import Due
from hxp_harness.trace import Trace

WINDOW_S = 5.0  # over which rates are taken


def _tpot_s(trace: Trace) -> float:
    gaps = max((trace.output_tokens or 0) - 1, 1)
    return (trace.token_hi_s[-1] - trace.token_hi_s[0]) / gaps


_VALUES: dict[str, Callable[[Trace], float]] = {
    "e2e": lambda trace: trace.token_hi_s[-1] - trace.intended_s,
    "ttft": lambda trace: trace.token_hi_s[0] - trace.intended_s,
    "tpot": _tpot_s,
}


@dataclass(frozen=True, slots=True)
class Goal:
    """The latency that the progress shows: its `q`-quantile (0 < q < 1) is to stay within `limit_s`."""

    metric: str = "e2e"
    q: float = 0.95
    limit_s: float | None = None

    @property
    def name(self) -> str:
        return f"{self.metric} p{self.q * 100:g}"


@dataclass(frozen=True, slots=True)
class Glance:
    """What is known at one moment. Rates are requests/s over the last seconds."""

    replicate: int  # from 0; -1 is warm-up
    replicates: int
    offered_rps: float
    achieved_rps: float
    measured: int  # requests that ended, warm-up left out
    planned: int
    errors: int  # warm-up included: a target that fails there fails
    in_flight: int  # due, and not ended
    statistic_s: float | None  # None: nothing measured; infinite: too many failed
    left_s: float


class Progress:
    """Collects traces as they end. Its clock is any monotonic one; t0 is learnt from the traces themselves."""

    def __init__(self, schedule: Sequence[Due], goal: Goal) -> None:
        ordered = sorted(schedule, key=lambda due: due.intended_s)
        self.goal = goal
        self._due_s = [due.intended_s for due in ordered]
        self._replicate = [due.replicate for due in ordered]
        self._replicates = len({due.replicate for due in ordered if due.replicate >= 0})
        self._planned = sum(due.replicate >= 0 for due in ordered)
        self._value = _VALUES.get(goal.metric, _VALUES["e2e"])
        self._values_s: list[float] = []
        self._ends_s: deque[float] = deque()
        self._ended = self._errors = 0
        self._t0_s: float | None = None

    def add(self, traces: Sequence[Trace], now_s: float) -> None:
        """Take traces that were handed over at `now_s`."""
        for trace in traces:
            self._ended += 1
            self._errors += not trace.ok
            if trace.replicate >= 0:
                self._values_s.append(self._value(trace) if trace.ok and trace.token_hi_s else math.inf)
            if trace.end_s is None:
                continue
            # a trace is handed over after its end: the earliest t0 that any of them allows is the nearest
            t0_s = now_s - trace.end_s
            self._t0_s = t0_s if self._t0_s is None else min(self._t0_s, t0_s)
            if trace.ok:
                self._ends_s.append(trace.end_s)

    def glance(self, now_s: float) -> Glance:
        """Return how things stand at `now_s`."""
        at_s = 0.0 if self._t0_s is None else max(now_s - self._t0_s, 0.0)
        since_s = max(at_s - WINDOW_S, 0.0)
        span_s = at_s - since_s
        while self._ends_s and self._ends_s[0] < since_s:
            self._ends_s.popleft()
        due = bisect_right(self._due_s, at_s)
        offered = due - bisect_right(self._due_s, since_s)
        return Glance(
            replicate=self._replicate[max(due - 1, 0)] if self._replicate else -1,
            replicates=self._replicates,
            offered_rps=offered / span_s if span_s else 0.0,
            achieved_rps=len(self._ends_s) / span_s if span_s else 0.0,
            measured=len(self._values_s),
            planned=self._planned,
            errors=self._errors,
            in_flight=max(due - self._ended, 0),
            statistic_s=self._statistic(),
            left_s=max(self._due_s[-1] - at_s, 0.0) if self._due_s else 0.0,
        )

    def _statistic(self) -> float | None:
        """The order statistic of rank ceil(q n), as the judge takes it; sorting what is nearly sorted is cheap."""
        if not self._values_s:
            return None
        self._values_s.sort()
        rank = math.ceil(self.goal.q * len(self._values_s) - 1e-9)
        return self._values_s[max(rank, 1) - 1]
