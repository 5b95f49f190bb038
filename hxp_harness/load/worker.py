"""A worker's part in a load from several hosts: prepare what the master hands over, send it, and bring traces back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.hot_loops import HotLoops

Message = Mapping[str, Any]
PIECE_BYTES = 512 * 1024
MASTER_LOST_S = 5.0  # a master that nothing was heard of for so long is gone


class Worker:
    """`send` reaches the master, `now_ns` is the monotonic clock; what belongs to a load lies below `folder`.

    `ended` is None while the worker has a master, then why it has none, empty when the master was done with it.
    """

    def __init__(self, send: Callable[[Message], None], now_ns: Callable[[], int], folder: Path, clients: int) -> None:
        self._send, self._now_ns, self._clients = send, now_ns, clients
        self._folder = LoadFolder(folder / "load")
        self._hot_loops: HotLoops | None = None
        self._waiting = False  # for the hot loops to be ready
        self._brought = 0  # bytes of the traces that the master has, or is being sent
        self._under_way = False  # a piece of traces that the master has not taken yet
        self._busy = False
        self._heard_ns = now_ns()
        self.name = ""
        self.ended: str | None = None
        self.refused = False

    @property
    def traces(self) -> Path:
        """Where the hot loops write."""
        return self._folder.traces

    def hear(self, message: Message) -> None:
        """Take a message of the master."""
        self._heard_ns = self._now_ns()
        kind = message["kind"]
        if kind == "ping":
            self._send({"kind": "pong", "number": message["number"], "ns": self._now_ns()})
        elif kind == "welcome":
            self.name = str(message["name"])
        elif kind == "refused":
            self.refused, self.ended = True, str(message["why"])
        elif kind == "load":
            self._begin(message["plan"])
        elif kind == "schedule":
            self._take(message["lines"])
        elif kind == "go" and self._hot_loops is not None:
            self._hot_loops.go(int(message["t0_ns"]))
        elif kind == "took":
            self._under_way = False
        elif kind == "stop":
            self._stop()
        elif kind == "over":
            self.close()
            self.ended = ""

    def tick(self) -> None:
        """Look around; call it every few hundredths of a second."""
        silent_s = (self._now_ns() - self._heard_ns) / 1e9
        if self.name and silent_s > MASTER_LOST_S:
            self.close()
            self.ended = f"nothing heard of the master for {silent_s:.1f} s"
        if self._hot_loops is None:
            return
        if self._waiting and self._hot_loops.ready:
            self._waiting = False
            if self._hot_loops.status() is None:
                self._send({"kind": "ready"})
        status = self._hot_loops.status()
        if not self._under_way and not self._bring() and status is not None:
            self._done(self._hot_loops, status)

    def leave(self, why: str) -> None:
        """Tell the master that this worker goes, and stop."""
        self.close()
        self.ended = why
        self._send({"kind": "leave", "why": why})

    def close(self) -> None:
        """Stop the hot loops at once; whoever is gone can take no traces."""
        hot_loops, self._hot_loops = self._hot_loops, None  # killing waits, and `tick` may be called meanwhile
        self._busy = False
        if hot_loops is not None:
            hot_loops.kill()

    def _begin(self, plan: bytes) -> None:
        shutil.rmtree(self._folder.path, ignore_errors=True)
        self._folder.path.mkdir(parents=True)
        self._folder.plan.write_bytes(plan)
        self._brought, self._under_way, self._busy = 0, False, True

    def _take(self, lines: bytes) -> None:
        """Keep a piece of the schedule; the empty one is the last."""
        if not self._busy:
            return
        with self._folder.schedule.open("ab") as file:
            file.write(lines)
        if lines:
            self._send({"kind": "took"})
        else:
            self._hot_loops = HotLoops(self._folder.path, self._clients)
            self._waiting = True

    def _stop(self) -> None:
        if self._hot_loops is not None:
            self._hot_loops.stop()
        elif self._busy:  # there was nothing to stop yet
            self._busy = False
            self._send({"kind": "done", "parts": [], "error": ""})

    def _bring(self) -> bool:
        """Send the next whole lines of traces, if there are any; the master says when it has taken them."""
        try:
            with self._folder.traces.open("rb") as file:
                file.seek(self._brought)
                lines = file.read(PIECE_BYTES)
        except FileNotFoundError:
            return False
        lines = lines[: lines.rfind(b"\n") + 1]
        if lines:
            self._brought += len(lines)
            self._under_way = True
            self._send({"kind": "traces", "lines": lines})
        return bool(lines)

    def _done(self, hot_loops: HotLoops, status: int) -> None:
        self._hot_loops, self._busy = None, False
        parts, error = [], ""
        if status == 0:
            parts = [msgspec.json.encode(part) for part in hot_loops.summaries()]
        else:
            error = self._folder.read_error() or f"a client ended with status {status}"
        self._send({"kind": "done", "parts": parts, "error": error})
