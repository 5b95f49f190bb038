"""A run is ended when more load would tell nothing new, or when its time is up."""

import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from hxp_harness.gates.grammar import parse_gates
from hxp_harness.load.plan import Due
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import ErrorKind, Trace
from hxp_harness.watch import Watch
from tests.hxp_harness.gates.conftest import RATE_RPS, REQUESTS, Run, run

__all__ = ["run"]  # the fixture
MakeRun = Callable[..., Run]
CONTRACT = Contract.model_validate({"prompt_tokens": 10, "output_tokens": 4, "rate": f"{RATE_RPS} rps"})


class Said:
    """A display that remembers."""

    def __init__(self) -> None:
        self.text = ""

    def see(self, traces: Sequence[Trace]) -> None:
        """Take no notice."""

    def say(self, text: str) -> None:
        self.text += text


def watched(replicates: int, gate: str, budget_s: float | None = None) -> tuple[Watch, Said]:
    schedule = [
        Due(index, index // REQUESTS if index >= 0 else -1, index / RATE_RPS, 10, 4, index)
        for index in range(replicates * REQUESTS)
    ]
    size = Replicates.model_validate({"count": replicates, "requests": REQUESTS})
    said = Said()
    return Watch(CONTRACT, size, parse_gates([gate, "error_rate <= 1 %"]), said, schedule, budget_s=budget_s), said


def fed(watch: Watch, traces: Iterable[Trace]) -> int | None:
    """Return after how many traces the watch says stop; None when it never does."""
    for number, trace in enumerate(traces, 1):
        if watch.see([trace]):
            return number
    return None


def test_a_clear_pass_ends_at_half(run: MakeRun) -> None:
    """What is decided at half is not measured on."""
    watch, said = watched(12, "e2e p95 <= 3 s")

    assert fed(watch, run(*[1.0] * 12).traces) == 6 * REQUESTS
    assert "what was measured so far decides it" in said.text


def test_a_close_run_goes_to_its_end(run: MakeRun) -> None:
    """Near the limit nothing stops the run."""
    watch, said = watched(4, "e2e p95 <= 1005 ms")

    assert fed(watch, run(*[1.0] * 4).traces) is None
    assert said.text == ""


def test_a_clear_failure_ends_in_a_fifth(run: MakeRun) -> None:
    """When every answer is late a fifth of the run suffices."""
    watch, said = watched(12, "e2e p95 <= 300 ms")
    seen = fed(watch, run(*[1.0] * 12).traces)

    assert seen is not None
    assert seen <= 12 * REQUESTS / 5
    assert "decides it; stopping" in said.text


def test_a_drift_is_no_reason_to_stop_at_half(run: MakeRun) -> None:
    """A run that drifts is not passed early, however low its latency."""
    watch, _ = watched(12, "e2e p95 <= 9 s")

    assert fed(watch, run(*(1.0 + 0.1 * number for number in range(12))).traces) is None


def test_an_overload_ends_within_seconds(run: MakeRun) -> None:
    """A service at half the rate that it is offered is not loaded for the whole run."""
    watch, said = watched(12, "e2e p95 <= 999 s")
    slow = (replace(trace, end_s=2 * trace.intended_s + 1.0) for trace in run(*[1.0] * 12).traces)
    seen = fed(watch, slow)

    assert seen is not None
    assert seen < 1000
    assert "requests pile up" in said.text


def test_time_that_is_up_ends_the_run() -> None:
    """The budget ends the run by itself, and is told from a decision."""
    watch, said = watched(4, "e2e p95 <= 3 s", budget_s=0.0)

    assert watch.see([])
    assert watch.out_of_budget
    assert "time allowed is used up" in said.text


@pytest.mark.parametrize("late", [3, 40])
def test_parts_are_looked_at_in_order(run: MakeRun, late: int) -> None:
    """Answers that come in another order than the schedule change nothing."""
    traces = run(*[1.0] * 12).traces
    shuffled = [*traces[late:], *traces[:late]]
    watch, _ = watched(12, "e2e p95 <= 300 ms")

    assert fed(watch, shuffled) == len(traces) - late + min(late, REQUESTS // 3)


def test_an_abort_gate_ends_the_load(run: MakeRun) -> None:
    """The first part that makes it look broken is the last, though nothing is certain yet."""
    watch, said = watched(8, "abort goodput(e2e <= 900 ms) >= 90 %")

    assert fed(watch, run(*[1.0] * 8).traces) == REQUESTS // 3
    assert "abort goodput(e2e <= 900 ms) >= 90 % looks broken" in said.text


def test_what_is_said_once_is_not_said_again(run: MakeRun) -> None:
    """After the decision the watch goes on saying stop, and nothing of what the stop has cut off."""
    watch, said = watched(12, "e2e p95 <= 300 ms")
    traces = run(*[1.0] * 12).traces
    stopped = fed(watch, traces)
    told = said.text

    assert stopped is not None
    assert watch.see([replace(one, error=ErrorKind.UNFINISHED, end_s=None) for one in traces[stopped:]])
    assert said.text == told


def test_half_a_run_is_held_as_columns(run: MakeRun) -> None:
    """Of the half that is kept no trace stays: a request costs a few hundred bytes, whatever its answer's length."""
    watch, _ = watched(12, "e2e p95 <= 1005 ms")
    times_s = [0.1 + 0.001 * number for number in range(200)]
    half = (replace(one, token_lo_s=tuple(times_s), token_hi_s=tuple(times_s)) for one in run(*[1.0] * 6).traces[:-1])
    tracemalloc.start()
    try:
        assert fed(watch, half) is None
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    open_part_bytes = REQUESTS // 3 * (2 * 200 * 8 + 2000)  # traces until the part is complete
    assert held_bytes < 6 * REQUESTS * 400 + open_part_bytes + 1_000_000
