"""The API server of an engine: one piece of work at a time, and tokens that wait leave together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.services.ai_models.api_server import ApiServer
from reference_stack.services.ai_models.model_spec import load_spec
from reference_stack.services.ai_models.physics import find_device, step_time_s
from reference_stack.services.ai_models.scheduler import Limits, Scheduler
from reference_stack.services.ai_models.sim_engine import Live, SimEngine
from reference_stack.services.ai_models.sim_metrics import Choices, Ended, SimMetrics
from reference_stack.services.ai_models.simulate import Simulated, simulate

HERMES, H200 = load_spec("hermes"), find_device("h200")
LIMITS = Limits(64, 2048, 40_000)


def test_one_request_is_read_after_another() -> None:
    """Of two requests that come at once the second waits for the first; a later one finds the server free."""
    server = ApiServer(request_s=2.0, token_s=0.5)

    assert [server.take(at_s) for at_s in (10.0, 10.0, 20.0)] == [12.0, 14.0, 22.0]


def test_tokens_of_a_step_leave_one_after_another_and_late_ones_together() -> None:
    """Each event takes its time; a token made while the one before it still waits goes with it, for nothing."""
    server = ApiServer(request_s=2.0, token_s=0.5)

    first = [server.send(1.0, before_s) for before_s in (0.0, 0.0, 0.0, 0.0)]
    second = [server.send(2.0, before_s) for before_s in first]
    assert first == [1.5, 2.0, 2.5, 3.0]
    assert second == [3.5, 4.0, 2.5, 3.0]


@given(st.lists(st.floats(0, 10), max_size=30), st.floats(0.001, 1), st.floats(0.001, 1))
def test_work_is_never_done_before_its_time_nor_twice_at_once(
    moments: Sequence[float], request_s: float, token_s: float
) -> None:
    """Whatever comes is done after it came, in its order, and takes at least its work."""
    server = ApiServer(request_s, token_s)
    done = [0.0]
    for at_s in sorted(moments):
        done.append(server.take(at_s))
        assert done[-1] >= max(at_s, done[-2]) + request_s
        done.append(server.send(at_s, 0.0))
        assert done[-1] >= done[-2] + token_s


def test_without_work_of_its_own_the_server_changes_nothing() -> None:
    """Where the two costs are zero, requests are taken and tokens sent the moment that they are there."""
    server = ApiServer(0.0, 0.0)

    assert [server.take(1.0), server.send(2.0, 1.5), server.send(2.0, 0.0)] == [1.0, 2.0, 2.0]
    assert server.take(1.5) == 1.5  # read while the step went on, and told only now


def test_a_burst_is_slowed_by_the_server_as_worked_out_by_hand() -> None:
    """In virtual time the first token of a burst waits until all its requests are read, the others for those before."""
    device = replace(H200, request_overhead_s=0.0, schedules_ahead=False, api_request_s=0.1, api_token_s=0.01)

    burst = simulate(HERMES, device, LIMITS, [Simulated(16, 1, 0.0) for _ in range(3)])
    late = simulate(HERMES, device, LIMITS, [Simulated(16, 1, at_s) for at_s in (0.0, 1.0)])

    assert [one.end_s for one in burst] == pytest.approx([0.31, 0.32, 0.33])
    step_s = step_time_s(HERMES, device, 16, 0, 0)
    assert [one.e2e_s for one in late] == pytest.approx([0.1 + step_s + 0.01] * 2)


async def test_the_real_clock_sends_when_virtual_time_does() -> None:
    """In real time tokens leave no earlier than the server has worked on them, each once and in order."""
    device = replace(H200, request_overhead_s=0.0, api_request_s=0.02, api_token_s=0.01)
    scheduler: Scheduler[Live] = Scheduler(LIMITS)
    engine = SimEngine(HERMES, device, scheduler, SimMetrics(HERMES.name, scheduler), speed=1.0)
    seen: list[tuple[int, int, float]] = []
    done = asyncio.Event()
    began_s = time.monotonic()

    def deliver(live: Live) -> None:
        seen.append((live.choice, live.delivered, time.monotonic() - began_s))
        if len(seen) == 20:
            done.set()

    lives = [Live(16, 5, began_s, deliver=deliver, ended=Ended("length", 5, Choices(1)), choice=n) for n in range(4)]
    for live in lives:
        engine.submit(live)
    async with asyncio.timeout(20):
        await done.wait()
    await engine.close()

    for choice in range(4):
        mine = [(place, at_s) for one, place, at_s in seen if one == choice]
        assert [place for place, _ in mine] == [1, 2, 3, 4, 5]
        assert mine[0][1] >= 0.02 * (choice + 1) + 0.01
    assert all(live.complete for live in lives)
    # Tokens that waited went together: 20 events one by one would have kept the server busy for 0.28 s.
    assert len({live.sent_s for live in lives}) == 4


async def test_nothing_of_an_aborted_request_is_sent_any_more() -> None:
    """Who leaves while tokens wait for the server gets none of them."""
    device = replace(H200, request_overhead_s=0.0, api_token_s=0.2)
    scheduler: Scheduler[Live] = Scheduler(LIMITS)
    engine = SimEngine(HERMES, device, scheduler, SimMetrics(HERMES.name, scheduler), speed=1.0)
    seen: list[int] = []
    other = asyncio.Event()

    def live(choice: int, deliver: object) -> Live:
        assert callable(deliver)
        return Live(16, 3, time.monotonic(), deliver=deliver, ended=Ended("length", 3, Choices(1)), choice=choice)

    first, second = live(0, lambda one: seen.append(one.choice)), live(1, lambda _: other.set())
    engine.submit(first)
    engine.submit(second)
    async with asyncio.timeout(20):
        while not first.generated:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)
        engine.abort(first)
        await other.wait()
    await engine.close()

    assert seen == []
