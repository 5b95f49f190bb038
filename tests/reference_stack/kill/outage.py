"""PostgreSQL behind a proxy and on a small disk of its own, so that it can be away, hung, slow or full at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hxp_harness.faults.proxy import Proxy
from reference_stack.orchestration import ports
from reference_stack.orchestration.process import bound
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.embedded import EmbeddedPostgres
from tests.reference_stack.kill.processes import CACHE

DISK = "160m"
DELAY_S = 0.5
# With a process namespace of its own nothing outlives it, and it can start the server again after a crash.
_ROOT = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--")
_NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")
_MOUNT = 'mount -t tmpfs -o size="$1",mode=0700 tmpfs "$2" && cp -a -- "$3"/. "$2" && shift 3'
_MOUNT += ' && until "$@"; do sleep 0.1; done'
_BALLAST = "ballast"
_BLOCK = bytes(1 << 16)


def disk_can_be_small() -> bool:
    """Whether this kernel gives a mount namespace with a tmpfs in it."""
    if shutil.which("unshare") is None:
        return False
    probe = [*_ROOT, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


@dataclass
class SmallPostgres:
    """A PostgreSQL whose data lie on a tmpfs of its own, and a proxy before it."""

    settings: DatabaseSettings  # of the proxy
    proxy: Proxy
    disk: Path | None  # as this process sees it; None where the disk cannot be small

    @contextmanager
    def away(self) -> Iterator[None]:
        """Connections are reset and new ones refused."""
        with self.proxy.toxic("down"):
            yield

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Connections stand, and nothing comes through them in either direction."""
        with self.proxy.toxic("timeout"), self.proxy.toxic("timeout", stream="upstream"):
            yield

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Every answer comes half a second later."""
        with self.proxy.toxic("latency", delay_s=DELAY_S):
            yield

    @contextmanager
    def full(self) -> Iterator[None]:
        """No byte is free on its disk."""
        assert self.disk is not None
        ballast = self.disk / _BALLAST
        try:
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(_BLOCK)
            yield
        finally:
            ballast.unlink()

    @property
    def faults(self) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
        return {"away": self.away, "hung": self.hung, "slow": self.slow, "full": self.full}


@contextmanager
def small_postgres(folder: Path) -> Iterator[SmallPostgres]:
    """Run one while the context lasts, on a tmpfs where the kernel gives one."""
    with contextlib.closing(ports.reserve()) as reservation:
        inner = DatabaseSettings(port=reservation.port)
        program = EmbeddedPostgres(inner, folder, CACHE).prepare()
        argv = list(program.argv)
        small = disk_can_be_small()
        if small:
            data = argv[argv.index("-D") + 1]
            prepared = Path(data).rename(f"{data}-prepared")
            Path(data).mkdir()
            own = argv if argv[0] == "unshare" else [*_NOBODY, *argv]
            argv = [*_ROOT, "sh", "-c", _MOUNT, "sh", DISK, data, str(prepared), *own]
        with (folder / "postgres.log").open("ab") as log:
            user = None if small else program.user_id
            server = subprocess.Popen(bound(argv, os.getpid()), stdout=log, stderr=log, user=user)
        with server, Proxy(("127.0.0.1", reservation.port)) as proxy:
            try:
                data = argv[argv.index("-D") + 1]
                disk = Path(f"/proc/{server.pid}/root") / data.lstrip("/") if small else None
                _await_start(server, disk or Path(data))
                settings = inner.model_copy(update={"backend": "external", "port": proxy.port})
                yield SmallPostgres(settings, proxy, disk)
            finally:
                server.send_signal(signal.SIGKILL if small else signal.SIGINT)
                server.wait(30)


def _await_start(server: subprocess.Popen[bytes], data: Path) -> None:
    ends = time.monotonic() + 60
    while not (data / "postmaster.pid").exists():
        assert server.poll() is None, "PostgreSQL ended"
        assert time.monotonic() < ends, "PostgreSQL did not start"
        time.sleep(0.02)  # polls a condition, with a deadline
