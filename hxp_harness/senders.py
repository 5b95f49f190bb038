"""Who sends the load of a run: client processes of this machine, or workers on other hosts that join it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from hxp_harness.certify import SCALE
from hxp_harness.contract import Contract
from hxp_harness.errors import UsageError
from hxp_harness.load.clients import enough_clients
from hxp_harness.load.crew import Crew
from hxp_harness.load.page_session import PageSession
from hxp_harness.load.schedule import peak_rps
from hxp_harness.load.session import LoadSession, OpenSession
from hxp_harness.request import PerfRequest

MOST_CLIENTS = 256
MOST_PORTS = 65536
MASTER_LOG = "master.log"
HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Senders:
    """`open_session` starts a load; `facts` go into the manifest, `said` is for people.

    `host` is the address of this machine at which all of them reach it: there the golden server listens.
    """

    open_session: OpenSession
    facts: dict[str, object]
    said: str
    host: str = HERE


SendersFor = Callable[[Contract], Senders]


def local_senders(contract: Contract, asked: int | None = None, web_port: int = 0) -> Senders:
    """Return the `asked` client processes of this machine, by default as many as the certificate's load needs.

    With a `web_port` Locust's page shows what they do. Raises UsageError when `asked` is no number of processes.
    """
    if asked is not None and not 1 <= asked <= MOST_CLIENTS:
        raise UsageError(f"--clients {asked}: between 1 and {MOST_CLIENTS} can be started", hint="--clients 2")
    cores = len(os.sched_getaffinity(0))
    tokens = contract.output_tokens if contract.stream else 1
    clients = asked or enough_clients(peak_rps(contract) * SCALE, tokens, cores)
    why = "as --clients says" if asked else f"chosen for its rate and {cores} cores"
    many = "1 client process" if clients == 1 else f"{clients} client processes"
    facts: dict[str, object] = {"clients": clients, "cores": cores, "chosen": why}
    said = f"the load comes from {many}, {why}"
    if web_port:
        shown = f"{said}; while it lasts Locust's page is at http://{HERE}:{web_port}"
        return Senders(partial(PageSession, clients=clients, web_port=web_port), facts, shown)
    return Senders(partial(LoadSession, clients=clients), facts, said)


def refuse_senders(request: PerfRequest, *, certificate_only: bool = False) -> None:
    """Raise UsageError where the options on who sends the load contradict each other, before anything starts.

    A certificate alone needs no target that the workers reach: they are given the golden server, at --listen.
    """
    if request.hosts is None:
        if request.listen:
            raise UsageError("--listen says something of --hosts, which is missing", hint="--hosts 2")
        _refuse_taken("--web-port", HERE, request.web_port)
        return
    if not 1 <= request.hosts <= MOST_CLIENTS:
        raise UsageError(f"--hosts {request.hosts}: between 1 and {MOST_CLIENTS} can join", hint="--hosts 2")
    if request.clients is not None:
        raise UsageError(
            "--clients and --hosts exclude each other", hint="each worker has its own: hxp worker --clients N"
        )
    if request.listen is None:
        raise UsageError("--hosts needs --listen HOST:PORT, where the workers join", hint="--listen 10.0.0.1:5557")
    host, port = address_of(request.listen)
    if request.target_url is None and not certificate_only and not _is_loopback(host):
        raise UsageError(
            f"--listen {request.listen}: a stack that is started here listens on 127.0.0.1, which the workers of other "
            "hosts do not reach",
            hint=f"workers on this machine: --listen {HERE}:{port}; for other hosts serve the model at an address of "
            "this machine and name that with --target",
        )
    _refuse_taken("--listen", host, port)
    _refuse_taken("--web-port", host, request.web_port)


def _refuse_taken(option: str, host: str, port: int) -> None:
    """Raise UsageError where nobody can listen at this address now; port 0 of --web-port is none."""
    if not 0 <= port < MOST_PORTS:
        raise UsageError(f"{option} {port}: is no port", hint=f"{option} 8089")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port:
            socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError as error:
        raise UsageError(
            f"{option}: this machine cannot listen at {host}:{port}: {error.strerror}",
            hint="name an address of this machine and a free port",
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(text: str, option: str = "--listen") -> tuple[str, int]:
    """Return host and port of HOST:PORT; raise UsageError for anything else, and for an address that means all."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < MOST_PORTS:
        raise UsageError(f"{option} {text}: is not HOST:PORT", hint=f"for example {option} 10.0.0.1:5557")
    try:
        everywhere = ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        everywhere = False  # a name
    if everywhere:
        raise UsageError(
            f"{option} {text}: the workers need one address to come to",
            hint="name the address of this machine that the other hosts reach",
        )
    return host, int(port)


@contextmanager
def recruited(request: PerfRequest, folder: Path, say: Callable[[str], None]) -> Iterator[SendersFor]:
    """Have the request's senders ready while the context lasts, and yield what tells them for each contract.

    With --hosts, wait until the workers have joined, which then send every load; raises NotReady when they do not.
    Without, each contract gets as many client processes of this machine as it needs.
    """
    if request.hosts is None or request.listen is None:
        yield lambda contract: local_senders(contract, request.clients, request.web_port)
        return
    with Crew(request.listen, request.hosts, folder / MASTER_LOG, web_port=request.web_port) as crew:
        crew.gather(say)
        clients = sum(member["clients"] for member in crew.members)
        facts: dict[str, object] = {"hosts": crew.members, "clients": clients, "chosen": "as the workers say"}
        said = f"the load comes from {request.hosts} workers with {clients} client processes"
        here = Senders(crew.open_session, facts, said, crew.host)
        yield lambda _contract: here
