"""The canary asks what the load is long enough for, while it lasts, and forgets what it asked outside."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hxp_harness.canary import LEAST, QUESTIONS, Canary, ask_idle, asked_under_load, forget_outside, planned
from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.load.plan import Due
from hxp_harness.target import Target
from hxp_harness.trace import Trace


def schedule(count: int, rate_rps: float = 1000.0) -> list[Due]:
    return [Due(index, 0, index / rate_rps, 16, 8, index) for index in range(count)]


@pytest.mark.parametrize(("requests", "questions"), [(100, 0), (1599, 0), (1600, 8), (3000, 15), (16000, 16)])
def test_a_load_is_asked_as_much_as_it_can_bear(requests: int, questions: int) -> None:
    """At most one question in 200 requests, sixteen in all, and none where eight would be too many."""
    assert planned(schedule(requests)).questions == questions
    assert len(QUESTIONS) >= LEAST


def test_questions_are_asked_while_the_load_is_on(tmp_path: Path) -> None:
    """Nothing is asked before the first measured trace comes in; then every question, in order."""
    load = schedule(1600)
    canary = planned(load)
    with golden(tmp_path, Behaviour(ttft_s=0.001, itl_s=0.0)) as server:
        target = Target(server.base_url, server.model)
        canary.idle = ask_idle(canary, target, timeout_s=20)
        with asked_under_load(canary, target, load, timeout_s=20) as see:
            see([Trace(0, -1, 0.0, 1, 1)])
            before = len(canary.loaded)
            see([Trace(1, 0, 0.0, 1, 1)])
            until_s = time.monotonic() + 60
            while len(canary.loaded) < 8 and time.monotonic() < until_s:
                time.sleep(0.01)  # another thread asks

    assert before == 0
    assert canary.idle == canary.loaded == [" t0 t1 t2 t3 t4 t5 t6 t7"] * 8


def test_a_target_that_is_gone_is_asked_once() -> None:
    """After one answer that does not come the target is left alone, and a load that never began asks nothing."""
    gone = Target("http://127.0.0.1:9/v1", "m")
    canary = Canary(8)
    with asked_under_load(canary, gone, schedule(1600), timeout_s=1):
        pass

    assert ask_idle(canary, gone, timeout_s=1) == [None]
    assert canary.loaded in ([], [None])


def test_what_was_asked_outside_the_load_is_forgotten() -> None:
    """Only answers to questions between the first and the last measured request count."""
    canary = Canary(4, loaded=["a", "b", "c", "d"], loaded_at_s=[99.0, 100.5, 101.0, 102.0])
    forget_outside(canary, schedule(1001), 100.0)

    assert canary.loaded == [None, "b", "c", None]
