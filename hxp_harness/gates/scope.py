"""Which requests a gate is about: all of them, or those of a length or a tag."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hxp_harness.errors import UsageError
from hxp_harness.metrics.table import TraceTable

# What a condition may be on -> its column. Lengths are those asked for, which requests that failed have too.
COLUMNS: Mapping[str, str] = {
    "prompt_tokens": "asked_prompt_tokens",
    "output_tokens": "asked_output_tokens",
    "tag": "tag",
}
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "=": operator.eq,
}
COMPARISONS = tuple(_COMPARE)
MOST_SHOWN = 10  # tags in a hint


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison that a request must meet; `subject` is a key of COLUMNS, `value` a number of tokens or a tag."""

    subject: str
    comparison: str  # one of COMPARISONS; a tag knows only "="
    value: int | str

    def __str__(self) -> str:
        return f"{self.subject} {self.comparison} {self.value}"


def within(table: TraceTable, scope: Sequence[Condition]) -> TraceTable:
    """Return the requests of `table` that meet every condition; the table itself where there is none."""
    if not scope:
        return table
    chosen = np.ones(len(table), np.bool_)
    for one in scope:
        chosen &= np.asarray(_COMPARE[one.comparison](getattr(table, COLUMNS[one.subject]), one.value), np.bool_)
    return table.where(chosen)


def refuse_nobody(table: TraceTable, scope: Sequence[Condition], gate: str) -> None:
    """Raise UsageError when no measured request meets the conditions of `gate`."""
    measured = table.measured
    if len(measured) == 0 or len(within(measured, scope)):
        return
    subject = next(one.subject for one in scope)
    values = getattr(measured, COLUMNS[subject])
    some = sorted({str(value) for value in values}) if subject == "tag" else [str(values.min()), str(values.max())]
    seen = ", ".join(some[:MOST_SHOWN]) if subject == "tag" else " to ".join(some)
    raise UsageError(f"{gate}: no request of the run meets this", hint=f"{subject} of its requests: {seen or 'none'}")


def meets(scope: Sequence[Condition], *, prompt_tokens: int, output_tokens: int, tag: str) -> bool:
    """Whether one request that is due meets every condition."""
    said = {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "tag": tag}
    return all(bool(_COMPARE[one.comparison](said[one.subject], one.value)) for one in scope)
