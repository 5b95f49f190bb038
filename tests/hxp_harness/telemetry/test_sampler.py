"""The sampler against real pages: regular, bounded, and honest about what did not come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hxp_harness.target import Evidence, Target
from hxp_harness.telemetry import reading
from hxp_harness.telemetry.reading import Plan, Reading, read_readings
from hxp_harness.telemetry.sampler import sample
from hxp_harness.telemetry.series import read_series
from hxp_harness.telemetry.watching import keep, plan_for, watched
from tests.hxp_harness.telemetry.conftest import CounterPage

EVERY_S = 0.1
MOST_S = 30.0


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + MOST_S
    while not true():
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.01)  # another process writes


def kept(folder: Path) -> list[Reading]:
    return read_readings(folder / reading.PART_FILE)


def test_counters_are_read_every_tick_until_the_load_ends(page: CounterPage, tmp_path: Path) -> None:
    """Readings stand on one grid of ticks, hold the page's numbers, and end with the context."""
    with watched(tmp_path, Plan(page.url, every_s=EVERY_S)):
        until(lambda: sum(not one.error for one in kept(tmp_path)) >= 5)
    found = kept(tmp_path)
    after = page.asked
    told = [one.scrape.generation_tokens or 0.0 for one in found if one.scrape]

    assert {one.error for one in found} <= {"", "timeout"}  # a page can be late where the machine is busy
    assert sorted(set(told)) == told
    assert all(tokens % 10 == 0 for tokens in told)
    ticks = [(one.due_s - found[0].due_s) / EVERY_S for one in found]
    assert ticks == pytest.approx([round(tick) for tick in ticks], abs=1e-6)
    assert all(one.late_s >= 0 and one.took_s > 0 for one in found)
    assert page.asked == after


def test_a_page_that_hangs_is_a_reading_of_its_own(page: CounterPage, tmp_path: Path) -> None:
    """A server that does not answer costs the readings of that time, each with its reason, and none after."""
    page.delays_s = [60.0]
    with watched(tmp_path, Plan(page.url, every_s=0.5)):
        until(lambda: "" in {one.error for one in kept(tmp_path)})
    found = kept(tmp_path)

    assert (found[0].error, found[0].scrape) == ("timeout", None)
    assert 0.3 < found[0].took_s < 5.0
    assert found[-1].scrape is not None


def test_a_sampler_that_waits_does_not_hold_up_the_run(page: CounterPage, tmp_path: Path) -> None:
    """A page that hangs for long does not delay the end: the sampler is ended, and what it read before is kept."""
    page.delays_s = [0.0, 60.0]
    with watched(tmp_path, Plan(page.url, every_s=4.0)):
        until(lambda: page.asked >= 1 and len(kept(tmp_path)) >= 1)
        until(lambda: page.asked >= 2)
        begun_s = time.monotonic()

    assert time.monotonic() - begun_s < 9.0
    assert len(kept(tmp_path)) == 1


def test_pages_that_are_none_are_told_by_kind(page: CounterPage, tmp_path: Path) -> None:
    """An error status and a closed port are data, not the end of the sampler."""
    page.status = 503
    with watched(tmp_path, Plan(page.url, every_s=EVERY_S)):
        until(lambda: "http" in {one.error for one in kept(tmp_path)})
    assert {one.error for one in kept(tmp_path)} <= {"http", "timeout"}

    with watched(tmp_path, Plan("http://127.0.0.1:1/metrics", every_s=EVERY_S)):
        until(lambda: "refused" in {one.error for one in kept(tmp_path)})
    assert {one.error for one in kept(tmp_path)} <= {"refused", "timeout"}


def test_the_gpu_is_read_beside_the_page(
    page: CounterPage, tmp_path: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a driver each reading has the GPU's figures too, also where there is no page at all."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    with watched(tmp_path, Plan(page.url, gpu=True, every_s=EVERY_S)):
        until(lambda: sum(one.scrape is not None for one in kept(tmp_path)) >= 2)
    both = [one for one in kept(tmp_path) if not one.error]
    with watched(tmp_path, Plan(gpu=True, every_s=EVERY_S)):
        until(lambda: len(kept(tmp_path)) >= 2)
    alone = kept(tmp_path)

    assert all(one.gpu and one.gpu.power_w == 500.75 and one.scrape for one in both)
    assert all(one.gpu and one.scrape is None and not one.error for one in alone)


def test_the_sampler_gives_way_to_the_load(page: CounterPage, tmp_path: Path) -> None:
    """It runs at a lower priority than whoever started it."""
    with watched(tmp_path, Plan(page.url, every_s=EVERY_S)):
        until(lambda: len(kept(tmp_path)) >= 1)
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
        niceness = [os.getpriority(os.PRIO_PROCESS, int(child)) for child in children if _is_sampler(child)]

    assert niceness == [os.getpriority(os.PRIO_PROCESS, 0) + 10]


def _is_sampler(process: str) -> bool:
    return b"telemetry.sampler" in Path(f"/proc/{process}/cmdline").read_bytes()


def test_a_slow_tick_is_left_out_and_not_caught_up() -> None:
    """A page that takes three ticks is followed by the next tick on the grid; the number of readings is bounded."""
    found: list[Reading] = []
    delays_s = iter([0.07, 0.0, 0.0])

    def fetch() -> str:
        time.sleep(next(delays_s))  # the slow page itself
        return "vllm:num_requests_running 1\n"

    def wait(until_s: float) -> bool:
        time.sleep(max(0.0, until_s - time.monotonic()))  # stands for the select of the process
        return False

    sample(Plan(every_s=0.02, most=3), fetch, None, found.append, wait)

    assert len(found) == 3
    assert found[1].due_s - found[0].due_s > 0.06
    assert found[2].due_s > found[1].due_s


def test_a_page_of_other_things_has_no_counters() -> None:
    """A page without any of the names says so."""
    found: list[Reading] = []
    sample(Plan(), lambda: "python_info 1\n", None, found.append, lambda _: True)
    assert [(one.error, one.scrape) for one in found] == [("no_counters", None)]


def test_nothing_to_read_starts_no_process(tmp_path: Path) -> None:
    """A target without counters and without a GPU leaves no file."""
    with watched(tmp_path, Plan()):
        pass
    assert list(tmp_path.iterdir()) == []
    assert keep(tmp_path, 0.0) is None
    assert read_series(tmp_path) is None


@pytest.mark.parametrize(
    ("target", "metrics", "plan"),
    [
        (Target("http://127.0.0.1:1/v1", "m", metrics_url="u"), True, Plan("u", gpu=True)),
        (Target("http://127.0.0.1:1/v1", "m", metrics_url="u"), False, Plan("", gpu=True)),
        (Target("http://127.0.0.1:1/v1", "m", metrics_url="u", evidence=Evidence.SIMULATED), True, Plan("u")),
        (Target("http://example.org/v1", "m", metrics_url="u"), True, Plan("u")),
    ],
)
def test_this_machines_gpus_are_those_of_a_real_engine_here(target: Target, metrics: bool, plan: Plan) -> None:
    """GPUs are read for an engine on this machine alone; a simulation uses none, and another host's are not seen."""
    assert plan_for(target, metrics=metrics) == plan
