"""The journal as the gateway has it: it writes while requests are served, and ships beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from reference_stack.errors import StackError
from reference_stack.schemas.api.usage import UsageRepository
from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.journal.book import Book
from reference_stack.services.infrastructure.api_gateway.journal.drain import Drain, drain_left
from reference_stack.services.infrastructure.api_gateway.journal.lane import Lane, claim_left
from reference_stack.services.infrastructure.api_gateway.journal.store import Store
from reference_stack.services.infrastructure.api_gateway.measures import Measures

log = logging.getLogger(__name__)

# So long rows are gathered: a statement of the database costs some thirty times what a row in it does.
_GATHER_S = 0.2
_LONGEST_PAUSE_S = 2.0
_RECOVER_S = 0.2
_ADOPT_S = 1.0
_LAST_TRY_S = 3.0


class DiskJournal:
    """See ports.Journal. `start` before the first request, `run` beside them, `close` after the last."""

    def __init__(
        self,
        settings: JournalSettings,
        repository: UsageRepository,
        measures: Measures,
        *,
        most_open: int,
        owner: str = "",
    ) -> None:
        """`most_open` requests at most are open at once; `owner` tells this database from others."""
        assert settings.directory is not None  # noqa: S101 - the caller has none without
        self._directory = settings.directory.absolute()
        self._store = Store(repository, self._directory, measures)
        self._book = Book(self._directory, settings, most_open=most_open, owner=owner)
        self._drain: Drain | None = None
        self._held = measures.rows_held
        self._strange = ""
        self.waits = settings.wait_synced
        # The three of each request, without a call in between.
        self.accept = self._book.accept
        self.progress = self._book.progress
        self.marker = self._book.marker
        self.final = self._book.final
        self.synced = self._book.synced

    @property
    def full(self) -> bool:
        return self._book.full

    @property
    def problem(self) -> str:
        """Why nothing can be written down, "" while it can."""
        return self._book.problem

    def start(self) -> None:
        """Open the journal if the disk allows; else requests are refused until it does."""
        self._book.recover()

    async def run(self) -> None:
        """Keep the journal open, ship its rows, and adopt what dead processes left; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_open())
            tasks.create_task(self._ship())
            tasks.create_task(self._adopt())

    async def close(self) -> None:
        """Ship what is left, that of the dead too, for a few seconds; what stays is shipped at the next start."""
        unwritten = self._book.close()
        if unwritten:
            log.error("%d requests ended that could not be written down; they will be billed as interrupted", unwritten)
        drain = self._follow()
        if drain is not None:
            done = False
            with contextlib.suppress(TimeoutError, OSError, StackError):
                async with asyncio.timeout(_LAST_TRY_S):
                    done = await self._finish(drain)
            if not done:
                log.warning("usage rows stay in %s; they are stored when a gateway runs there", self._directory)
            drain.close()
        self._book.leave()

    async def _finish(self, drain: Drain) -> bool:
        """Store all that this process wrote, then what died before it and nobody may be left to adopt."""
        done = await drain.finish()
        if done:
            await self._adopt_left()
        return done

    async def _keep_open(self) -> None:
        while True:
            await asyncio.sleep(_RECOVER_S)
            self._book.recover()

    async def _ship(self) -> None:
        pause_s = _GATHER_S
        while True:
            drain = self._follow()
            more = drain is not None and await self._step(drain)
            self._held.set(self._book.ended - (0 if drain is None else drain.done))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S) if drain is not None and drain.behind else _GATHER_S
            await asyncio.sleep(0 if more and drain is not None and drain.hurries else pause_s)

    async def _make_room(self, drain: Drain) -> None:
        """Where the disk is full of this very journal: once all of it is stored, begin anew.

        Requests that ended meanwhile are stored from memory, for their ends find no room.
        """
        if not drain.caught_up:
            return
        owed = self._book.owed
        if owed and not await self._store.add(owed):
            return
        self._book.settled(owed)
        drain.settled(owed)
        if drain.clear():
            self._book.recover()

    async def _adopt(self) -> None:
        while True:
            await self._adopt_left()
            await asyncio.sleep(_ADOPT_S)

    async def _adopt_left(self) -> None:
        """Store what dead processes left, as far as it can be read and the database takes it."""
        try:
            with contextlib.closing(claim_left(self._directory)) as left:
                for lane in left:
                    await self._adopt_lane(lane)
        except OSError as error:
            self._note(error)

    async def _adopt_lane(self, lane: Lane) -> None:
        try:
            await drain_left(lane, self._store)
        except Exception as error:  # noqa: BLE001 - a lane that cannot be read must not end the adoption of others
            self._note(error)

    async def _step(self, drain: Drain) -> bool:
        try:
            more = await drain.step()
            if not more and self._book.problem:
                await self._make_room(drain)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, shipping goes on when it is right again
            self._note(error)
            return False
        return more

    def _follow(self) -> Drain | None:
        """Return what ships this process's own lane, None while there is no lane."""
        folder = self._book.folder
        if self._drain is None and folder is not None:
            self._drain = Drain(folder, self._store, removed=self._book.removed)
        return self._drain

    def _note(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self._strange:
            self._strange = text
            log.error("the journal cannot be read: %s", text)
