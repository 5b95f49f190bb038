"""Who sends the load of a run: client processes of this machine, or workers on other hosts that join it."""

from __future__ import annotations

import os
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
from hxp_harness.load.schedule import peak_rps
from hxp_harness.load.session import LoadSession, OpenSession
from hxp_harness.request import PerfRequest

MOST_CLIENTS = 256
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


def local_senders(contract: Contract, asked: int | None = None) -> Senders:
    """Return the `asked` client processes of this machine, by default as many as the certificate's load needs.

    Raises UsageError when `asked` is no number of processes.
    """
    if asked is not None and not 1 <= asked <= MOST_CLIENTS:
        raise UsageError(f"--clients {asked}: between 1 and {MOST_CLIENTS} can be started", hint="--clients 2")
    cores = len(os.sched_getaffinity(0))
    tokens = contract.output_tokens if contract.stream else 1
    clients = asked or enough_clients(peak_rps(contract) * SCALE, tokens, cores)
    why = "as --clients says" if asked else f"chosen for its rate and {cores} cores"
    many = "1 client process" if clients == 1 else f"{clients} client processes"
    return Senders(
        partial(LoadSession, clients=clients),
        {"clients": clients, "cores": cores, "chosen": why},
        f"the load comes from {many}, {why}",
    )


def refuse_senders(request: PerfRequest) -> None:
    """Raise UsageError where the options on who sends the load contradict each other, before anything starts."""
    if request.hosts is None:
        for name, given in (("--listen", request.listen), ("--web-port", request.web_port)):
            if given:
                raise UsageError(f"{name} says something of --hosts, which is missing", hint="--hosts 2")
        return
    if not 1 <= request.hosts <= MOST_CLIENTS:
        raise UsageError(f"--hosts {request.hosts}: between 1 and {MOST_CLIENTS} can join", hint="--hosts 2")
    if request.clients is not None:
        raise UsageError(
            "--clients and --hosts exclude each other", hint="each worker has its own: hxp worker --clients N"
        )
    if request.target_url is None:
        raise UsageError(
            "--hosts: a stack that is started here listens on 127.0.0.1, which other hosts do not reach",
            hint="serve it at an address of this machine and name that with --target",
        )
    if request.listen is None:
        raise UsageError("--hosts needs --listen HOST:PORT, where the workers join", hint="--listen 10.0.0.1:5557")
    address_of(request.listen)


def address_of(text: str, option: str = "--listen") -> tuple[str, int]:
    """Return host and port of HOST:PORT; raise UsageError for anything else, and for an address that means all."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
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
def senders(request: PerfRequest, contract: Contract, folder: Path, say: Callable[[str], None]) -> Iterator[Senders]:
    """Have the request's senders ready while the context lasts; with --hosts, wait until their workers have joined.

    Raises NotReady when they do not.
    """
    if request.hosts is None or request.listen is None:
        here = local_senders(contract, request.clients)
        say(here.said)
        yield here
        return
    with Crew(request.listen, request.hosts, folder / MASTER_LOG, web_port=request.web_port) as crew:
        crew.gather(say)
        clients = sum(member["clients"] for member in crew.members)
        said = f"the load comes from {request.hosts} workers with {clients} client processes"
        say(said)
        facts = {"hosts": crew.members, "clients": clients, "chosen": "as the workers say"}
        yield Senders(crew.open_session, facts, said, crew.host)
