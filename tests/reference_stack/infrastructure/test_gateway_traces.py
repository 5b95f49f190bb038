"""Traces, as a collector on a real socket gets them over OTLP/HTTP."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reference_stack.services.infrastructure.api_gateway.spans import context_in

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # pragma: allowlist secret


class Received(Protocol):
    """A collector: where it is, what came, and a wait for `count` spans."""

    url: str

    def spans(self, count: int) -> list[Span]: ...

    def raw(self) -> bytes: ...


class Collector:
    """Takes spans over OTLP/HTTP on a free port."""

    def __init__(self) -> None:
        self._found: list[Span] = []
        self._bodies: list[bytes] = []
        self._news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                with collector._news:
                    collector._bodies.append(body)
                    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                        for scope in resource.scope_spans:
                            collector._found.extend(scope.spans)
                    collector._news.notify_all()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"

    def spans(self, count: int) -> list[Span]:
        with self._news:
            assert self._news.wait_for(lambda: len(self._found) >= count, 10), self._found
            return list(self._found)

    def raw(self) -> bytes:
        return b"".join(self._bodies)


@pytest.fixture
def collector() -> Iterator[Received]:
    found = Collector()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def attributes(span: Span) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in span.attributes}


@pytest.mark.parametrize("hot_path", [True, False])
def test_a_trace_goes_through(collector: Received, make_gateway: Any, hot_path: bool) -> None:
    """A client's trace goes on in the gateway's span and to the model; the span tells of the request, not its text."""
    gateway = make_gateway(traces={"endpoint": collector.url, "every_s": 0.05}, hot_path=hot_path)
    body = {"model": "mixtral", "messages": [{"role": "user", "content": "a secret prompt"}]}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    for streams in (False, True):
        assert gateway.http.post("/v1/chat/completions", json={**body, "stream": streams}, headers=headers).is_success
    for number, span in enumerate(collector.spans(2)):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert (span.name, span.kind) == ("chat mixtral", Span.SPAN_KIND_SERVER)
        told = attributes(span)
        assert told["gen_ai.operation.name"] == "chat"
        assert told["gen_ai.request.model"] == "mixtral"
        assert told["gen_ai.request.stream"] is bool(number)
        assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 3)
        assert (told["http.route"], told["http.response.status_code"]) == ("/v1/chat/completions", 200)
        assert (told["hxp.key.id"], told["hxp.outcome"]) == ("alice", "complete")
        assert span.start_time_unix_nano < span.events[0].time_unix_nano <= span.end_time_unix_nano
        asked = gateway.backend.asked[number].headers
        assert asked["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
        assert asked["tracestate"] == "vendor=1"
        assert asked["x-request-id"] == told["hxp.request.id"]
    assert b"secret" not in collector.raw()
    assert gateway.http.headers["authorization"].split()[1].encode() not in collector.raw()


def test_a_refusal_and_a_failure_are_told(collector: Received, make_gateway: Any) -> None:
    """A request that is turned away has a span with its reason, one that fails at the model an error."""
    gateway = make_gateway(traces={"endpoint": collector.url, "every_s": 0.05})

    async def breaks(wire: Any) -> None:
        await wire.answer(b"no json at all")

    assert gateway.http.get("/v1/models", headers={"authorization": "Bearer nobody"}).status_code == 401
    gateway.backend.script = breaks
    body = {"model": "mixtral", "messages": [{"role": "user", "content": "x"}]}
    assert gateway.http.post("/v1/chat/completions", json=body).status_code == 502
    refused, failed = collector.spans(2)
    assert (attributes(refused)["error.type"], refused.status.code) == ("invalid_api_key", 0)
    assert (attributes(failed)["error.type"], failed.status.code) == ("upstream_failed", 2)
    assert refused.trace_id != failed.trace_id
    assert gateway.backend.asked[0].headers["traceparent"].split("-")[1] == failed.trace_id.hex()


def test_a_client_decides_and_rubbish_is_no_trace(collector: Received, make_gateway: Any) -> None:
    """A trace that its client does not record is passed on and not sent; a header that is no trace begins a new one."""
    gateway = make_gateway(traces={"endpoint": collector.url, "every_s": 0.05})
    for parent in (f"00-{TRACE}-{PARENT}-00", "00-rubbish", "x\tinjected: 1"):
        body = {"model": "mixtral", "messages": [{"role": "user", "content": "x"}]}
        assert gateway.http.post("/v1/chat/completions", json=body, headers={"traceparent": parent}).is_success
    found = collector.spans(2)
    sent = [asked.headers["traceparent"] for asked in gateway.backend.asked]
    assert sent[0].startswith(f"00-{TRACE}-")
    assert sent[0].endswith("-00")
    assert [text.split("-")[1] for text in sent[1:]] == [span.trace_id.hex() for span in found]
    assert TRACE not in {span.trace_id.hex() for span in found}


def test_a_collector_that_is_gone_costs_no_request(make_gateway: Any) -> None:
    """With nobody at the endpoint requests are served, and the gateway ends in time."""
    gateway = make_gateway(traces={"endpoint": "http://127.0.0.1:9/v1/traces", "every_s": 0.05, "timeout_s": 0.2})
    for _ in range(5):
        body = {"model": "mixtral", "messages": [{"role": "user", "content": "x"}]}
        assert gateway.http.post("/v1/chat/completions", json=body).is_success


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=80)), max_size=5))
def test_any_headers_can_be_looked_through(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever a client sends, only the two headers of a trace are taken."""
    found = context_in([*headers, (b"traceparent", b"\xff")])
    assert found["traceparent"] == "\xff"
    assert set(found) <= {"traceparent", "tracestate"}


@pytest.mark.parametrize(
    ("before", "traces", "said"),
    [
        ("", {}, "imported False"),
        ("", {"endpoint": "http://127.0.0.1:9/v1/traces"}, "imported True"),
        ("sys.modules['opentelemetry.exporter'] = None", {"endpoint": "http://127.0.0.1:9/v1/traces"}, "[otel]"),
    ],
)
def test_nothing_is_imported_for_nothing(tmp_path: Path, before: str, traces: dict[str, str], said: str) -> None:
    """Without an endpoint no exporter is even imported; with one and without it, a person is told what to type."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import sys, json
{before}
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
try:
    create_app(ApiGatewaySettings.model_validate({{"traces": {json.dumps(traces)}}}))
    print("imported", "opentelemetry.exporter" in sys.modules)
except Exception as error:  # the child says what it is; the test reads it
    print(error)
"""
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=30, check=True)
    assert said in done.stdout
