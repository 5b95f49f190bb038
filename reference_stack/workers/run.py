"""Puts a service with workers together: its listeners, its log, its parent."""

from __future__ import annotations

import contextlib
import logging
import socket
from pathlib import Path

from reference_stack.errors import NotReady, StackError
from reference_stack.workers.control import Control
from reference_stack.workers.lines import Lines, log_to
from reference_stack.workers.parent import Parent
from reference_stack.workers.worker import Service, WorkerSettings

_LAST_LINES_S = 1.0
log = logging.getLogger(__name__)


def run(service: Service, settings: WorkerSettings, sock: socket.socket) -> int:
    """Serve on the listening socket `sock` until told to stop; return the exit code.

    Raises NotReady when a port is taken, and StackError when this process has threads, which a fork would lose.
    """
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if threads > 1:
        raise StackError(f"{service.name}: {threads} threads run already; workers cannot be forked safely")
    lines = Lines(most_held=settings.process.log_lines)
    log_to(lines)
    with contextlib.ExitStack() as stack:
        stack.callback(lines.end, _LAST_LINES_S)
        listeners = {"": sock}
        if settings.metrics.port is not None:
            listeners["metrics"] = stack.enter_context(_listener(service.name, settings))
        parent = Parent(service, settings, listeners)
        if settings.process.control is not None:
            stack.enter_context(Control(settings.process.control, parent))
        return parent.run()


def _listener(name: str, settings: WorkerSettings) -> socket.socket:
    address = (settings.metrics.host, settings.metrics.port or 0)
    try:
        sock = socket.create_server(address, backlog=128)
    except OSError as error:
        hint = f"see who has it: ss -ltnp 'sport = :{address[1]}'; or choose another: --set 'metrics={{port: 0}}'"
        raise NotReady(f"{name}: cannot listen on {address[0]}:{address[1]}: {error.strerror}", hint=hint) from None
    log.info("metrics at http://%s:%d/metrics", *sock.getsockname()[:2])
    return sock
