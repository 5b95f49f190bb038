"""What our words cost under the target's tokenizer, asked of its /tokenize, so that prompts have exact lengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.prompts import FIRST, VOCABULARY, text_of

Count = Callable[[str], int | None]  # the tokens of a whole prompt, its template included; None: it does not say
_SAMPLES = ((3, 16), (5, 61), (7, 144))  # seed, and tokens beyond the template's


def measure(plan: LoadPlan, count: Count) -> LoadPlan | None:
    """Return `plan` with the cost of each word, or None where tokens do not add up or the target does not tell them.

    Words are asked in halves of halves until a group costs one token a word, so that a tokenizer that knows them all
    is asked twice, and one that knows none, twice a word. Three prompts are then counted as a proof.
    """
    base = count(FIRST)
    if base is None:
        return None
    costs = _costs(range(len(VOCABULARY)), lambda text: None if (told := count(text)) is None else told - base)
    if costs is None or min(costs) < 1:
        return None
    exact = replace(plan, overhead_tokens=float(base), costs=tuple(costs))
    for seed, tokens in _SAMPLES:
        due = Due(0, 0, 0.0, base + tokens, 1, seed)
        if count(text_of(due, exact)) != base + tokens:
            return None
    return exact


def _costs(places: range, more: Count) -> list[int] | None:
    total = more(" ".join([FIRST, *(VOCABULARY[place] for place in places)]))
    if total is None:
        return None
    if total == len(places) or len(places) == 1:
        return [total] if len(places) == 1 else [1] * len(places)
    middle = len(places) // 2
    low, high = _costs(places[:middle], more), _costs(places[middle:], more)
    return None if low is None or high is None or sum(low) + sum(high) != total else low + high
