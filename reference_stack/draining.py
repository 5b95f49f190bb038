"""uvicorn, but an application that can drain does so before the server stops listening."""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Any

import uvicorn

from reference_stack.prompt_server import PromptServer

_GRACE_S = 5  # for what is open when the server has stopped listening


def uvicorn_config(app: Any) -> uvicorn.Config:
    """Return how `app` is served; where its `state.http_protocol` is set, that makes the connections' protocols."""
    http = getattr(getattr(app, "state", None), "http_protocol", "auto")
    return uvicorn.Config(
        app, http=http, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_S, backlog=4096
    )


class DrainingServer(PromptServer):
    """Awaits `app.drain()`, where there is one, on the first signal, then stops as uvicorn does.

    What had its time to end and did not is cut off, as is everything on a second signal.
    """

    _drain: asyncio.Task[bool] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain is not None:
            self.force_exit = True
        if self._drain is not None or self.should_exit or not self.started or not hasattr(self.config.app, "drain"):
            super().handle_exit(sig, frame)
            return
        # Python runs this between two steps of the loop, in its thread.
        self._drain = asyncio.get_running_loop().create_task(self.config.app.drain())
        self._drain.add_done_callback(lambda drained: self._stop(sig, drained.result()))

    def _stop(self, sig: int, drained: bool) -> None:
        if not drained:
            self.config.timeout_graceful_shutdown = 0
        super().handle_exit(sig, None)
