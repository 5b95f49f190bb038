"""Ports of 127.0.0.1: reserved without races, opened for a child, and who has one that is taken."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass

from reference_stack.errors import NotReady

HOST = "127.0.0.1"
_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Reservation:
    """A port that is ours: bound and never listening, so that only who sets SO_REUSEADDR, as every server that we
    start does, can listen on it, and nobody is handed it as a free one, not even while its server is down.
    """

    port: int
    holder: socket.socket

    def close(self) -> None:
        self.holder.close()


def reserve(port: int = 0, *, owner: str = "") -> Reservation:
    """Reserve `port`, or with 0 a free one, for `owner` (a service's name, for the message).

    Raises NotReady that says who has the port.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A wanted port may be in TIME_WAIT from the stack before us: that is no obstacle to a server. A free one must be
    # wholly free, so there the option comes after the bind.
    if port:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((HOST, port))
        if port:
            _check_nobody_listens(port)
    except OSError as error:
        holder.close()
        raise taken(port, owner, error) from None
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return Reservation(holder.getsockname()[1], holder)


def _check_nobody_listens(port: int) -> None:
    with listen(port):
        pass


def listen(port: int) -> socket.socket:
    """Return a listening socket on `port`; raises OSError when somebody else listens there."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def taken(port: int, owner: str, error: OSError) -> NotReady:
    """Return the error that says that `port` cannot be had, who has it and what to do."""
    what = f"{owner}: port {port}" if owner else f"port {port}"
    if error.errno != errno.EADDRINUSE:
        return NotReady(f"{what} cannot be opened: {error.strerror}", hint="hxp-stack up --ports free")
    return NotReady(f"{what} is taken{who_has(port)}", hint="stop it, or take free ports: hxp-stack up --ports free")


def who_has(port: int) -> str:
    """Return " by NAME (pid N)" for who listens on `port`, or "" where that cannot be seen."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            here = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if here and connection.pid:
                name = psutil.Process(connection.pid).name()
                return f" by {name} (pid {connection.pid})"
    return ""
