"""Who sends the load of a run: client processes of this machine, as many as its rate needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from hxp_harness.certify import SCALE
from hxp_harness.contract import Contract
from hxp_harness.errors import UsageError
from hxp_harness.load.clients import enough_clients
from hxp_harness.load.schedule import peak_rps
from hxp_harness.load.session import LoadSession, OpenSession

MOST_CLIENTS = 256


@dataclass(frozen=True, slots=True)
class Senders:
    """`open_session` starts a load; `facts` go into the manifest, `said` is for people."""

    open_session: OpenSession
    facts: dict[str, object]
    said: str


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
