"""Mutants of a stack's books: a gateway before a scripted server, its ledgers, and one row of them changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hxp_harness.faults.backend import Backend as Scripted
from hxp_harness.faults.ledger import BackendRow, Billed, ClientRow, Ended, UsageRow, breaches
from tests.mutants.mutant import Mutant, Workshop
from tests.reference_stack.infrastructure.conftest import Backend, eventually, gateways, key_row
from tests.reference_stack.infrastructure.test_gateway_ledgers import ROUTING, Site, settled
from tests.reference_stack.kill.processes import KEY

REQUESTS = 12


@dataclass(frozen=True, slots=True)
class Books:
    """What three parties wrote down of the same requests; the first of them was broken off by the server."""

    client: list[ClientRow]
    backend: list[BackendRow]
    usage: list[UsageRow]
    key: bytes

    def said(self) -> str:
        """Return the breaches, each with its invariant."""
        found = breaches(self.client, self.backend, self.usage, key=self.key)
        return "; ".join(f"{breach.invariant}: {breach.what}" for breach in found)


Forge = Callable[[Books], Books]


def _books(workshop: Workshop) -> Books:
    """Ask a real gateway for answers, whole and broken; once for all mutants."""
    if "books" not in workshop.kept:
        workshop.kept["books"] = _asked(workshop)
    found: Books = workshop.kept["books"]
    return found


def _asked(workshop: Workshop) -> Books:
    folder = workshop.folder / "books"
    folder.mkdir()
    with Scripted() as server, Backend() as unused, gateways(unused, folder) as make:
        upstreams = {"scripted": {"base_url": server.base_url, "cache_salt": False}}
        gateway = make(upstreams=upstreams, key_rows=[key_row("k", KEY)], routing=ROUTING, timeout_s=10)
        site = Site(gateway, server, [], set())
        server.behave("closed_mid_stream")
        site.ask(1, clients=1)
        site.heals()
        site.ask(REQUESTS, clients=4)
        eventually(lambda: settled(site))
        return Books(site.client, server.ledger(), site.usage(), server.key)


def _mutant(name: str, breaks: str, how: str, says: str, forge: Forge) -> Mutant:
    def trial(workshop: Workshop, broken: bool) -> str:
        books = _books(workshop)
        return (forge(books) if broken else books).said()

    return Mutant(name, breaks, "three ledgers (breaches)", how, trial, f"{breaks}: {says}")


def _whole(books: Books) -> ClientRow:
    """Return a request that came to its end."""
    return next(row for row in books.client if row.ended is Ended.OK and row.received_tokens > 1)


def _broken(books: Books) -> ClientRow:
    return next(row for row in books.client if row.ended is Ended.FAILED and row.accepted)


def _billed(books: Books, of: ClientRow, more: int = 0, state: Billed | None = None) -> Books:
    """Change the usage row of one request."""
    usage = [
        row
        if row.request_id != of.request_id
        else replace(row, billed_tokens=row.billed_tokens + more, state=state or row.state)
        for row in books.usage
    ]
    return replace(books, usage=usage)


def _lost(books: Books) -> Books:
    name = _whole(books).request_id
    return replace(books, usage=[row for row in books.usage if row.request_id != name])


def _twice(books: Books) -> Books:
    name = _whole(books).request_id
    return replace(books, usage=[*books.usage, *(row for row in books.usage if row.request_id == name)])


def _proofs(books: Books) -> Books:
    """Give each of two callers the answer of the other."""
    one, other = [number for number, row in enumerate(books.client) if row.proof][-2:]
    client = list(books.client)
    client[one] = replace(client[one], proof=books.client[other].proof)
    client[other] = replace(client[other], proof=books.client[one].proof)
    return replace(books, client=client)


def _retried(books: Books) -> Books:
    """Let the server have begun the broken answer once before, and the gateway have billed only the first."""
    name = _whole(books).request_id
    first = next(row for row in books.backend if row.request_id == name)
    return replace(books, backend=[replace(first, complete=False), *books.backend])


def _refused(books: Books) -> Books:
    """Bill a request that was refused."""
    row = replace(_whole(books), request_id="refused", accepted=False, ended=Ended.FAILED, received_tokens=0, proof="")
    return replace(books, client=[*books.client, row], usage=[*books.usage, UsageRow("refused", 0, Billed.INTERRUPTED)])


BOOKS = (
    _mutant("lost usage row", "I1", "takes a row out of the usage log", "lost", _lost),
    _mutant("duplicate usage row", "I1", "writes a row twice", "duplicate: 2 rows", _twice),
    _mutant(
        "usage row from nowhere", "I1", "adds a row that nobody asked for", "phantom: the client never asked",
        lambda books: replace(books, usage=[*books.usage, UsageRow("nobody", 5, Billed.COMPLETE)]),
    ),
    _mutant("refused request billed", "I1", "adds a row for a refusal", "phantom: it was refused", _refused),
    _mutant(
        "a token too many billed", "I2", "bills a whole answer for a token more", "received",
        lambda books: _billed(books, _whole(books), 1),
    ),
    _mutant(
        "a token too few billed", "I2", "bills a whole answer for a token less", "received",
        lambda books: _billed(books, _whole(books), -1),
    ),
    _mutant(
        "broken stream billed as whole", "I2", "says that the broken answer is complete", "broken for the client",
        lambda books: _billed(books, _broken(books), state=Billed.COMPLETE),
    ),
    _mutant(
        "whole stream billed as broken", "I2", "says that a whole answer was cancelled", "complete for the client",
        lambda books: _billed(books, _whole(books), state=Billed.CANCELLED),
    ),
    _mutant("retry after the first byte", "I2", "lets the server have sent an answer twice", "received", _retried),
    _mutant("answers of two tenants swapped", "I3", "gives each the other's", "has the answer of", _proofs),
    _mutant(
        "answer without its proof", "I3", "takes the proof from a whole answer", "complete without proof",
        lambda books: replace(
            books, client=[replace(row, proof="") if row is _whole(books) else row for row in books.client]
        ),
    ),
)  # fmt: skip
