"""Puts what was written on the disk, for everybody at once, in a thread: fdatasync takes milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Syncer:
    """Syncs within `age_s` of a write, and at once for those who wait.

    `also` is called with each sync (the marks); `failed` is told, in the thread, of a disk that refuses. Before a sync
    a loss of power, not of the process, may cost what was written since the last one.
    """

    def __init__(self, age_s: float, *, also: Callable[[], None], failed: Callable[[OSError], None]) -> None:
        self._age_s = age_s
        self._also = also
        self._failed = failed
        self._lock = threading.Lock()
        self._dirty = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._descriptor = -1
        self._retired: list[int] = []
        self._waiters: list[_Waiter] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def wrote(self) -> None:
        """Say that something was written."""
        if not self._dirty:
            self._dirty = True
            self._wake.set()

    def follow(self, descriptor: int) -> None:
        """Sync this one from now on."""
        with self._lock:
            self._descriptor = descriptor
        self.wrote()

    def retire(self, descriptor: int) -> None:
        """Sync this one once more, then close it."""
        with self._lock:
            self._retired.append(descriptor)
            if self._descriptor == descriptor:
                self._descriptor = -1
        self.wrote()

    async def synced(self) -> None:
        """Return when all that was written before is on the disk. Raises OSError when it cannot be."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        with self._lock:
            self._waiters.append((loop, done))
        self._hurry.set()
        self.wrote()
        self._wake.set()  # `_dirty` may be true of a write whose sync has begun
        await done

    def close(self) -> None:
        """Sync and close what was retired, and end the thread."""
        self._ended = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait()
            self._hurry.wait(self._age_s)
            self._sync()
        self._sync()

    def _sync(self) -> None:
        self._wake.clear()
        self._hurry.clear()
        self._dirty = False  # before the sync: what is written from here on may miss it
        with self._lock:
            current, retired, waiters = self._descriptor, self._retired, self._waiters
            self._retired, self._waiters = [], []
        problem = None
        try:
            for descriptor in (*retired, *([current] if current >= 0 else [])):
                os.fdatasync(descriptor)
            self._also()
        except OSError as error:
            problem = error
            self._failed(error)
        for descriptor in retired:
            os.close(descriptor)
        for loop, done in waiters:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(_tell, done, problem)


def _tell(done: asyncio.Future[None], problem: OSError | None) -> None:
    if done.done():
        return
    if problem is None:
        done.set_result(None)
    else:
        done.set_exception(problem)
