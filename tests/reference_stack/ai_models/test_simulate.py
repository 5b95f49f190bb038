"""Virtual time: the same engine with no clock, repeatable, fast, and in the order of the real one."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.services.ai_models.blocks import block_keys
from reference_stack.services.ai_models.feasibility import limits_of
from reference_stack.services.ai_models.model_spec import load_spec
from reference_stack.services.ai_models.physics import find_device, step_time_s
from reference_stack.services.ai_models.scheduler import Limits, Scheduler
from reference_stack.services.ai_models.sim_engine import Live, SimEngine
from reference_stack.services.ai_models.sim_metrics import Choices, Ended, SimMetrics
from reference_stack.services.ai_models.simulate import Simulated, arrivals_s, simulate

HERMES, H200 = load_spec("hermes"), find_device("h200")
TIGHT = Limits(max_num_seqs=8, max_num_batched_tokens=256, kv_tokens=1024)  # queues, chunks and preempts
LENGTHS = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 60)), min_size=1, max_size=25)
Order = list[tuple[int, int]]


@settings(deadline=None)
@given(LENGTHS, st.integers(0, 1000), st.floats(0.1, 5000))
def test_every_request_gets_its_tokens_in_order(lengths: Sequence[tuple[int, int]], seed: int, rate: float) -> None:
    """Whatever arrives is served whole: as many tokens as asked, one after the other."""
    moments = arrivals_s("poisson", rate, len(lengths), seed)
    requests = (Simulated(prompt, output, at_s) for (prompt, output), at_s in zip(lengths, moments, strict=True))

    for (_, output), one in zip(lengths, simulate(HERMES, H200, TIGHT, requests), strict=True):
        assert len(one.tokens_s) == output
        assert one.tokens_s == sorted(set(one.tokens_s))
        assert one.tokens_s[0] > one.arrival_s + H200.request_overhead_s
        assert one.end_s - one.arrival_s == one.e2e_s


def test_alone_a_request_takes_its_own_steps() -> None:
    """One request after another, far apart: one prefill and then a step a token, worked out by hand."""
    first, second = simulate(HERMES, H200, TIGHT, [Simulated(100, 3, 0.0), Simulated(100, 3, 60.0)])
    steps = [step_time_s(HERMES, H200, 100, 0, 0)] + [step_time_s(HERMES, H200, 0, 1, 100 + done) for done in (0, 1)]

    assert abs(first.e2e_s - (H200.request_overhead_s + sum(steps))) < 1e-9
    assert abs(first.e2e_s - second.e2e_s) < 1e-9


def test_who_comes_while_a_step_runs_waits_for_the_next_but_one_where_steps_are_chosen_ahead() -> None:
    """With asynchronous scheduling a prompt that comes during a step joins not the next one but the one after it."""

    def first_token_steps(ahead: bool) -> int:
        device = replace(H200, schedules_ahead=ahead, request_overhead_s=0.0)
        long, late = simulate(HERMES, device, TIGHT, [Simulated(10, 50, 0.0), Simulated(10, 5, 0.012)])
        joined = long.tokens_s.index(late.tokens_s[0])
        came = sum(token_s <= 0.012 for token_s in long.tokens_s)
        return joined - came

    assert first_token_steps(ahead=False) == 1
    assert first_token_steps(ahead=True) == 2


def test_the_same_seed_gives_the_same_times() -> None:
    """A simulation can be repeated to the last digit; another seed gives another one."""

    def once(seed: int) -> list[list[float]]:
        moments = arrivals_s("poisson", 40.0, 100, seed)
        return [one.tokens_s for one in simulate(HERMES, H200, TIGHT, (Simulated(50, 20, at_s) for at_s in moments))]

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_arrivals_have_the_rate_and_the_process() -> None:
    """Poisson arrivals have the mean gap of their rate, constant ones have it each time."""
    assert list(arrivals_s("constant", 4.0, 3, 1)) == [0.25, 0.5, 0.75]
    last_s = list(arrivals_s("poisson", 50.0, 20_000, 1))[-1]
    assert abs(last_s / (20_000 / 50.0) - 1) < 0.03


@pytest.fixture
def untraced() -> Iterator[None]:
    """Nobody looks over the shoulder of what is timed, coverage included."""
    trace = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(trace)


@pytest.mark.usefixtures("untraced")
def test_virtual_time_is_a_hundred_times_faster_than_real_time() -> None:
    """Mixtral's profile is simulated in less than a hundredth of the processor time that a run would take."""
    spec = load_spec("mixtral")
    best = 0.0
    for _ in range(3):  # the fastest of three: other programs share the caches
        began = time.process_time()
        moments = arrivals_s("poisson", 50.0, 1000, 1)
        served = simulate(spec, H200, limits_of(spec, H200), (Simulated(128, 64, at_s) for at_s in moments))
        best = max(best, served[-1].end_s / (time.process_time() - began))

    assert best >= 100


def test_a_common_beginning_makes_the_first_token_come_sooner() -> None:
    """In virtual time, too, a prompt that begins like an earlier one is computed only where it differs."""
    keys = block_keys(("system",) * 1024)
    first, second = simulate(
        HERMES, H200, limits_of(HERMES, H200), [Simulated(1100, 2, at_s, keys=keys) for at_s in (0.0, 60.0)]
    )

    assert (first.cached, second.cached) == (0, 1024)
    assert second.tokens_s[0] - 60.0 < 0.7 * first.tokens_s[0]
    assert second.tokens_s[1] - second.tokens_s[0] == pytest.approx(first.tokens_s[1] - first.tokens_s[0])


async def test_the_real_clock_gives_tokens_in_the_same_order() -> None:
    """The engine in real time hands out the tokens of a burst in exactly the order of virtual time."""
    draw = random.Random(4)
    lengths = [(draw.randint(1, 100), draw.randint(80, 200)) for _ in range(20)]
    virtual = simulate(HERMES, H200, TIGHT, (Simulated(*one, 0.0) for one in lengths))
    real = await _in_real_time(lengths)

    moments: dict[float, set[tuple[int, int]]] = {}
    for index, one in enumerate(virtual):
        for place, at_s in enumerate(one.tokens_s):
            moments.setdefault(at_s, set()).add((index, place))
    for _, together in sorted(moments.items()):  # tokens of one step have no order among themselves
        assert set(real[: len(together)]) == together
        del real[: len(together)]
    assert real == []
    assert any(one.preemptions for one in virtual)


async def _in_real_time(lengths: Sequence[tuple[int, int]]) -> Order:
    order: Order = []
    done = asyncio.Event()
    open_requests = set(range(len(lengths)))
    scheduler: Scheduler[Live] = Scheduler(TIGHT)
    engine = SimEngine(HERMES, H200, scheduler, SimMetrics(HERMES.name, scheduler), speed=20.0)
    now_s = time.monotonic()
    for index, (prompt, output) in enumerate(lengths):

        def deliver(live: Live, index: int = index) -> None:
            order.append((index, live.delivered - 1))
            if live.complete:
                open_requests.discard(index)
                if not open_requests:
                    done.set()

        engine.submit(Live(prompt, output, now_s, deliver=deliver, ended=Ended("length", output, Choices(1))))
    async with asyncio.timeout(20):
        await done.wait()
    await engine.close()
    return order


@given(slots=st.integers(1, 12), seed=st.integers(0, 99), api_s=st.sampled_from((0.0, 1e-3)))
@settings(max_examples=25)
def test_in_a_closed_loop_each_client_waits_for_its_answer(slots: int, seed: int, api_s: float) -> None:
    """Never more requests are inside than there are clients, and a next one comes the moment that one is answered."""
    draw = random.Random(seed)
    device = replace(find_device("h200"), api_request_s=api_s, api_token_s=api_s / 10)
    asked = [Simulated(draw.randint(1, 300), draw.randint(1, 9), 0.0) for _ in range(40)]
    served = simulate(load_spec("hermes"), device, Limits(8, 512, 20_000), asked, slots=slots)

    moments = sorted([(one.end_s, -1) for one in served] + [(one.arrival_s, 1) for one in served])
    inside = [sum(change for _, change in moments[: place + 1]) for place in range(len(moments))]
    assert max(inside) == slots
    assert {one.arrival_s for one in served[slots:]} <= {one.end_s for one in served}
