"""A load from several hosts as the run sees it: a master process, workers that join it, one session after another."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from hxp_harness.errors import InvalidRun, NotReady
from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.stored_load import StoredLoad

JOIN_S = 300.0
_LOOK_S = 0.05
_STOP_S = 5.0


class Crew:
    """Runs a master at `listen` (HOST:PORT) for `hosts` workers; a context manager. `log` is the master's."""

    def __init__(self, listen: str, hosts: int, log: Path, *, web_port: int = 0) -> None:
        self.host = listen.rpartition(":")[0]
        self._listen, self._hosts, self._log, self._web_port = listen, hosts, log, web_port
        self._process: subprocess.Popen[bytes] | None = None
        self._received = b""
        self.members: list[dict[str, Any]] = []
        self.lost: list[str] = []

    def __enter__(self) -> Self:
        """Start the master."""
        words = ["--listen", self._listen, "--hosts", str(self._hosts), "--web-port", str(self._web_port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hxp_harness.load.locust_worker", *words],
                stdin=subprocess.PIPE,  # its end tells the master that we are gone
                stdout=subprocess.PIPE,
                stderr=log,
                process_group=0,  # Ctrl-C in the terminal reaches us alone, and we stop the load
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Send the workers home."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def gather(self, say: Callable[[str], None], *, wait_s: float = JOIN_S) -> None:
        """Wait until every worker has joined, telling `say` of each.

        Raises NotReady when the master cannot listen, or not all have joined in time.
        """
        until_s = time.monotonic() + wait_s
        say(f"waiting for {self._hosts} workers: hxp worker --master {self._listen}")
        while len(self.members) < self._hosts:
            for event in self.events(_LOOK_S):
                if "joined" in event:
                    self.members.append(event["joined"])
                    one = event["joined"]
                    say(f"worker {one['name']} joined, {one['clients']} clients on {one['cores']} cores")
                if "refused" in event:
                    say(f"refused: {event['refused']}")
            if time.monotonic() > until_s:
                raise NotReady(
                    f"{len(self.members)} of {self._hosts} workers joined within {wait_s:g} s",
                    hint=f"on each other host: hxp worker --master {self._listen}",
                )

    def events(self, wait_s: float) -> list[dict[str, Any]]:
        """Return what the master said since the last call; wait up to `wait_s` seconds for the first of it.

        Raises NotReady when the master is gone.
        """
        process = self._process
        assert process is not None  # noqa: S101 - the context was entered
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        if not select.select([process.stdout], [], [], wait_s)[0]:
            return []
        part = os.read(process.stdout.fileno(), 65536)
        if not part:
            tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
            raise NotReady(f"the load's master at {self._listen} has ended: {tail}", hint=f"its log is {self._log}")
        *lines, self._received = (self._received + part).split(b"\n")
        return [json.loads(line) for line in lines]

    def order(self, what: dict[str, object]) -> None:
        """Tell the master what to do."""
        assert self._process is not None  # noqa: S101 - the context was entered
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            os.write(self._process.stdin.fileno(), json.dumps(what).encode() + b"\n")
        except BrokenPipeError:
            raise InvalidRun("the load's master has ended", hint=f"its log is {self._log}") from None

    def open_session(self, folder: Path, plan: LoadPlan, schedule: Sequence[Due], *, api_key: str = "") -> CrewSession:
        """Return a load that the workers send; `api_key` stays here, each worker has its own from its environment."""
        del api_key
        return CrewSession(self, folder, plan, schedule)


class CrewSession(StoredLoad):
    """One load that a crew sends; used as a LoadSession is."""

    def __init__(self, crew: Crew, folder: Path, plan: LoadPlan, schedule: Sequence[Due]) -> None:
        super().__init__(folder, plan, schedule)
        self._crew = crew
        self._ended = False
        self._stopping = False

    def _begin(self) -> None:
        self._crew.order({"load": str(self._folder.path.resolve())})

    def __exit__(self, *_: object) -> None:
        until_s = time.monotonic() + _STOP_S
        with contextlib.suppress(InvalidRun):  # the master has ended
            self.stop()
        while not self._ended and time.monotonic() < until_s:
            self._listen(_LOOK_S)

    def stop(self) -> None:
        """Ask for an early stop: nothing more is sent, and open requests become UNFINISHED."""
        if not self._stopping and not self._ended:
            self._stopping = True
            self._crew.order({"stop": True})

    def _look(self, wait_s: float) -> bool:
        """A worker that is lost ends the load; the summary tells."""
        why = self._listen(wait_s)
        if why:
            raise InvalidRun(f"the load failed: {why}")
        return self._ended

    def _listen(self, wait_s: float) -> str:
        """Take what the master says; return why the load failed, if it did."""
        try:
            events = [] if self._ended else self._crew.events(wait_s)
        except NotReady as error:
            self._ended = True
            return str(error)
        for event in events:
            if "lost" in event:
                self._crew.lost.append(f"worker {event['lost']}: {event['why']}")
            if "ended" in event:
                self._ended = True
                return str(event["why"])
        return ""
