"""Which rate to try next, and what the tries say together. Pure: a history in, a decision out.

First certain, then close. Around what a stack predicts of itself (else around where short tries lean) one run is made
far above, which fails within seconds, and one far below, which passes: from then on the bracket is certain, whatever
its width. Short tries then show where between its ends the capacity lies, and verdicts are sought nearer to it, each
halving the ratio: above first, since a run that fails ends sooner than one that passes. What is claimed rests on long
runs alone: `passes_at` is a rate with a PASS, `fails_at` one with a FAIL. (In a few seconds arrivals bunch enough to
look like saturation.) Supposed is that a higher rate is not easier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hxp_harness.gates.outcome import Outcome

GROWTH = 1.6  # factor between short tries while only one side is known
FAR_ABOVE, FAR_BELOW = 1.5, 2.0  # factors from where the capacity seems to lie to the first verdicts
MOST_TRIES = 30
MOST_VAIN = 2  # verdicts sought closer to the capacity and not found, an end: there no run of this length decides
MOST_INVALID_RATES = 3  # different ones, with nothing measured at any other: the rate is not what is wrong
LEAST_SHARE = 0.04  # of the first rate: below, the trouble is not the rate, and runs would last for ever
_SAME = 1.0 + 1e-9
_ANSWERS = (Outcome.PASS, Outcome.FAIL)


@dataclass(frozen=True, slots=True)
class Tried:
    """One run at one rate. `leans`: every gate's estimate clears its limit, surely or not.

    `uncertified`: the certificate was beyond its bounds, so that no load was sent.
    """

    rate_rps: float
    outcome: Outcome
    leans: bool
    certifying: bool = False
    uncertified: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A run to make; a certifying one is long enough for a verdict, and one `to_pass` for a PASS under waiting."""

    rate_rps: float
    certifying: bool = False
    to_pass: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """Where to begin, how close the ends shall come (their ratio - 1), and a rate about which somebody asks.

    `predicted`: the capacity is said to lie at `start_rps`, so that no short tries are needed to come near it.
    """

    start_rps: float
    resolution: float = 0.05
    expected_rps: float | None = None
    predicted: bool = False


@dataclass(frozen=True, slots=True)
class Bracket:
    """What is certain. `wall_rps`: from this rate on nothing could be measured, twice at the same rate."""

    passes_at_rps: float | None
    fails_at_rps: float | None
    wall_rps: float | None = None


def next_trial(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Return the next run to make; None when nothing is left to learn within MOST_TRIES, or what was asked is known."""
    if len(tried) >= MOST_TRIES or (search.expected_rps and decide(tried, search.expected_rps) in _ANSWERS):
        return None
    if again := _again(tried):
        return again
    if (len(_invalid(tried)) >= MOST_INVALID_RATES and not _usable(tried)) or out_of_reach(tried):
        return None
    steps = (_asked, _near, _beyond, _below, _halved, _closer_above, _closer_below)
    return next((trial for step in steps if (trial := step(tried, search))), None)


def out_of_reach(tried: Sequence[Tried]) -> bool:
    """Whether the instrument, not the target, was found wanting: twice, and nothing was measured yet."""
    return bool(tried) and not _usable(tried) and sum(one.uncertified for one in tried) > 1


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
    if not tried:
        return None
    last = tried[-1]
    times = sum(one.rate_rps == last.rate_rps and one.outcome is Outcome.INVALID for one in tried)
    if last.outcome is not Outcome.INVALID or times > 1:
        return None
    return Trial(last.rate_rps, last.certifying, to_pass=last.certifying)


def _wall(tried: Sequence[Tried]) -> float | None:
    """Return the lowest rate that was INVALID twice above all that were measured: there the instrument gives out."""
    highest = max((one.rate_rps for one in _usable(tried)), default=0.0)
    return min((rate for rate in _lost(tried) if rate > highest), default=None)


def _lost(tried: Sequence[Tried]) -> set[float]:
    """Return the rates that were INVALID twice; they are not tried a third time."""
    rates = [one.rate_rps for one in tried if one.outcome is Outcome.INVALID]
    return {rate for rate in rates if rates.count(rate) > 1}


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


def _asked(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Ask for a verdict at the expected rate itself, before anything else."""
    rate_rps = search.expected_rps
    if rate_rps is None or any(one.certifying and one.rate_rps == rate_rps for one in tried):
        return None
    return Trial(rate_rps, certifying=True, to_pass=True)


def _near(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Widen by short tries until one rate leans each way, where nothing says how high the capacity is."""
    if search.predicted:
        return None
    low, high = _ends(tried)
    if low is None and math.isinf(high):
        return Trial(search.start_rps)
    if low is None:
        return Trial(high / GROWTH) if high / GROWTH >= LEAST_SHARE * search.start_rps else None
    return Trial(low * GROWTH) if math.isinf(high) else None


def _beyond(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Ask for a FAIL far above; where it does not come, farther; beyond a wall there is none."""
    found, (_, high) = bracket(tried), _ends(tried)
    vain = _vain(tried, Outcome.FAIL)
    wanted = max([search.start_rps if math.isinf(high) else high, *vain]) * FAR_ABOVE
    if found.wall_rps is not None and wanted * _SAME >= found.wall_rps:
        wanted = high
    walled = found.wall_rps is not None and wanted * _SAME >= found.wall_rps
    return None if found.fails_at_rps is not None or walled or wanted in vain else Trial(wanted, certifying=True)


def _below(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Ask for a PASS far below; where it does not come, farther."""
    low, high = _ends(tried)
    vain = _vain(tried, Outcome.PASS)
    seems_rps = search.start_rps if low is None else low
    wanted = min([seems_rps, high, *vain]) / FAR_BELOW
    if bracket(tried).passes_at_rps is not None or wanted < LEAST_SHARE * seems_rps:
        return None
    return Trial(wanted, certifying=True, to_pass=True)


def _halved(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Halve, by short tries, what lies between the rates that lean each way."""
    low, high = _ends(tried)
    if low is None or math.isinf(high) or not _apart(low, high, search):
        return None
    middle = math.sqrt(low * high)
    return None if middle in _lost(tried) else Trial(middle)


def _closer_above(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Ask for a FAIL where short tries lean against, then halfway from there to the rate that surely fails."""
    fails_at, (_, high) = bracket(tried).fails_at_rps, _ends(tried)
    if fails_at is None:
        return None
    vain = [rate for rate in _vain(tried, Outcome.FAIL) if high <= rate * _SAME < fails_at]
    inner = max(vain, default=high)
    if not _apart(inner, fails_at, search) or len(vain) >= MOST_VAIN:
        return None
    return Trial(math.sqrt(inner * fails_at) if vain else high, certifying=True)


def _closer_below(tried: Sequence[Tried], search: Search) -> Trial | None:
    """Ask for a PASS halfway from the rate that surely passes to where one may.

    Close to the capacity requests cluster, and no short run passes; how far below one does is not known.
    """
    passes_at, (low, _) = bracket(tried).passes_at_rps, _ends(tried)
    if passes_at is None or low is None:
        return None
    vain = [rate for rate in _vain(tried, Outcome.PASS) if passes_at < rate <= low * _SAME]
    inner = min(vain, default=low)
    if not _apart(passes_at, inner, search) or len(vain) >= MOST_VAIN:
        return None
    return Trial(math.sqrt(passes_at * inner), certifying=True, to_pass=True)


def _vain(tried: Sequence[Tried], wanted: Outcome) -> list[float]:
    """Return the rates of the long runs that did not end as `wanted`, and those that could not be measured."""
    ended = [one.rate_rps for one in _usable(tried) if one.certifying and one.outcome is not wanted]
    return [*ended, *_lost(tried)]


def _apart(low: float, high: float, search: Search) -> bool:
    return high > low * (1 + search.resolution) * _SAME
