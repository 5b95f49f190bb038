"""What a client of the gateway is told when the model's server does not do its part."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from reference_stack.services.infrastructure.api_gateway.edge import Edge
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.settlement import Settlement
from reference_stack.services.infrastructure.api_gateway.usage import UsageLog
from tests.reference_stack.infrastructure.conftest import (
    ALICE,
    DONE,
    ROLE,
    TEXTS,
    Backend,
    Gateway,
    MakeGateway,
    Script,
    Wire,
    chat,
    event,
    eventually,
    serving,
    text_event,
)


def error_of(reply: httpx.Response) -> dict[str, object]:
    found: dict[str, object] = reply.json()["error"]
    assert found["request_id"] == reply.headers["x-request-id"]
    assert found["message"]
    assert len(reply.content) < 8192
    return found


def answers(body: bytes, status: int = 200, kind: str = "application/json", *more: str) -> Script:
    async def script(wire: Wire) -> None:
        await wire.answer(body, status, kind, *more)

    return script


def streams(*parts: bytes, ended: bool = True) -> Script:
    async def script(wire: Wire) -> None:
        await wire.stream(*parts)
        if ended:
            await wire.end()

    return script


async def closes(wire: Wire) -> None:
    """Close without a byte."""


async def not_http(wire: Wire) -> None:
    await wire.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


async def half_an_answer(wire: Wire) -> None:
    await wire.head(200, "application/json", "content-length: 1000")
    await wire.send(b'{"choices"')


async def bad_chunks(wire: Wire) -> None:
    await wire.head(200, "application/json", "transfer-encoding: chunked")
    await wire.chunk(b'{"choices"')
    await wire.send(b"zz\r\nnonsense")
    await wire.wait_gone()


BROKEN = {
    "closes": closes,
    "not_http": not_http,
    "half": half_an_answer,
    "bad_chunks": bad_chunks,
    "empty": answers(b""),
    "no_json": answers(b"<html>secret path /srv</html>"),
    "error_body": answers(b'{"error":{"message":"secret path /srv"}}'),
    "no_choices": answers(b'{"choices":[]}'),
    "redirect": answers(b"", 307, "text/plain", "location: http://127.0.0.1:1/"),
    "not_found": answers(b'{"detail":"secret path /srv"}', 404),
    "unauthorized": answers(b"{}", 401),
    "crashed": answers(b"Traceback: secret path /srv", 500),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_server_is_a_502(gateway: Gateway, name: str, stream: bool) -> None:
    """Whatever comes before the first byte of an answer ends as one clear error that shows nothing of the inside."""
    gateway.backend.script = BROKEN[name]

    reply = gateway.post(chat(stream=stream))

    assert reply.status_code == 502
    assert error_of(reply)["code"] == "upstream_failed"
    assert b"secret" not in reply.content
    row = gateway.usage.last()
    assert (row.outcome, row.status, row.output_tokens) == ("failed", 502, 0)


def test_a_server_that_is_not_there_is_a_502(make_gateway: MakeGateway) -> None:
    """A refused connection is told at once, and the gateway stays live."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        gateway = make_gateway(upstreams={"mixtral": {"base_url": url}}, key_rows=ALICE)

        assert gateway.post(chat()).status_code == 502
        health = gateway.http.get("/health")

    assert (health.status_code, health.json()["status"]) == (503, "unready")
    assert health.json()["dependencies"] == {"mixtral": "it cannot be reached"}
    assert gateway.http.get("/health/live").status_code == 200


def test_one_model_out_is_degraded_and_not_unready(backend: Backend, make_gateway: MakeGateway) -> None:
    """A model that is out is named, and does not take the others away."""
    gateway = make_gateway(
        upstreams={"mixtral": {"base_url": backend.url}, "phi3": {"base_url": "http://127.0.0.1:1/v1"}}, key_rows=ALICE
    )

    health = gateway.http.get("/health/ready")

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["dependencies"] == {"mixtral": "", "phi3": "it cannot be reached"}
    metrics = gateway.http.get("/metrics").text
    assert 'hxp_gateway_upstream_up{model="mixtral"} 1.0' in metrics
    assert 'hxp_gateway_upstream_up{model="phi3"} 0.0' in metrics


def test_an_ill_model_says_so(gateway: Gateway) -> None:
    """A server whose own /health is not 200 is not ready."""
    gateway.backend.healthy = False

    def said() -> object:
        return gateway.http.get("/health").json()["dependencies"]["mixtral"]

    eventually(lambda: said() == "its /health answers 503")  # who asked a moment ago is answered from then


def test_a_gateway_without_models_is_not_ready(make_gateway: MakeGateway) -> None:
    """No upstream at all is a configuration that cannot serve."""
    health = make_gateway(upstreams={}, key_rows=ALICE).http.get("/health")

    assert (health.status_code, health.json()["dependencies"]) == (503, {"upstreams": "none is configured"})


@pytest.mark.parametrize(
    ("sent", "said", "code", "retry_after"),
    [
        ((429, "retry-after: 7"), 429, "model_overloaded", "7"),
        ((503, "retry-after: 100000"), 503, "model_overloaded", "60"),
        ((503, "retry-after: soon"), 503, "model_overloaded", "1"),
        ((400, "x: y"), 400, "refused_by_model", None),
    ],
)
def test_a_servers_refusal_is_passed_on_in_our_words(
    gateway: Gateway, sent: tuple[int, str], said: int, code: str, retry_after: str | None
) -> None:
    """Overload stays overload with its Retry-After bounded; a 400 stays a 400 without the values it repeats."""
    gateway.backend.script = answers(b'{"error":{"message":"temperature=5.0 secret"}}', sent[0], "text/plain", sent[1])

    reply = gateway.post(chat())

    assert (reply.status_code, error_of(reply)["code"], reply.headers.get("retry-after")) == (said, code, retry_after)
    assert b"secret" not in reply.content


def test_a_prompt_that_is_too_long_is_told_so(gateway: Gateway) -> None:
    """The commonest refusal of a model keeps its meaning."""
    gateway.backend.script = answers(b'{"error":{"message":"cannot be greater than max_model_len=2048"}}', 400)

    assert error_of(gateway.post(chat()))["code"] == "context_length_exceeded"


TORN = {
    "eof": streams(*TEXTS),
    "reset": streams(*TEXTS[:3], ended=False),
    "error_then_done": streams(*TEXTS[:3], event({"error": {"message": "secret"}}), DONE),
    "not_json": streams(*TEXTS[:3], event(b"{secret"), DONE),
    "done_unfinished": streams(*TEXTS[:3], DONE),
}


@pytest.mark.owasp("API10:2023")
@pytest.mark.parametrize("name", TORN)
def test_a_stream_that_breaks_ends_in_an_error_and_without_done(gateway: Gateway, name: str) -> None:
    """What came is passed on; then the client hears that it is not the whole, and no [DONE]."""
    gateway.backend.script = TORN[name]

    reply = gateway.post(chat(stream=True), **{"x-request-id": "torn"})

    events = reply.content.split(b"\n\n")
    assert events.pop() == b""
    assert b'"code":"upstream_failed"' in events[-1]
    assert b'"request_id":"torn"' in events[-1]
    passed = TEXTS if name == "eof" else TEXTS[:3]
    assert events[:-1] == [each[:-2] for each in passed]
    assert b"DONE" not in reply.content
    assert b"secret" not in reply.content
    row = gateway.usage.last()
    assert (row.outcome, row.exact, row.output_tokens) == ("interrupted", False, len(passed) - 1)


def test_an_error_before_any_text_is_a_status(gateway: Gateway) -> None:
    """A stream whose first word is an error never becomes a 200."""
    gateway.backend.script = streams(event({"error": {"message": "secret"}}), DONE)

    assert gateway.post(chat(stream=True)).status_code == 502


def test_done_without_its_blank_line_counts(gateway: Gateway) -> None:
    """A server that closes right behind [DONE] finished none the less; what follows [DONE] is not passed on."""
    gateway.backend.script = streams(*TEXTS, DONE.rstrip())
    assert gateway.post(chat(stream=True)).content == b"".join((*TEXTS, DONE))

    gateway.backend.script = streams(*TEXTS, DONE, b"data: more\n\n", DONE)
    assert gateway.post(chat(stream=True)).content == b"".join((*TEXTS, DONE))


async def lingers(wire: Wire) -> None:
    await wire.stream(*TEXTS, DONE)
    await wire.wait_gone()


@pytest.mark.parametrize("timeout_s", [0.1, 60])
def test_a_server_that_lingers_behind_done_costs_nothing(make_gateway: MakeGateway, timeout_s: float) -> None:
    """The answer is complete with [DONE]; the connection is given up soon after, and nothing is told of it."""
    gateway = make_gateway(timeout_s=timeout_s)
    gateway.backend.script = lingers

    assert gateway.post(chat(stream=True)).content == b"".join((*TEXTS, DONE))
    eventually(lambda: gateway.backend.asked[0].gone_at_s)
    assert gateway.usage.last().outcome == "complete"


def test_a_server_whose_health_hangs_is_named(make_gateway: MakeGateway) -> None:
    """A server that accepts and never answers is out, and its silence does not hold the check."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        gateway = make_gateway(upstreams={"mixtral": {"base_url": url}}, key_rows=ALICE, health_s=0.1)

        found = gateway.http.get("/health").json()["dependencies"]

    assert found == {"mixtral": "its /health does not answer within 0.1 s"}


async def hangs(wire: Wire) -> None:
    await wire.wait_gone()


async def stalls(wire: Wire) -> None:
    await wire.stream(ROLE, text_event("one"))
    await wire.wait_gone()


def test_a_server_that_never_answers_is_a_504(make_gateway: MakeGateway) -> None:
    """The deadline holds, the server is let go, and the client knows why."""
    gateway = make_gateway(timeout_s=0.3)
    gateway.backend.script = hangs
    began = time.monotonic()

    reply = gateway.post(chat())

    assert (reply.status_code, error_of(reply)["code"]) == (504, "upstream_timeout")
    assert time.monotonic() - began < 1.3
    eventually(lambda: gateway.backend.asked[0].gone_at_s)


def test_a_stream_that_stalls_ends_by_the_deadline(make_gateway: MakeGateway) -> None:
    """The deadline covers the whole answer, and the break is told in the stream."""
    gateway = make_gateway(timeout_s=0.3)
    gateway.backend.script = stalls

    reply = gateway.post(chat(stream=True))

    assert reply.status_code == 200
    assert b'"code":"upstream_timeout"' in reply.content.split(b"\n\n")[-2]
    assert gateway.usage.last().outcome == "interrupted"


def test_an_answer_without_end_is_cut(make_gateway: MakeGateway) -> None:
    """An answer, or one event, beyond `answer_bytes` is not held in memory."""
    gateway = make_gateway(limits={"answer_bytes": 1000})
    gateway.backend.script = answers(b'{"choices":[' + b" " * 2000)
    assert gateway.post(chat()).status_code == 502

    gateway.backend.script = streams(ROLE, b"data: " + b"x" * 2000)
    assert b"upstream_failed" in gateway.post(chat(stream=True)).content


def test_too_many_at_once_are_told_to_come_back(make_gateway: MakeGateway) -> None:
    """Beyond `in_flight` the answer is an immediate 503 with Retry-After, and room returns when one ends."""
    gateway = make_gateway(limits={"in_flight": 1})
    release = asyncio.Event()

    async def waits(wire: Wire) -> None:
        await release.wait()
        await wire.answer(b'{"choices":[{}]}')

    gateway.backend.script = waits
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.post, chat())
        eventually(lambda: gateway.backend.asked)
        reply = gateway.post(chat())
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert error_of(reply)["code"] == "overloaded"
        assert "hxp_gateway_in_flight 1.0" in gateway.http.get("/metrics").text
        gateway.backend.call(release.set)
    assert first.result().status_code == 200
    eventually(lambda: "hxp_gateway_in_flight 0.0" in gateway.http.get("/metrics").text)
    assert gateway.post(chat()).status_code == 200


async def mistaken(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ValueError("secret")


def test_our_own_mistake_has_the_same_shape(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody expected is a 500 like any other error; its text is neither told nor logged."""
    measures = Measures(())
    edge = Edge(
        mistaken, routes={}, header_bytes=1000, settlement=Settlement(measures, UsageLog(None, measures, most_held=1))
    )
    with serving(edge) as url, httpx.Client(base_url=url) as http:
        reply = http.get("/health")

    assert (reply.status_code, error_of(reply)["code"]) == (500, "internal_error")
    assert b"secret" not in reply.content
    assert "ValueError at" in caplog.text
    assert "secret" not in caplog.text
