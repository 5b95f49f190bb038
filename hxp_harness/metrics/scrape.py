"""The target's own counters: a Prometheus page of vLLM's names, read before and after the load."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields

# field of Scrape -> names on the page, without the _total that counters carry; summed over all labels
NAMES = {
    "prompt_tokens": ("vllm:prompt_tokens",),
    "generation_tokens": ("vllm:generation_tokens",),
    "requests": ("vllm:request_success",),
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    "prefix_hits": ("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),
    "prefix_queries": ("vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries"),
    "preemptions": ("vllm:num_preemptions",),
    "process_start_s": ("process_start_time_seconds",),
}
MAX_PAGE_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of the page. None: the page has no such name. Counters count since the server started."""

    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    requests: float | None = None
    running: float | None = None
    waiting: float | None = None
    kv_cache_usage: float | None = None
    prefix_hits: float | None = None
    prefix_queries: float | None = None
    preemptions: float | None = None
    process_start_s: float | None = None

    def since(self, before: Scrape, name: str) -> float | None:
        """Return how far the counter `name` went since `before`; None where either page lacks it."""
        new, old = getattr(self, name), getattr(before, name)
        return None if new is None or old is None else new - old


def parse_page(text: str) -> Scrape | None:
    """Read a Prometheus text page; None when it is not one or has none of the names.

    Several series of one name (labels) are added up; of starts of a process and of cache usage the largest counts.
    """
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name.removesuffix("_total"), []).append(float(sample.value))
    except (ValueError, KeyError, IndexError):
        return None
    values = {field.name: _combined(field.name, found) for field in fields(Scrape)}
    return Scrape(**values) if any(value is not None for value in values.values()) else None


def _combined(field: str, found: dict[str, list[float]]) -> float | None:
    for name in NAMES[field]:
        values = _finite(found.get(name, ()))
        if values:
            return max(values) if field in {"process_start_s", "kv_cache_usage"} else sum(values)
    return None


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def fetch(url: str, *, timeout_s: float = 5.0) -> Scrape | None:
    """Read the page at `url`; None when there is none within `timeout_s` seconds in all.

    A target without counters can be judged too: what they would prove stays not proven.
    """
    if not url:
        return None
    import httpx

    page = bytearray()
    deadline_s = time.monotonic() + timeout_s  # httpx bounds each read, not the sum of them
    try:
        with httpx.Client(timeout=timeout_s, trust_env=False) as client, client.stream("GET", url) as response:
            if response.status_code != 200:
                return None
            for part in response.iter_bytes():
                page += part
                if len(page) > MAX_PAGE_BYTES or time.monotonic() > deadline_s:
                    return None
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return parse_page(page.decode("utf-8", errors="replace"))
