"""One schedule dealt out to several clients: every request to exactly one of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hxp_harness.load.plan import Due


def deal(schedule: Sequence[Due], clients: Sequence[int], slots: int = 0) -> list[list[Due]]:
    """Return the part of each receiver, of which the i-th has `clients[i]` clients (0: it gets nothing).

    Requests go round the clients in the order of the schedule, so that each client has its share of every stretch of
    time. One that follows an answer goes where that answer arrives. In a closed loop of `slots` a request goes round
    the slots instead: a client that has more of them needs more requests.
    """
    round_of = [receiver for receiver, count in enumerate(clients) for _ in range(count)]
    if slots:
        shares = [slots_of(slots, len(round_of), client) for client in range(len(round_of))]
        round_of = [receiver for receiver, share in zip(round_of, shares, strict=True) for _ in range(share)]
    parts: list[list[Due]] = [[] for _ in clients]
    followed = {due.after for due in schedule if due.after >= 0}
    owners: dict[int, int] = {}
    roots = 0
    for due in schedule:
        if due.after >= 0:
            owner = owners.pop(due.after)
        else:
            owner = round_of[roots % len(round_of)]
            roots += 1
        if due.index in followed:
            owners[due.index] = owner
        parts[owner].append(due)
    return parts


def slots_for(slots: int, clients: Sequence[int]) -> list[int]:
    """Return how many of the `slots` of a closed loop each receiver has, of which the i-th has `clients[i]` clients."""
    shares = iter([slots_of(slots, sum(clients), client) for client in range(sum(clients))])
    return [sum(next(shares) for _ in range(count)) for count in clients]


def slots_of(slots: int, clients: int, client: int) -> int:
    """Return how many of the `slots` of a closed loop the `client`-th of so many clients has."""
    return slots * (client + 1) // clients - slots * client // clients
