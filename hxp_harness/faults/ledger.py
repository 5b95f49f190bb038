"""Three ledgers of the same requests, and what must hold between them."""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class Ended(enum.StrEnum):
    """How a request ended for its client."""

    OK = "ok"  # complete
    FAILED = "failed"  # refused, or broken in a way that the client saw
    UNKNOWN = "unknown"  # the client left, or cannot tell whether it was accepted


class Billed(enum.StrEnum):
    """What a usage row says of its request."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"  # the backend or the gateway broke
    CANCELLED = "cancelled"  # the client left


@dataclass(frozen=True, slots=True)
class ClientRow:
    """What the client knows. `accepted`: status 200 was seen; `proof` is what the answer carried for its nonce."""

    request_id: str
    nonce: str
    ended: Ended
    accepted: bool
    received_tokens: int
    proof: str = ""


@dataclass(frozen=True, slots=True)
class BackendRow:
    """What the scripted backend knows of one attempt, from 1."""

    request_id: str
    attempt: int
    emitted_tokens: int
    complete: bool
    abort_seen_s: float | None = None  # after the last token that it sent


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What the usage log says."""

    request_id: str
    billed_tokens: int
    state: Billed


@dataclass(frozen=True, slots=True)
class Breach:
    """One invariant that does not hold, for one request."""

    invariant: str
    request_id: str
    what: str


def proof_of(nonce: str, key: bytes) -> str:
    """Return what the answer to a request with `nonce` must carry: HMAC-SHA256, 32 hexadecimal characters of it."""
    return hmac.new(key, nonce.encode(), hashlib.sha256).hexdigest()[:32]


def breaches(
    client: Sequence[ClientRow], backend: Sequence[BackendRow], usage: Sequence[UsageRow], *, key: bytes
) -> list[Breach]:
    """Return every breach of I1, I2 and I3; raise ValueError when the client's ledger is empty: nothing is no proof."""
    if not client:
        raise ValueError("the client's ledger is empty, so nothing is proven")
    return [*i1(client, usage), *i2(client, backend, usage), *i3(client, key=key)]


def i1(client: Iterable[ClientRow], usage: Iterable[UsageRow]) -> list[Breach]:
    """Every accepted request is exactly once in the usage log: none lost, none twice, none from nowhere.

    A request of which the client cannot tell whether it was accepted may be there once or not at all.
    """
    rows = {row.request_id: row for row in client}
    times = Counter(row.request_id for row in usage)
    found = [Breach("I1", name, "lost") for name, row in rows.items() if row.accepted and not times[name]]
    found += [Breach("I1", name, f"duplicate: {count} rows") for name, count in times.items() if count > 1]
    found += [Breach("I1", name, "phantom: the client never asked") for name in times if name not in rows]
    refused = {name for name, row in rows.items() if not row.accepted and row.ended is Ended.FAILED}
    found += [Breach("I1", name, "phantom: it was refused") for name in times if name in refused]
    return found


def i2(client: Iterable[ClientRow], backend: Iterable[BackendRow], usage: Iterable[UsageRow]) -> list[Breach]:
    """Complete: billed = emitted = received. Broken: received <= billed <= emitted, and the row says so."""
    emitted = _emitted(backend)
    bills = {row.request_id: row for row in usage}
    found = []
    for row in client:
        bill = bills.get(row.request_id)
        if bill is not None:
            wrong = _wrong_bill(row, bill, emitted.get(row.request_id, 0))
            found += [Breach("I2", row.request_id, wrong)] if wrong else []
    return found


def i3(client: Iterable[ClientRow], *, key: bytes) -> list[Breach]:
    """Each answer carries the proof of its own nonce; an answer that broke off before its proof is none."""
    rows = list(client)
    owners = {proof_of(row.nonce, key): row.request_id for row in rows}
    found = []
    for row in rows:
        if row.proof and not hmac.compare_digest(row.proof.encode(), proof_of(row.nonce, key).encode()):
            owner = owners.get(row.proof)
            found.append(
                Breach("I3", row.request_id, f"has the answer of {owner}" if owner else "has a strange answer")
            )
        elif row.ended is Ended.OK and not row.proof:
            found.append(Breach("I3", row.request_id, "complete without proof"))
    return found


def _emitted(backend: Iterable[BackendRow]) -> Mapping[str, int]:
    """Return the tokens that the backend emitted for each request, over all attempts."""
    emitted: dict[str, int] = defaultdict(int)
    for row in backend:
        emitted[row.request_id] += row.emitted_tokens
    return emitted


def _wrong_bill(row: ClientRow, bill: UsageRow, emitted: int) -> str:
    received, billed = row.received_tokens, bill.billed_tokens
    counts = f"received {received}, billed {billed}, emitted {emitted}"
    if row.ended is Ended.OK:
        if bill.state is not Billed.COMPLETE:
            return f"complete for the client, billed as {bill.state}"
        return "" if received == billed == emitted else counts
    if bill.state is Billed.COMPLETE and row.ended is Ended.FAILED:
        return "broken for the client, billed as complete"
    return "" if received <= billed <= emitted else counts
