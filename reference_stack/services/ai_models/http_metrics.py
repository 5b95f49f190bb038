"""The metrics of vLLM's API server, under the names of prometheus-fastapi-instrumentator, which vLLM uses."""

from __future__ import annotations

import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

from reference_stack.services.ai_models.asgi import Send

# fmt: off
_MANY_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60)
# fmt: on
_FEW_S = (0.1, 0.5, 1)
_NOT_COUNTED = frozenset({"/metrics", "/health", "/load", "/ping", "/version", "/server_info"})
Headers = Iterable[tuple[bytes, bytes]]


@dataclass(slots=True)
class Watched:
    """ASGI's `send`, with what went through it: the status and headers of the answer, and when its request came."""

    send: Send
    began_s: float = field(default_factory=time.monotonic)
    status: int = 500
    headers: Headers = ()

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        await self.send(message)


class HttpMetrics:
    """Counts the answers of one server: how many, how large by their headers, and how long they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by = ["handler"]
        self._requests = Counter(
            "http_requests",
            "Total number of requests by method, status and handler.",
            [*by, "method", "status"],
            registry=registry,
        )
        text = "Content length of {} by handler, as its header says."
        self._asked = Summary("http_request_size_bytes", text.format("incoming requests"), by, registry=registry)
        self._sent = Summary("http_response_size_bytes", text.format("outgoing responses"), by, registry=registry)
        name, text = "http_request_duration", "Latency with {} buckets."
        self._finely = Histogram(f"{name}_highr_seconds", text.format("many"), buckets=_MANY_S, registry=registry)
        self._roughly = Histogram(
            f"{name}_seconds", text.format("few"), [*by, "method"], buckets=_FEW_S, registry=registry
        )

    def answered(self, handler: str, method: str, asked: Headers, answer: Watched) -> None:
        """Count the answer to a request with the headers `asked` for the route `handler`, `none` for an unknown one."""
        if handler in _NOT_COUNTED:
            return
        took_s = time.monotonic() - answer.began_s
        self._requests.labels(handler, method, f"{answer.status // 100}xx").inc()
        self._asked.labels(handler).observe(_length(asked))
        self._sent.labels(handler).observe(_length(answer.headers))
        self._roughly.labels(handler, method).observe(took_s)
        self._finely.observe(took_s)


def _length(headers: Headers) -> int:
    """Return the content length that `headers` say, 0 where they say none."""
    said = next((value for name, value in headers if name == b"content-length"), b"")
    return int(said) if said.isdigit() else 0
