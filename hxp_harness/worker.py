"""`hxp worker`: this host sends its share of a load that another one asks for."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from hxp_harness.errors import UsageError
from hxp_harness.load.folder import KEY_VARIABLE
from hxp_harness.senders import MOST_CLIENTS, address_of


def work(master: str, clients: int | None, name: str, api_key: str) -> NoReturn:
    """Become a worker of the master at HOST:PORT, with `clients` client processes (default: the cores, less one).

    Raises UsageError for a wrong address or number. The process is replaced, so that signals reach the worker itself.
    """
    address_of(master, "--master")
    if clients is not None and not 1 <= clients <= MOST_CLIENTS:
        raise UsageError(f"--clients {clients}: between 1 and {MOST_CLIENTS} can be started", hint="--clients 2")
    many = clients or max(1, len(os.sched_getaffinity(0)) - 1)
    words = ["-m", "hxp_harness.load.locust_worker", "--join", master, "--clients", str(many), "--name", name]
    environ = {**os.environ, KEY_VARIABLE: api_key}
    os.execve(sys.executable, [sys.executable, *words], environ)  # noqa: S606 - our own program, no shell
