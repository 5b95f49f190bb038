"""A load session of this host with Locust around the hot loops, for the sake of its web page."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hxp_harness.errors import InvalidRun
from hxp_harness.load.folder import KEY_VARIABLE
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.stop_signals import held_back
from hxp_harness.load.stored_load import StoredLoad

_STOP_S = 3.0


class PageSession(StoredLoad):
    """Runs a schedule as LoadSession does, and shows it on `web_port` of this machine while it lasts."""

    def __init__(
        self,
        folder: Path,
        plan: LoadPlan,
        schedule: Sequence[Due],
        *,
        web_port: int,
        api_key: str = "",
        clients: int = 1,
    ) -> None:
        super().__init__(folder, plan, schedule)
        self._api_key, self._clients, self._web_port = api_key, clients, web_port
        self._process: subprocess.Popen[bytes] | None = None

    def _begin(self) -> None:
        words = [str(self._folder.path), "--clients", str(self._clients), "--web-port", str(self._web_port)]
        with self._folder.log.open("wb") as log, held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hxp_harness.load.locust_worker", *words],
                stdin=subprocess.PIPE,  # its end tells the child that we are gone
                stdout=log,
                stderr=log,
                env={**os.environ, KEY_VARIABLE: self._api_key},
                process_group=0,  # Ctrl-C in the terminal reaches us alone, and we stop the child
            )

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        self.stop()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdin.close()
        process.wait()

    def _look(self, wait_s: float) -> bool:
        if self._process is None:
            raise InvalidRun("the load was never started")
        time.sleep(wait_s)  # another process appends
        return self._process.poll() is not None

    def _sum_up(self) -> LoadSummary:
        status = None if self._process is None else self._process.returncode
        if status == 0 and self._folder.summary.exists():
            return super()._sum_up()
        raise self._failed(status or 0)

    def stop(self) -> None:
        """Ask for an early stop: nothing more is sent, and open requests become UNFINISHED."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
