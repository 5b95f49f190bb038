"""A client that goes away takes its request with it: the model stops working for nobody."""

from __future__ import annotations

import json
import time

import pytest

from tests.reference_stack.infrastructure.conftest import (
    KEY,
    ROLE,
    Gateway,
    MakeGateway,
    Wire,
    chat,
    eventually,
    raw,
    text_event,
)

CANCELLED_S = 0.1


def request(body: bytes, *, length: int | None = None) -> bytes:
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: gateway",
        f"authorization: Bearer {KEY}",
        "content-type: application/json",
        f"content-length: {len(body) if length is None else length}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


async def silent(wire: Wire) -> None:
    await wire.wait_gone()


async def begins(wire: Wire) -> None:
    await wire.stream(ROLE, text_event("one"))
    await wire.wait_gone()


@pytest.mark.parametrize(
    ("script", "stream"),
    [(silent, False), (silent, True), (begins, True)],
    ids=["whole", "before_first_token", "mid_stream"],
)
def test_a_departure_cancels_the_model(gateway: Gateway, script: object, stream: bool) -> None:
    """Within 100 ms of the client's close the model's connection is closed, and the row says cancelled."""
    gateway.backend.script = begins if script is begins else silent
    with raw(gateway) as sock:
        sock.sendall(request(json.dumps(chat(stream=stream)).encode()))
        asked = eventually(lambda: gateway.backend.asked)[0]
        if script is begins:
            seen = b""
            while b"one" not in seen:
                seen += sock.recv(4096)
        left_at_s = time.monotonic()

    gone_at_s = eventually(lambda: asked.gone_at_s)
    assert gone_at_s is not None
    # Twice the promise, for a machine that is busy with other tests.
    assert gone_at_s - left_at_s < 2 * CANCELLED_S
    row = gateway.usage.last()
    assert (row.outcome, row.exact, row.output_tokens) == ("cancelled", False, 1 if script is begins else 0)
    assert row.status == (200 if script is begins else 499)


def test_a_departure_before_the_body_is_no_request(gateway: Gateway) -> None:
    """A client that leaves while it sends was never accepted: nothing goes upstream, and there is no row."""
    with raw(gateway) as sock:
        sock.sendall(request(b'{"model"', length=100))
        eventually(lambda: "hxp_gateway_in_flight 1.0" in gateway.http.get("/metrics").text)

    eventually(lambda: "hxp_gateway_in_flight 0.0" in gateway.http.get("/metrics").text)
    assert gateway.backend.asked == []
    assert gateway.usage.rows == []


def test_a_client_that_reads_nothing_is_let_go(make_gateway: MakeGateway) -> None:
    """A stream that nobody reads ends by its deadline, the model is let go, and the memory it takes is bounded."""
    gateway = make_gateway(timeout_s=1.0)

    async def floods(wire: Wire) -> None:
        await wire.stream(ROLE)
        while True:
            await wire.chunk(text_event("x" * 100_000))

    gateway.backend.script = floods
    with raw(gateway) as sock:
        sock.sendall(request(json.dumps(chat(stream=True)).encode()))
        row = gateway.usage.last()
        assert row.outcome in ("interrupted", "cancelled")
        assert row.took_s < 2.0
        assert row.output_tokens < 300


def test_a_slow_body_is_told_so(make_gateway: MakeGateway) -> None:
    """A body that does not come in time is a 408, and the connection is closed."""
    gateway = make_gateway(limits={"body_s": 0.2})
    with raw(gateway) as sock:
        sock.sendall(request(b'{"model"', length=100))
        answer = b""
        while part := sock.recv(4096):
            answer += part

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_timeout" in answer
    assert gateway.usage.rows == []
