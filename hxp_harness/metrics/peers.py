"""How other tools compute their metrics; `rosetta.yaml` beside this file has a row for each, with its source."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hxp_harness.metrics.summary import percentile as order_statistic
from hxp_harness.metrics.table import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Requests that a tool counts as successes, one entry each; seconds since t0. `gaps_s` are pooled."""

    intended_s: Floats
    sent_s: Floats
    first_s: Floats
    last_s: Floats
    end_s: Floats
    output_tokens: Floats
    prompt_tokens: Floats
    gaps_s: Floats
    attempted: int
    window_s: float  # from the first sending to the last end
    first_due_s: float
    last_due_s: float


Values = Callable[[Seen], Floats]


def _linear(values: Floats, q: float) -> float:
    return float(np.quantile(values, q))


def _sorted_at(values: Floats, q: float) -> float:
    """Take the element at the truncated index n q, as LoadGen does; it asserts q < 1."""
    return float(np.sort(values)[int(len(values) * q)])


def _cumulated(values: Floats, q: float) -> float:
    """Take the first value whose cumulated share reaches q."""
    return float(np.sort(values)[max(math.ceil(q * len(values) - 1e-9), 1) - 1])


def _first_from_sent(seen: Seen) -> Floats:
    return seen.first_s - seen.sent_s


def _last_from_sent(seen: Seen) -> Floats:
    return seen.last_s - seen.sent_s


def _end_from_sent(seen: Seen) -> Floats:
    return seen.end_s - seen.sent_s


def _per_gap(seen: Seen) -> Floats:
    """(last - first) / (n - 1); NaN for one token."""
    return (seen.last_s - seen.first_s) / np.where(seen.output_tokens > 1, seen.output_tokens - 1, np.nan)


def _per_gap_to_end(seen: Seen) -> Floats:
    """(end - first) / (n - 1); NaN for one token, of which LoadGen says that it is an error."""
    return (seen.end_s - seen.first_s) / np.where(seen.output_tokens > 1, seen.output_tokens - 1, np.nan)


def _per_token_with_first(seen: Seen) -> Floats:
    return (seen.last_s - seen.sent_s) / np.where(seen.output_tokens > 0, seen.output_tokens, np.nan)


def _first_from_due(seen: Seen) -> Floats:
    return seen.first_s - seen.intended_s


def _last_from_due(seen: Seen) -> Floats:
    return seen.last_s - seen.intended_s


def _of_several(seen: Seen) -> Floats:
    return _first_from_sent(seen)[seen.output_tokens > 1]


def _known(values: Values) -> Values:
    def known(seen: Seen) -> Floats:
        found = values(seen)
        return found[~np.isnan(found)]

    return known


def _chunk_gaps(seen: Seen) -> Floats:
    """Gaps between chunks: tokens of one chunk have none."""
    return seen.gaps_s[seen.gaps_s > 0]


def _ones(seen: Seen) -> Floats:
    return np.ones(len(seen.sent_s))


def _per_window(values: Values) -> Values:
    return lambda seen: values(seen) / seen.window_s if seen.window_s > 0 else np.zeros(0)


def _scheduled_rate(seen: Seen) -> Floats:
    length_s = seen.last_due_s - seen.first_due_s
    return np.array([(seen.attempted - 1) / length_s]) if length_s > 0 else np.zeros(0)


def _completed_tokens(seen: Seen) -> Floats:
    length_s = float(seen.end_s.max(initial=-np.inf)) - seen.first_due_s
    return seen.output_tokens / length_s if length_s > 0 else np.zeros(0)


VALUES: dict[str, Values] = {
    "first_from_due": _first_from_due,
    "first_from_sent": _first_from_sent,
    "first_from_sent_of_several": _of_several,
    "last_from_due": _last_from_due,
    "last_from_sent": _last_from_sent,
    "end_from_sent": _end_from_sent,
    "end_from_due": lambda seen: seen.end_s - seen.intended_s,
    "per_gap": _known(_per_gap),
    "per_gap_to_end": _known(_per_gap_to_end),
    "per_token_with_first": _known(_per_token_with_first),
    "gaps": lambda seen: seen.gaps_s,
    "chunk_gaps": _chunk_gaps,
    "requests_per_window": _per_window(_ones),
    "tokens_per_window": _per_window(lambda seen: seen.output_tokens),
    "scheduled_rate": _scheduled_rate,
    "completed_tokens": _completed_tokens,
    "good_per_window": _per_window(_ones),
    "good_of_attempted": lambda seen: _ones(seen) / max(seen.attempted, 1),
    "good_of_successful": lambda seen: _ones(seen) / max(len(seen.sent_s), 1),
}


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """A tool in the version that was read."""

    name: str
    version: str
    counts: tuple[str, ...]  # our error kinds that it takes for successes once a token has come
    percentile: Callable[[Floats, float], float]
    per_request: Mapping[str, Values] = field(default_factory=dict)  # what its goodput can limit
    undefined_is_good: bool = False  # a request without that value meets the limit


_LAX = ("stream_error", "truncated", "no_usage")
_SENT = {"ttft": _first_from_sent, "tpot": _per_gap}
PEERS = {
    "hxp": Peer(
        "hxp",
        "3",
        (),
        order_statistic,
        {"e2e": _last_from_due, "ttft": _first_from_due, "tpot": _per_gap},
        undefined_is_good=True,
    ),
    "vllm-bench": Peer(
        "vllm bench serve",
        "0.32.0",
        _LAX,
        _linear,
        {"ttft": _first_from_sent, "tpot": lambda seen: np.nan_to_num(_per_gap(seen)), "e2e": _last_from_sent},
    ),
    "guidellm": Peer("GuideLLM", "0.8.1", ("truncated", "no_usage"), _cumulated, _SENT | {"e2e": _end_from_sent}),
    "aiperf": Peer("AIPerf, once GenAI-Perf", "0.13.0", _LAX, _linear, _SENT | {"e2e": _last_from_sent}),
    "inference-perf": Peer("inference-perf", "at 010d12f", _LAX, _linear, _SENT | {"e2e": _end_from_sent}),
    "llmperf": Peer("LLMPerf", "at 004d3af", ("truncated", "no_usage"), _linear),
    "mlperf": Peer("MLPerf LoadGen", "at 05a9cec", (), _sorted_at),
}


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One metric of one tool. `values` None: it has none, `formula` says so."""

    peer: Peer
    subject: str  # our name of what is meant
    called: str
    unit: str
    formula: str
    source: str
    values: Values | None

    @property
    def total(self) -> bool:
        """Whether the figure is the sum of the values, not percentiles of them."""
        return self.unit != "s"


@functools.cache
def rows() -> tuple[Row, ...]:
    """Return every row of `rosetta.yaml`."""
    import yaml

    text = Path(__file__).with_name("rosetta.yaml").read_text(encoding="utf-8")
    return tuple(
        Row(
            peer=PEERS[row["tool"]],
            subject=subject,
            called=row["called"],
            unit=row["unit"],
            formula=row["formula"],
            source=row["source"],
            values=None if row["values"] is None else VALUES[row["values"]],
        )
        for subject, found in yaml.safe_load(text).items()
        for row in found
    )
