"""The search of the ceiling on machines whose ceiling is known, and once on this one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.certify.ceiling import (
    HIGHEST_RPS,
    LOWEST_RPS,
    RESOLUTION,
    Ceiling,
    Point,
    advice,
    find_ceiling,
    next_rps,
    sentence,
)
from hxp_harness.certify.searching import search_ceilings
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.profile import Contract
from hxp_harness.trace import Trace


def machine(ceiling_rps: float, tries: list[float] | None = None, cpu_share: float = 0.9) -> Callable[[float], Point]:
    """A machine that measures right up to `ceiling_rps`."""

    def probe(rate_rps: float) -> Point:
        if tries is not None:
            tries.append(rate_rps)
        return Point(rate_rps, ok=rate_rps <= ceiling_rps, cpu_share=cpu_share)

    return probe


@given(st.floats(LOWEST_RPS, HIGHEST_RPS * 0.99), st.floats(LOWEST_RPS, HIGHEST_RPS))
def test_the_ceiling_lies_between_the_ends(true_rps: float, start_rps: float) -> None:
    """Wherever the search begins, it ends around the true ceiling, with its ends a tenth apart, in few tries."""
    tries: list[float] = []
    found = find_ceiling(machine(true_rps, tries), 64, start_rps, most_s=math.inf)

    assert found.complete
    assert found.held_rps is not None
    assert found.failed_rps is not None
    assert found.held_rps <= true_rps < found.failed_rps
    assert found.failed_rps / found.held_rps <= RESOLUTION
    assert len(tries) <= 40


def test_a_moments_trouble_is_no_ceiling() -> None:
    """A rate that fails once and then holds counts as held."""
    answers = iter([True, False, True, False, False, True, True, True])

    def probe(rate_rps: float) -> Point:
        return Point(rate_rps, ok=next(answers))

    found = find_ceiling(probe, 64, 100.0, most_s=math.inf)

    assert [(point.rate_rps, point.ok) for point in found.points[:5]] == [
        (100.0, True), (200.0, False), (200.0, True), (400.0, False), (400.0, False),
    ]  # fmt: skip
    assert found.failed_rps == 400.0
    assert found.held_rps is not None
    assert found.held_rps > 200.0


def test_the_search_ends_in_time_and_says_so() -> None:
    """When the time is over no further try begins, and the ends are called open."""
    now_s = iter(range(0, 1000, 10))
    found = find_ceiling(machine(5000.0), 64, 10.0, most_s=25.0, clock=lambda: float(next(now_s)))

    assert not found.complete
    assert len(found.points) == 3
    assert found.held_rps == 40.0
    assert "more was not tried" in sentence(found)


@pytest.mark.parametrize(("true_rps", "held_rps", "failed_rps"), [(0.0, None, LOWEST_RPS), (1e9, HIGHEST_RPS, None)])
def test_there_is_an_end_to_the_range(true_rps: float, held_rps: float | None, failed_rps: float | None) -> None:
    """A machine that measures nothing, or everything, ends the search at the end of the range."""
    found = find_ceiling(machine(true_rps), 64, 100.0, most_s=math.inf)

    assert (found.held_rps, found.failed_rps, found.complete) == (held_rps, failed_rps, True)


def test_nothing_tried_has_no_next() -> None:
    """The rule that names the next rate wants one that was tried."""
    with pytest.raises(ValueError, match="nothing was tried"):
        next_rps(None, None)


@pytest.mark.parametrize(
    ("cpu_share", "golden_share", "limit"),
    [(0.9, 0.5, "client"), (0.8, 0.95, "golden server"), (0.3, 0.2, "machine")],
)
def test_what_gave_way_is_named(cpu_share: float, golden_share: float, limit: str) -> None:
    """Whoever filled a core is the limit; where nobody did, something else took the cores away."""
    points = (Point(100.0, ok=True), Point(110.0, ok=False, cpu_share=cpu_share, golden_cpu_share=golden_share))
    found = Ceiling(64, 100.0, 110.0, True, points)

    assert found.limited_by == limit
    assert f"100 rps (6400 tokens/s); at 110 rps the {limit} was the limit" in sentence(found)
    assert Ceiling(64, 100.0, None, False, points[:1]).limited_by == "nothing"


def test_an_open_end_is_told() -> None:
    """A bracket that did not close, and a machine that holds nothing, are said as such."""
    points = (Point(100.0, ok=True), Point(200.0, ok=False))
    assert "the time was over before the ends met" in sentence(Ceiling(1, 100.0, 200.0, False, points))
    assert "no rate was measured right, down to 1 rps" in sentence(Ceiling(1, None, 1.0, True, points[1:]))


@pytest.mark.parametrize(
    ("held", "failed", "needed", "cores", "words"),
    [
        (100.0, 110.0, 90.0, 2, ""),
        (100.0, None, 900.0, 2, ""),
        (100.0, 110.0, 250.0, 8, "--clients 3"),
        (100.0, 110.0, 250.0, 2, "use more hosts"),
        (None, 1.0, 50.0, 8, "stop other work here"),
    ],
)
def test_advice_is_what_lifts_the_ceiling(
    held: float | None, failed: float | None, needed: float, cores: int, words: str
) -> None:
    """More clients where cores are left, more hosts where none is, quiet where nothing held; else nothing."""
    found = advice([Ceiling(64, held, failed, True)], needed, 64, clients=1, cores=cores)

    assert words in found
    assert bool(words) == bool(found)
    assert advice([], needed, 64, clients=1, cores=cores) == ""


def test_more_clients_are_no_advice_where_others_took_the_cores() -> None:
    """A rate that failed with client and server half idle failed for the machine: quiet helps, another client not."""
    busy = Ceiling(64, 50.0, 60.0, complete=True, points=(Point(60.0, ok=False, cpu_share=0.2),))
    at_limit = Ceiling(64, 50.0, 60.0, complete=True, points=(Point(60.0, ok=False, cpu_share=0.9),))

    assert "stop other work" in advice([busy], 75.0, 64, clients=1, cores=8)
    assert "--clients 2" in advice([at_limit], 75.0, 64, clients=1, cores=8)


def test_a_client_that_sends_nothing_has_no_ceiling(tmp_path: Path) -> None:
    """What cannot even be compared is a rate that failed, told with its reason; nothing of the tries stays behind."""

    def idle(folder: Path, plan: LoadPlan, due: Sequence[Due]) -> tuple[list[Trace], LoadSummary]:
        assert folder.is_relative_to(tmp_path)
        assert plan.base_url
        assert due
        return [], LoadSummary(0.0, 0.0, 0, 0, "kernel", 0.0, 0.0, 0, stopped_early=False)

    contract = Contract.model_validate({"prompt_tokens": 8, "output_tokens": 8, "rate": "40 rps"})
    said: list[str] = []
    found = search_ceilings(tmp_path, contract, limit_s=2.0, seed=1, most_s=0.0, drive=idle, say=said.append)

    assert [(one.tokens, one.held_rps, one.failed_rps) for one in found] == [(8, None, 60.0), (1, None, 60.0)]
    assert "left no trace" in found[0].points[0].why
    assert "trying 60 rps" in said[0]
    assert list(tmp_path.iterdir()) == []
