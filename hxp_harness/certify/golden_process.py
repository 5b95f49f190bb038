"""The golden server as a process of its own: started, stopped, and its truth read back."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.truth import Truth, read_truths
from hxp_harness.errors import NotReady

READY_S = 20.0  # a start takes 0.2 s on an idle machine


@dataclass(frozen=True, slots=True)
class GoldenServer:
    """A running golden server. `base_url` ends in /v1; `log` holds its truth."""

    base_url: str
    port: int
    pid: int
    log: Path
    model: str = "golden"

    @property
    def cpu_s(self) -> float:
        """CPU seconds that it has used so far; 0.0 when it has ended."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]  # utime and stime of proc(5), in ticks
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def truths(self) -> dict[str, Truth]:
        """Return the truth about every request that has ended, by request id."""
        return {truth.request_id: truth for truth in read_truths(self.log)}

    def truth(self, request_id: str, *, wait_s: float = 5.0) -> Truth:
        """Return the truth about one request, waiting up to `wait_s` for its end; raise KeyError without one."""
        deadline_s = time.monotonic() + wait_s
        while True:
            known = self.truths()
            if request_id in known or time.monotonic() > deadline_s:
                return known[request_id]
            time.sleep(0.005)  # polls a file that another process appends to


@contextmanager
def golden(
    folder: Path,
    behaviour: Behaviour | None = None,
    *,
    slots: int = 0,
    model: str = "golden",
    seed: int = 0,
    under: Sequence[str] = (),
    host: str = "127.0.0.1",
) -> Iterator[GoldenServer]:
    """Run a golden server on a free port of `host` of ours while the context lasts; its log is in `folder`.

    `model` is the only one that it knows; ANY_MODEL stands for all.
    `under` is a command that runs it, such as strace with its options; it must pass standard input and output on.
    Raises NotReady when it does not come up.
    """
    log = folder / "golden.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    argv = [*under, sys.executable, "-m", "hxp_harness.certify.golden", "--port", "0", "--log", str(log)]
    argv += ["--host", host, "--slots", str(slots), "--model", model, "--seed", str(seed)]
    argv += ["--behaviour", json.dumps(asdict(behaviour or Behaviour()))]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            base_url, port = _ready(process)
            yield GoldenServer(base_url, port, process.pid, log, model)
        finally:
            _stop(process)


def _ready(process: subprocess.Popen[bytes]) -> tuple[str, int]:
    """Return base URL and port as the server says them."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    readable, _, _ = select.select([process.stdout], [], [], READY_S)
    line = process.stdout.readline() if readable else b""
    if not line:
        raise NotReady("the golden server did not start", hint="python -m hxp_harness.certify.golden --help")
    said = json.loads(line)
    return said["base_url"], said["port"]


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
