"""Which rate to try next, and what the tries say together. Pure: a history in, a decision out.

Short tries only steer: the rate is raised or lowered by a factor until one leans each way, then the ratio is halved in
the logarithm. What is claimed rests on long runs alone: `passes_at` is a rate with a PASS, `fails_at` one with a FAIL.
(In a few seconds arrivals bunch enough to look like saturation.) Supposed is that a higher rate is not easier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hxp_harness.gates.outcome import Outcome

GROWTH = 1.6  # factor between tries while only one side is known
MOST_TRIES = 24
MOST_CERTIFYING = 4  # tries an end, each one step further out
MOST_INVALID_RATES = 3  # different ones, with nothing measured at any other: the rate is not what is wrong
LEAST_SHARE = 0.04  # of the first rate: below, the trouble is not the rate, and runs would last for ever
_SAME = 1.0 + 1e-9


@dataclass(frozen=True, slots=True)
class Tried:
    """One run at one rate. `leans`: every gate's estimate clears its limit, surely or not."""

    rate_rps: float
    outcome: Outcome
    leans: bool
    certifying: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A run to make; a certifying one is long enough for a verdict."""

    rate_rps: float
    certifying: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """Where to begin, how close the ends shall come (their ratio - 1), and a rate about which somebody asks."""

    start_rps: float
    resolution: float = 0.05
    expected_rps: float | None = None


@dataclass(frozen=True, slots=True)
class Bracket:
    """What is certain. `wall_rps`: from this rate on nothing could be measured, twice at the same rate."""

    passes_at_rps: float | None
    fails_at_rps: float | None
    wall_rps: float | None = None


def next_trial(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Return the next run to make; None when there is nothing more to learn within MOST_TRIES."""
    if not tried:
        return Trial(search.start_rps)
    hopeless = len(_invalid(tried)) >= MOST_INVALID_RATES and not _usable(tried)
    if len(tried) >= MOST_TRIES:
        return None
    return _again(tried) or (None if hopeless else _narrower(tried, search))


def _narrower(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Widen until one rate leans each way, halve what lies between, then ask for verdicts at both ends."""
    low, high = _ends(tried)
    if low is None:
        lower = high / GROWTH
        too_low = lower < LEAST_SHARE * search.start_rps
        return _upper_end(tried, high, search) or _asked(tried, search) if too_low else Trial(lower)
    if math.isinf(high):
        return Trial(low * GROWTH)
    if high > low * (1 + search.resolution) * _SAME:
        return Trial(math.sqrt(low * high))
    return _lower_end(tried, low, search) or _upper_end(tried, high, search) or _asked(tried, search)


def bracket(tried: Sequence[Tried]) -> Bracket:
    """Return the certain ends; where verdicts contradict each other the more careful one counts."""
    passed, failed = _rates(tried, Outcome.PASS), _rates(tried, Outcome.FAIL)
    fails_at = min(failed, default=None)
    passed = [rate for rate in passed if fails_at is None or rate < fails_at]
    return Bracket(max(passed, default=None), fails_at, _wall(tried))


def decide(tried: Sequence[Tried], expected_rps: float | None) -> Outcome:
    """Return the answer: to whether `expected_rps` is reached or, where nobody asks, whether both ends are certain."""
    if tried and not _usable(tried):
        return Outcome.INVALID
    found = bracket(tried)
    if expected_rps is None:
        both = found.passes_at_rps is not None and found.fails_at_rps is not None
        return Outcome.PASS if both else Outcome.INCONCLUSIVE
    if found.passes_at_rps is not None and found.passes_at_rps * _SAME >= expected_rps:
        return Outcome.PASS
    if found.fails_at_rps is not None and found.fails_at_rps <= expected_rps * _SAME:
        return Outcome.FAIL
    return Outcome.INCONCLUSIVE


def _rates(tried: Sequence[Tried], outcome: Outcome) -> list[float]:
    return [one.rate_rps for one in tried if one.certifying and one.outcome is outcome]


def _usable(tried: Sequence[Tried]) -> list[Tried]:
    return [one for one in tried if one.outcome is not Outcome.INVALID]


def _invalid(tried: Sequence[Tried]) -> set[float]:
    return {one.rate_rps for one in tried if one.outcome is Outcome.INVALID}


def _again(tried: Sequence[Tried]) -> Trial | None:
    """A disturbed machine makes one run INVALID; it is made once more before anything follows from it."""
    last = tried[-1]
    times = sum(one.rate_rps == last.rate_rps and one.outcome is Outcome.INVALID for one in tried)
    return Trial(last.rate_rps, last.certifying) if last.outcome is Outcome.INVALID and times == 1 else None


def _wall(tried: Sequence[Tried]) -> float | None:
    """Return the lowest rate that was INVALID twice, and not otherwise measured."""
    known = {one.rate_rps for one in _usable(tried)}
    rates = [one.rate_rps for one in tried if one.outcome is Outcome.INVALID and one.rate_rps not in known]
    return min((rate for rate in rates if rates.count(rate) > 1), default=None)


def _ends(tried: Sequence[Tried]) -> tuple[float | None, float]:
    """Return the highest rate that leans to PASS below the lowest that does not, which is infinite if there is none.

    What a verdict says overrules what a short try leans to.
    """
    passed, failed = _rates(tried, Outcome.PASS), _rates(tried, Outcome.FAIL)
    sure = max(passed, default=0.0)
    against = [one.rate_rps for one in _usable(tried) if not one.leans and one.rate_rps > sure]
    high = min([*failed, *against, _wall(tried) or math.inf])
    leaning = [one.rate_rps for one in _usable(tried) if one.leans and one.rate_rps < high]
    return max([*leaning, *(rate for rate in passed if rate < high)], default=None), high


def _lower_end(tried: Sequence[Tried], low: float, search: Search) -> Trial | None:
    """Ask for a verdict at `low`, then lower each time it is not a PASS, by twice as many steps as before.

    Close to the capacity requests cluster, and no short run passes; how far below one does is not known.
    """
    passes_at = bracket(tried).passes_at_rps
    vain = [one.rate_rps for one in tried if one.certifying and one.outcome is not Outcome.PASS]
    vain = [rate for rate in vain if rate <= low * _SAME]
    wanted = min(vain) / (1 + search.resolution) ** 2 ** (len(vain) - 1) if vain else low
    if (passes_at is not None and passes_at * _SAME >= wanted) or len(vain) >= MOST_CERTIFYING:
        return None
    return Trial(wanted, certifying=True)


def _upper_end(tried: Sequence[Tried], high: float, search: Search) -> Trial | None:
    """Ask for a verdict at `high`, then a step higher each time it is not a FAIL; beyond a wall there is none."""
    found = bracket(tried)
    if found.wall_rps is not None and high * _SAME >= found.wall_rps:
        return None
    vain = [one.rate_rps for one in tried if one.certifying and one.outcome is not Outcome.FAIL]
    vain = [rate for rate in vain if rate * _SAME >= high]
    wanted = max(vain) * (1 + search.resolution) if vain else high
    if (found.fails_at_rps is not None and found.fails_at_rps <= wanted * _SAME) or len(vain) >= MOST_CERTIFYING:
        return None
    return Trial(wanted, certifying=True)


def _asked(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Ask for a verdict at the expected rate itself, once, where the ends leave it open."""
    rate_rps = search.expected_rps
    if rate_rps is None or decide(tried, rate_rps) is not Outcome.INCONCLUSIVE:
        return None
    done = any(one.certifying and one.rate_rps == rate_rps for one in tried)
    return None if done else Trial(rate_rps, certifying=True)
