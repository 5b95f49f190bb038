"""Asks the services how they are, and remembers what they said last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp
import msgspec

from reference_stack.pace import Pace
from reference_stack.schemas.configuration.monitoring import MonitoringSettings

State = Literal["unknown", "ready", "degraded", "unready", "down"]
_LONGEST_BODY = 64 * 1024
# A second request for a fresh look within this time gets the first one's.
_FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was last known of a service: when it was asked (seconds since 1970), how long the answer took, why not.

    `unready` is a process that answers, so it lives, and says that it cannot do its work; `down` answers nothing.
    """

    name: str
    state: State = "unknown"
    problem: str = ""
    asked_at_s: float | None = None
    took_s: float | None = None

    @property
    def up(self) -> bool:
        return self.state in ("ready", "degraded")


class Watch:
    """Open between `start` and `close`; `run` looks again and again."""

    def __init__(self, settings: MonitoringSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._looking = asyncio.Lock()
        self._looked_at_s = float("-inf")
        self._pace = Pace(settings.interval_s)
        self.findings: Mapping[str, Finding] = {name: Finding(name) for name in settings.services}

    async def start(self) -> None:
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def run(self) -> None:
        """Look every `interval_s` until cancelled."""
        while True:
            await self.look()
            await self._pace.wait()

    def take(self, settings: MonitoringSettings) -> None:
        """From the next look on ask those services, so often and with that deadline."""
        self._settings = settings
        self.findings = {name: self.findings.get(name, Finding(name)) for name in settings.services}
        self._pace.change(settings.interval_s)

    async def look(self) -> None:
        """Ask every service at once; those that ask at the same time share one look."""
        async with self._looking:
            if time.monotonic() - self._looked_at_s < _FRESH_S:
                return
            session = self._session
            assert session is not None, "start() comes first"  # noqa: S101 - a mistake of ours, not of a caller
            urls = self._settings.services.items()
            found = await asyncio.gather(*(self._ask(session, name, str(url)) for name, url in urls))
            self.findings = {finding.name: finding for finding in found}
            self._looked_at_s = time.monotonic()

    async def _ask(self, session: aiohttp.ClientSession, name: str, url: str) -> Finding:
        asked_at_s, began_s = time.time(), time.perf_counter()
        try:
            timeout = aiohttp.ClientTimeout(total=self._settings.deadline_s)
            async with session.get(url, allow_redirects=False, timeout=timeout) as reply:
                body = await reply.content.read(_LONGEST_BODY)
                state, problem = _read(reply.status, body)
        except TimeoutError:
            state, problem = "down", f"no answer within {self._settings.deadline_s:g} s"
        except (aiohttp.ClientError, OSError):
            state, problem = "down", "cannot be reached"
        return Finding(name, state, problem, asked_at_s, time.perf_counter() - began_s)


def _read(status: int, body: bytes) -> tuple[State, str]:
    """Return the state that an answer tells; a body that is not ours (vLLM's is empty) tells nothing more."""
    try:
        said = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.MsgspecError:
        said = {}
    needs = said.get("dependencies")
    out = {str(name): str(why) for name, why in needs.items() if why} if isinstance(needs, dict) else {}
    problem = "; ".join(f"{name}: {why}" for name, why in out.items())
    if status == 200:
        return ("degraded" if out else "ready"), problem
    return "unready", problem or f"answers {status}"
