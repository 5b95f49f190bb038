"""What the fixture `faults` gives a test: targets behind a poisoned way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from hxp_harness.faults.proxy import Proxy
from hxp_harness.faults.toxic import Stream
from hxp_harness.target import Target


class Faults:
    """Puts proxies before targets; all end with the context."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def proxy(self, target: Target, *, seed: int = 0) -> tuple[Proxy, Target]:
        """Return a proxy before `target` and the target as it is reached through it."""
        proxy = self._open.enter_context(Proxy((target.host, target.port), seed=seed))
        parts = urlsplit(target.base_url)
        way = urlunsplit(parts._replace(netloc="{}:{}".format(*proxy.address)))
        return proxy, replace(target, base_url=way)

    @contextmanager
    def toxic(
        self, target: Target, kind: str, *, stream: Stream = "downstream", **attributes: float
    ) -> Iterator[Target]:
        """Give the target behind a way with one toxic; see hxp_harness.faults.toxic.KINDS for the kinds."""
        proxy, through = self.proxy(target)
        with proxy.toxic(kind, stream=stream, **attributes):
            yield through

    @contextmanager
    def latency(self, target: Target, *, delay_s: float, jitter_s: float = 0.0) -> Iterator[Target]:
        """Give the target with every answer later by `delay_s` and at most `jitter_s` more or less."""
        with self.toxic(target, "latency", delay_s=delay_s, jitter_s=jitter_s) as through:
            yield through

    @contextmanager
    def down(self, target: Target) -> Iterator[Target]:
        """Give the target where nobody listens."""
        with self.toxic(target, "down") as through:
            yield through
