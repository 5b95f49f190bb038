"""The target's own counters: a Prometheus page of vLLM's names, read before, during and after the load."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

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
# A page of vLLM has a thousand lines, and parsing one costs 20 us: only those of our names are parsed.
_OURS = re.compile(
    rf"^(?:{'|'.join(re.escape(name) for names in NAMES.values() for name in names)})(?:_total)?[{{\s].*$", re.MULTILINE
)


class PageError(Exception):
    """Why there is no page: `kind` is timeout, refused, http or too_long."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


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
    """Read a Prometheus text page; None when it has none of the names, or says them in another format.

    Several series of one name (labels) are added up; of starts of a process and of cache usage the largest counts.
    """
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families("\n".join(_OURS.findall(text)) + "\n"):
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

    try:
        with httpx.Client(timeout=timeout_s, trust_env=False) as client:
            return parse_page(read_page(client, url, timeout_s))
    except PageError:
        return None


def read_page(client: httpx.Client, url: str, limit_s: float) -> str:
    """Return the text at `url`; raise PageError when it does not come whole within `limit_s` seconds in all.

    `client` has the same bound for each of its reads, so that a page may take twice that at most.
    """
    import httpx

    page = bytearray()
    deadline_s = time.monotonic() + limit_s  # httpx bounds each read, not the sum of them
    try:
        with client.stream("GET", url) as response:
            if response.status_code != 200:
                raise PageError("http")
            for part in response.iter_bytes():
                page += part
                if time.monotonic() > deadline_s:
                    raise PageError("timeout")
                if len(page) > MAX_PAGE_BYTES:
                    raise PageError("too_long")
    except httpx.TimeoutException:
        raise PageError("timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL):
        raise PageError("refused") from None
    return page.decode("utf-8", errors="replace")
