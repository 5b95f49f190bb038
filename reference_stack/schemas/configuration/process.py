"""Settings of a service that is several processes: its workers, how they end, who may read its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from reference_stack.schemas.configuration.base import Secret, Settings

_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class ProcessSettings(Settings):
    """How workers start and end.

    Requests that are open when a worker ends may take `drain_s` more; streams are then ended with an error event.
    Connections on which no request comes are closed after `idle_s`. New workers must serve within `ready_s`, or the old
    ones stay. A worker whose event loop does not go round for `stuck_s` is reported, and with `replace_stuck` killed
    and replaced. `log_lines` may wait while nobody reads the log. `control` is the Unix socket on which the parent
    takes the commands of `hxp-stack gateway`.
    """

    drain_s: _Seconds = 30.0
    idle_s: _Seconds = 0.5
    ready_s: _Seconds = 30.0
    stuck_s: _Seconds = 10.0
    replace_stuck: bool = False
    log_lines: Annotated[int, Field(gt=0)] = 10_000
    control: Path | None = None


class MetricsDoorSettings(Settings):
    """Who may read /metrics.

    With `port` it is served there, on `host`, and no more beside the API; with `key` it wants `Authorization: Bearer`.
    """

    port: int | None = Field(default=None, ge=0, le=65535)
    host: str = "127.0.0.1"
    key: Secret | None = None
