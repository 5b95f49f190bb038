"""The ledgers' invariants hold for honest rows and catch each kind of dishonest one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.faults.ledger import BackendRow, Billed, ClientRow, Ended, UsageRow, breaches, i1, i2, i3, proof_of

KEY = b"key"
CLIENT = ClientRow("a", "na", Ended.OK, accepted=True, received_tokens=4, proof=proof_of("na", KEY))
BACKEND = BackendRow("a", 1, 4, complete=True)
USAGE = UsageRow("a", 4, Billed.COMPLETE)


def other(name: str) -> tuple[ClientRow, BackendRow, UsageRow]:
    nonce = f"n{name}"
    return (
        replace(CLIENT, request_id=name, nonce=nonce, proof=proof_of(nonce, KEY)),
        replace(BACKEND, request_id=name),
        replace(USAGE, request_id=name),
    )


@given(st.lists(st.text("abcdef", min_size=1), unique=True, min_size=1))
def test_honest_ledgers_have_no_breach(names: list[str]) -> None:
    """Whatever the requests, ledgers that agree have no breach."""
    client, backend, usage = zip(*(other(name) for name in names), strict=True)
    assert breaches(client, backend, usage, key=KEY) == []


def test_an_empty_ledger_proves_nothing() -> None:
    """Without a client's row there is no proof."""
    with pytest.raises(ValueError, match="nothing is proven"):
        breaches([], [BACKEND], [USAGE], key=KEY)


def test_lost_duplicate_and_phantom() -> None:
    """I1 names a missing row, a second one, one of a stranger and one of a refused request."""
    refused = replace(CLIENT, request_id="r", ended=Ended.FAILED, accepted=False, received_tokens=0, proof="")
    usage = [USAGE, USAGE, replace(USAGE, request_id="stranger"), replace(USAGE, request_id="r")]
    found = i1([CLIENT, refused, other("b")[0]], usage)

    assert {(each.request_id, each.what) for each in found} == {
        ("b", "lost"),
        ("a", "duplicate: 2 rows"),
        ("stranger", "phantom: the client never asked"),
        ("r", "phantom: it was refused"),
    }


@pytest.mark.parametrize("rows", [[], [USAGE]])
def test_unknown_requests_may_be_there_or_not(rows: list[UsageRow]) -> None:
    """A client that left before any answer cannot say whether there should be a row."""
    assert i1([replace(CLIENT, ended=Ended.UNKNOWN, accepted=False)], rows) == []


@pytest.mark.parametrize(
    ("client", "backend", "usage", "what"),
    [
        ({}, {}, {}, None),
        ({"received_tokens": 3}, {}, {}, "received 3, billed 4, emitted 4"),
        ({}, {}, {"billed_tokens": 5}, "received 4, billed 5, emitted 4"),
        ({}, {"emitted_tokens": 9}, {}, "received 4, billed 4, emitted 9"),
        ({}, {}, {"state": Billed.CANCELLED}, "complete for the client, billed as cancelled"),
        ({"ended": Ended.FAILED, "received_tokens": 2}, {}, {"state": Billed.INTERRUPTED, "billed_tokens": 3}, None),
        ({"ended": Ended.FAILED}, {}, {}, "broken for the client, billed as complete"),
        (
            {"ended": Ended.FAILED, "received_tokens": 3},
            {},
            {"state": Billed.INTERRUPTED, "billed_tokens": 2},
            "received 3, billed 2, emitted 4",
        ),
        ({"ended": Ended.UNKNOWN, "received_tokens": 2}, {}, {}, None),
        (
            {"ended": Ended.UNKNOWN, "received_tokens": 2},
            {},
            {"state": Billed.CANCELLED, "billed_tokens": 5},
            "received 2, billed 5, emitted 4",
        ),
    ],
)
def test_bills_are_between_received_and_emitted(
    client: dict[str, object], backend: dict[str, object], usage: dict[str, object], what: str | None
) -> None:
    """I2: equal when complete, in between when broken, and the row says which."""
    found = i2(
        [replace(CLIENT, **client)],  # type: ignore[arg-type]  # the cases above name the fields
        [replace(BACKEND, **backend)],  # type: ignore[arg-type]
        [replace(USAGE, **usage)],  # type: ignore[arg-type]
    )
    assert [each.what for each in found] == ([what] if what else [])


def test_attempts_add_up() -> None:
    """Tokens of every attempt count as emitted."""
    attempts = [replace(BACKEND, emitted_tokens=1, complete=False), replace(BACKEND, attempt=2)]
    assert i2([CLIENT], attempts, [USAGE])[0].what == "received 4, billed 4, emitted 5"


def test_cross_talk_names_the_owner() -> None:
    """I3: an answer with another request's proof, a made-up one, or none."""
    owner = other("b")[0]
    swapped = replace(CLIENT, proof=owner.proof)
    strange = replace(other("c")[0], proof="0" * 32)
    silent = replace(other("d")[0], proof="")
    cut = replace(other("e")[0], proof="", ended=Ended.FAILED)
    found = i3([swapped, owner, strange, silent, cut], key=KEY)

    assert [(each.request_id, each.what) for each in found] == [
        ("a", "has the answer of b"),
        ("c", "has a strange answer"),
        ("d", "complete without proof"),
    ]
