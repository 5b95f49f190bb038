"""Settings read again while a service runs: what may change in flight is put into force, anything else is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge

from reference_stack.draining import DrainingServer
from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.base import ServiceSettings, read_at_start
from reference_stack.schemas.configuration.layers import stamp_of

log = logging.getLogger(__name__)
_LOOK_S = 1.0


def log_at(level: str) -> None:
    """Let this process log from `level` on; of the HTTP client, a line a request, only who debugs wants to know."""
    logging.getLogger().setLevel(level.upper())
    logging.getLogger("httpx").setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a service's settings are written down: `read` gives them as they are now or raises SettingsError; `file` is
    the one that it reads, None where there is none, and `place` says where in it a key stands ("FILE:LINE: " or "").
    """

    read: Callable[[], ServiceSettings]
    file: Path | None = None
    place: Callable[[str], str] = lambda _key: ""

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when the file does; one that cannot be looked at is another one."""
        return () if self.file is None else (1, *stamp_of(self.file))


class Reloader:
    """Gives `app` the settings of `source` when they change; `app.state.take`, where there is one, puts them to work.

    What is wrong changes nothing: the settings in force stay, and the log, the health page (`settings`) and the
    metric `hxp_settings_current` say so.
    """

    def __init__(self, name: str, settings: ServiceSettings, source: Source, app: Any) -> None:
        self._name = name
        self._settings = settings
        self._source = source
        self._seen = source.stamp()
        self._state = getattr(app, "state", None)
        self._counts = Counter("hxp_settings_reloads", "Reloads of the settings.", ("outcome",), registry=None)
        self.problem = ""
        registry = getattr(self._state, "registry", None)
        if registry is not None:
            registry.register(self._counts)
            current = Gauge("hxp_settings_current", "1 while what is written down is in force.", registry=registry)
            current.set_function(lambda: float(not self.problem))

    async def reload(self) -> None:
        """Read the settings and put them into force, all that changed or nothing."""
        try:
            found = await asyncio.to_thread(self._source.read)
            self._refuse_fixed(found)
        except SettingsError as error:
            log.error("reload refused, the settings in force stay: %s", error)  # noqa: TRY400 - it says all
            self._say(str(error))
            return
        self._say("")
        if found == self._settings:
            return
        changed = [key for key in type(found).model_fields if getattr(found, key) != getattr(self._settings, key)]
        take = getattr(self._state, "take", None)
        if take is not None:
            await take(found)
        log_at(found.log_level)
        self._settings = found
        log.info("reloaded: %s", ", ".join(changed))

    def _refuse_fixed(self, found: ServiceSettings) -> None:
        fixed = read_at_start(self._settings, found)
        if fixed:
            what = f"setting {fixed[0]!r} is read when the service starts"
            where = self._source.place(fixed[0])
            raise SettingsError(
                f"{where}{self._name}: {what}",
                hint="put it back, or stop the service and start it again",
            )

    def _say(self, problem: str) -> None:
        self.problem = problem
        self._counts.labels("refused" if problem else "good").inc()
        if self._state is not None:
            self._state.settings_problem = problem

    async def watch(self, asked: asyncio.Event) -> None:
        """Reload whenever it is `asked` for, and when the file is another one, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await asked.wait()
            before, self._seen = self._seen, self._source.stamp()
            if asked.is_set() or self._seen != before:
                asked.clear()
                await self.reload()


class ReloadingServer(DrainingServer):
    """Serves one application; a change of its file, and SIGHUP, make it read its settings again."""

    def __init__(self, config: Any, reloader: Reloader) -> None:
        super().__init__(config)
        self._reloader = reloader

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        asked = asyncio.Event()
        if not os.isatty(0):  # there it is the end of the terminal, and ends the service
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
        watching = asyncio.create_task(self._reloader.watch(asked))
        try:
            await super().serve(sockets)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
