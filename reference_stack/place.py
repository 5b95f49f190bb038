"""Where an application runs: alone in its process, or as one of several workers behind one socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

# The name under which a request's scope says at which other door than the API's it came in.
DOOR = "hxp.door"
# Takes "status", "restart", "reload" or "drain" to the parent of all workers; returns its answer with "ok" and "error".
Command = Callable[[str], Awaitable[Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class Place:
    """What an application needs to know of it.

    `page` is the Prometheus text of a registry, of all workers where there are several; `stopping` says whether the
    whole service is being stopped, and not only this worker replaced; `line` takes what makes one canonical line of the
    log, or is None where the logging module takes it. What is in `on_cut` is called when requests that are still open
    have had their time, and what is in `on_turn` some 20 times a second, by whoever runs workers. Metrics that are only
    made when somebody asks come from collectors that must be in `collectors` as well as in the registry, or other
    workers do not see them. `command` is None where no parent takes commands.
    """

    page: Callable[[CollectorRegistry], bytes] = generate_latest
    stopping: Callable[[], bool] = lambda: False
    line: Callable[[Callable[[], str]], None] | None = None
    collectors: list[Collector] = field(default_factory=list)
    command: Command | None = None
    on_cut: list[Callable[[], None]] = field(default_factory=list)
    on_turn: list[Callable[[], None]] = field(default_factory=list)
