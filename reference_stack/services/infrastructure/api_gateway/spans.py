"""Spans by the OpenTelemetry SDK. The only file that imports it, and imported only where traces are configured."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from reference_stack.schemas.configuration.traces import TraceSettings
from reference_stack.services.infrastructure.api_gateway.asked import CHAT, COMPLETIONS
from reference_stack.services.infrastructure.api_gateway.call import Call

_OPERATIONS = {CHAT: "chat", COMPLETIONS: "text_completion", "/v1/embeddings": "embeddings"}
_CONTEXT = (b"traceparent", b"tracestate")
_END_S = 2.0
_LOOK_S = 0.02


class Spans:
    """Implements Traces. It has a thread, so it is made in the process that serves, after any fork."""

    def __init__(self, settings: TraceSettings) -> None:
        resource = Resource.create({"service.name": settings.service_name})
        sampler = ParentBased(TraceIdRatioBased(settings.sample))
        self._provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=str(settings.endpoint), timeout=settings.timeout_s)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=settings.most_held,
                max_export_batch_size=min(512, settings.most_held),
                schedule_delay_millis=settings.every_s * 1000,
                export_timeout_millis=settings.timeout_s * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("hxp.api_gateway")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, call: Call, headers: Iterable[tuple[bytes, bytes]]) -> None:
        parent = self._propagator.extract(context_in(headers))
        operation = _OPERATIONS.get(call.route, call.route)
        span = self._tracer.start_span(operation, parent, SpanKind.SERVER, start_time=int(call.accepted_at_s * 1e9))
        carried: dict[str, str] = {}
        self._propagator.inject(carried, set_span_in_context(span))
        call.carried = "".join(f"\r\n{name}: {value}" for name, value in carried.items())
        call.on_settled = lambda: _end(span, call, operation)

    async def close(self) -> None:
        thread = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        thread.start()
        await _in_time(thread)


def _end(span: Span, call: Call, operation: str) -> None:
    if span.is_recording():
        span.update_name(f"{operation} {call.model}".strip())
        span.set_attributes(
            {
                "http.route": call.route,
                "http.response.status_code": call.status,
                "hxp.request.id": call.id,
                "hxp.key.id": "" if call.key is None else call.key.id,
                "hxp.outcome": call.outcome or "",
            }
        )
        if call.route in _OPERATIONS and call.model:
            _tell_of_model(span, call, operation)
        if call.first_byte_s is not None:
            first_byte_s = call.accepted_at_s + call.first_byte_s
            span.add_event("gen_ai.first_chunk", timestamp=int(first_byte_s * 1e9))
        if call.error:
            span.set_attribute("error.type", call.error)
        if call.status >= 500 or call.outcome == "interrupted":
            span.set_status(Status(StatusCode.ERROR, call.error))
    span.end(int((call.accepted_at_s + time.perf_counter() - call.began_s) * 1e9))


def _tell_of_model(span: Span, call: Call, operation: str) -> None:
    span.set_attributes(
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": call.model,
            "gen_ai.request.stream": call.stream,
            "gen_ai.usage.output_tokens": call.output_tokens,
        }
    )
    if call.usage is not None:
        span.set_attribute("gen_ai.usage.input_tokens", call.usage.prompt_tokens)


def context_in(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers of a trace that the client began."""
    return {name.decode(): value.decode("latin-1") for name, value in headers if name in _CONTEXT}


async def _in_time(thread: threading.Thread) -> None:
    """Wait for a thread that may hang, and leave it to its fate when it does."""
    deadline_s = asyncio.get_running_loop().time() + _END_S
    # A thread of an executor would be waited for by the interpreter; this one has nothing but its end to tell.
    while thread.is_alive() and asyncio.get_running_loop().time() < deadline_s:  # noqa: ASYNC110 - see above
        await asyncio.sleep(_LOOK_S)
