"""What the servers' own counters say of two targets: where a difference may come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hxp_harness.report.record import Record


@dataclass(frozen=True, slots=True)
class Counters:
    """What one target's counters went on by over its runs; None: it has no such counter."""

    requests: float | None
    preemptions: float | None
    cached_share: float | None  # of looked-up prompt tokens
    waiting: float | None  # in the queue when the load had ended, the most of any run
    kv_usage: float | None  # likewise, share of the KV cache


def counters_of(records: Sequence[Record]) -> Counters:
    """Add up what the counters of these runs counted."""
    hits, looked_up = _sum(records, "prefix_hits"), _sum(records, "prefix_queries")
    return Counters(
        requests=_sum(records, "requests"),
        preemptions=_sum(records, "preemptions"),
        cached_share=None if hits is None or not looked_up else hits / looked_up,
        waiting=_most(records, "waiting"),
        kv_usage=_most(records, "kv_cache_usage"),
    )


def rows(a: Counters, b: Counters) -> list[tuple[str, str, str]]:
    """Return a table of what either has."""
    named = (
        ("requests served", a.requests, b.requests, "{:.0f}"),
        ("preemptions", a.preemptions, b.preemptions, "{:.0f}"),
        ("prompt tokens from the prefix cache", a.cached_share, b.cached_share, "{:.1%}"),
        ("waiting when the load ended", a.waiting, b.waiting, "{:.0f}"),
        ("KV cache in use when the load ended", a.kv_usage, b.kv_usage, "{:.1%}"),
    )
    return [
        (name, _shown(mine, shown), _shown(theirs, shown))
        for name, mine, theirs, shown in named
        if mine is not None or theirs is not None
    ]


def _shown(value: float | None, shown: str) -> str:
    return "not told" if value is None else shown.format(value)


def hints(a: Counters, b: Counters) -> list[str]:
    """Say what stands out: a hint at the cause, no proof."""
    found = []
    if (b.preemptions or 0) > 2 * (a.preemptions or 0) + 5:
        counts = f"B preempted {b.preemptions:.0f} requests, A {a.preemptions or 0:.0f}"
        found.append(f"{counts}: B ran short of KV memory.")
    if (b.waiting or 0) > 2 * (a.waiting or 0) + 5:
        queues = f"B had {b.waiting:.0f} requests in its queue at the end, A {a.waiting or 0:.0f}"
        found.append(f"{queues}: B did not keep up.")
    if a.cached_share is not None and b.cached_share is not None and abs(b.cached_share - a.cached_share) > 0.05:
        shares = f"A took {a.cached_share:.0%} of its prompts from the prefix cache, B {b.cached_share:.0%}"
        found.append(f"{shares}: they did not do the same work.")
    return found


def _sum(records: Sequence[Record], name: str) -> float | None:
    found = []
    for record in records:
        before, after = (_value(record.server.get(when), name) for when in ("before", "after"))
        if before is not None and after is not None:
            found.append(after - before)
    return sum(found) if found else None


def _most(records: Sequence[Record], name: str) -> float | None:
    found = [value for record in records if (value := _value(record.server.get("after"), name)) is not None]
    return max(found, default=None)


def _value(page: object, name: str) -> float | None:
    value = page.get(name) if isinstance(page, Mapping) else None
    return float(value) if isinstance(value, int | float) else None
