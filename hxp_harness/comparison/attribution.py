"""What the servers' own counters say of two targets: where a difference may come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hxp_harness.report.record import Record
from hxp_harness.telemetry.definitions import SERVER_METRICS

_FULL = 0.95  # of the KV cache: from here on a scheduler has to hold requests back
_FORM = {"ratio": "{:.1%}", "requests": "{:.3g}"}
DURING = {
    row.name: row
    for row in SERVER_METRICS
    if row.name
    in {"running_mean", "waiting_mean", "waiting_peak", "kv_usage_peak", "gpu_clock_mean", "energy_per_token"}
}


@dataclass(frozen=True, slots=True)
class Counters:
    """What one target's counters went on by over its runs; None: it has no such counter."""

    requests: float | None
    preemptions: float | None
    cached_share: float | None  # of looked-up prompt tokens
    waiting: float | None  # in the queue when the load had ended, the most of any run
    kv_usage: float | None  # likewise, share of the KV cache
    during: Mapping[str, float] = field(default_factory=dict)  # mean over its runs of what it said every second


def counters_of(records: Sequence[Record]) -> Counters:
    """Add up what the counters of these runs counted."""
    hits, looked_up = _sum(records, "prefix_hits"), _sum(records, "prefix_queries")
    return Counters(
        requests=_sum(records, "requests"),
        preemptions=_sum(records, "preemptions"),
        cached_share=None if hits is None or not looked_up else hits / looked_up,
        waiting=_most(records, "waiting"),
        kv_usage=_most(records, "kv_cache_usage"),
        during=_during(records),
    )


def _during(records: Sequence[Record]) -> dict[str, float]:
    """Return the mean over the runs of every row that all of them have."""
    found = {}
    for name in DURING:
        values = [one.mean for record in records if (one := record.telemetry.get(name)) is not None]
        known = [value for value in values if value is not None]
        if known and len(known) == len(records):
            found[name] = sum(known) / len(known)
    return found


def rows(a: Counters, b: Counters) -> list[tuple[str, str, str]]:
    """Return a table of what either has."""
    named = (
        ("requests served", a.requests, b.requests, "{:.0f}"),
        ("preemptions", a.preemptions, b.preemptions, "{:.0f}"),
        ("prompt tokens from the prefix cache", a.cached_share, b.cached_share, "{:.1%}"),
        ("waiting when the load ended", a.waiting, b.waiting, "{:.0f}"),
        ("KV cache in use when the load ended", a.kv_usage, b.kv_usage, "{:.1%}"),
        *((row.says, a.during.get(name), b.during.get(name), _FORM.get(row.unit, "{:.4g} " + row.unit))
          for name, row in DURING.items()),
    )  # fmt: skip
    return [
        (name, _shown(mine, shown), _shown(theirs, shown))
        for name, mine, theirs, shown in named
        if mine is not None or theirs is not None
    ]


def _shown(value: float | None, shown: str) -> str:
    return "not told" if value is None else shown.format(value)


def hints(a: Counters, b: Counters) -> list[str]:
    """Say what stands out: a hint at the cause, no proof."""
    found = _hints_during(a.during, b.during)
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


def _hints_during(a: Mapping[str, float], b: Mapping[str, float]) -> list[str]:
    """Say what stood out while the load lasted."""
    found = []
    if b.get("waiting_mean", 0.0) > 2 * a.get("waiting_mean", 0.0) + 1 and "waiting_mean" in a:
        queues = f"B had {b['waiting_mean']:.3g} requests waiting on average, A {a['waiting_mean']:.3g}"
        full = b.get("kv_usage_peak", 0.0)
        why = f", and its KV cache was full to {full:.0%}" if full >= _FULL else ""
        found.append(f"{queues}{why}: what B's requests took longer they spent in its queue.")
    elif "running_mean" in a and b.get("running_mean", 0.0) > 1.2 * a["running_mean"] + 1:
        batches = f"B worked on {b['running_mean']:.3g} requests at a time, A on {a['running_mean']:.3g}"
        found.append(f"{batches}, and neither let more wait than the other: each took longer in B's batch.")
    if (clock := a.get("gpu_clock_mean")) and b.get("gpu_clock_mean", clock) < 0.97 * clock:
        found.append(f"B's GPU ran at {b['gpu_clock_mean'] / 1e6:.0f} MHz, A's at {clock / 1e6:.0f}.")
    if (energy := a.get("energy_per_token")) and abs(b.get("energy_per_token", energy) / energy - 1) > 0.05:
        found.append(f"A token took {energy:.3g} J of A and {b['energy_per_token']:.3g} J of B.")
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
