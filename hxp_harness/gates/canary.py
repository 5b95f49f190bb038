"""The canary's check: the fixed questions have the same answers under load as idle. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hxp_harness.gates.interval import ALPHA
from hxp_harness.gates.outcome import Check, CheckOutcome
from hxp_harness.gates.tails import share_below

# Batches change the order of sums, so even at temperature 0 honest engines answer some questions otherwise in company.
MOST_DIFFERENT = 0.25
NAME = "answers hold under load"
OK, FAILED, NOT_PROVEN = CheckOutcome.OK, CheckOutcome.FAILED, CheckOutcome.NOT_PROVEN


@dataclass(frozen=True, slots=True)
class CanaryAnswers:
    """Answers by question before, during and after the load; None or missing where none came."""

    idle: Sequence[str | None] = ()
    loaded: Sequence[str | None] = ()
    after: Sequence[str | None] = ()


def check_canary(found: CanaryAnswers | None) -> Check:
    """Fail where surely more than MOST_DIFFERENT of the answers change under load, and do not change idle."""
    if found is None or not found.idle:
        return Check(NAME, NOT_PROVEN, "No fixed questions were asked: the run is too short for them.")
    pairs = _both(found.idle, found.loaded)
    if share_below(len(pairs), len(pairs), ALPHA) <= MOST_DIFFERENT:  # not even all of them could tell
        return Check(NAME, NOT_PROVEN, f"{len(pairs)} fixed questions were answered both idle and under load: too few.")
    again = _both(found.idle, found.after)
    restless = sum(one != other for one, other in again)
    if share_below(restless, len(again), ALPHA) > MOST_DIFFERENT if again else False:
        sentence = f"{restless} of {len(again)} fixed questions were answered otherwise even idle: the target is no"
        return Check(NAME, NOT_PROVEN, f"{sentence} witness of itself.")
    changed = sum(one != other for one, other in pairs)
    sentence = f"{changed} of {len(pairs)} fixed questions were answered otherwise under load than idle"
    if share_below(changed, len(pairs), ALPHA) > MOST_DIFFERENT:
        return Check(NAME, FAILED, f"{sentence}: the speed is bought with other answers.")
    alike = " All have the same answer, so that one question's answer given to another would not show."
    told = f"{sentence}; up to {MOST_DIFFERENT:.0%} is what batching does to honest engines."
    return Check(NAME, OK, told + (alike if len({idle for idle, _ in pairs}) == 1 else ""))


def _both(one: Sequence[str | None], other: Sequence[str | None]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in zip(one, other, strict=False) if a is not None and b is not None]
