"""What the gateway counts. Labels take known values only, whatever clients send.

What vLLM counts too has vLLM's name and label here, with a prefix that keeps the two apart: the difference is what the
way through the gateway adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

from reference_stack.counting import Level, adding, observing
from reference_stack.schemas.api.usage import Outcome
from reference_stack.services.infrastructure.api_gateway.call import OK
from reference_stack.services.infrastructure.api_gateway.settled import Settled

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_EACH_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)

# So many requests are counted together at most: the numbers of a metric are then in the processor's caches.
MOST_UNCOUNTED = 256

_Add = Callable[[float], None]
_AddEach = Callable[[Sequence[float]], None]
_Kind = tuple[str, str, int, Outcome | None, bool]


@dataclass(frozen=True, slots=True)
class _Accepted:
    """Where an accepted request is counted; the last two are None where it is not one that was answered."""

    outcomes: _Add
    prompt: _Add
    output: _Add
    prompt_alike: _Add
    output_alike: _Add
    whole: _AddEach | None
    stream: tuple[_AddEach, _AddEach] | None


@dataclass(frozen=True, slots=True)
class _Places:
    """Where requests of one kind are counted."""

    requests: _Add
    took: _AddEach
    first_byte: _AddEach
    accepted: _Accepted | None


class _Counting(Collector):
    """Has no metric of its own, and stands before those that have: it brings them up to date."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        self._count()
        return ()

    def describe(self) -> Iterable[Metric]:
        return ()


class Measures:
    """The gateway's metrics, in a registry of their own. For one thread.

    Requests that ended are counted together: when somebody asks for the metrics, when they are many, and by `count`.
    `in_flight` is for the story to change.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self.counting = _Counting(self.count)
        self.registry.register(self.counting)
        self._uncounted: list[Settled] = []
        self._models = frozenset(models)
        self._requests = self._counter(
            "hxp_gateway_requests", "Requests by route, model and status.", "route", "model", "status"
        )
        self._took = self._histogram(
            "hxp_gateway_request_duration_seconds",
            "From the request's head to the end of the answer.",
            "route",
            "model",
        )
        self._first_byte = self._histogram(
            "hxp_gateway_first_byte_seconds",
            "From the request's head to the first byte of the answer.",
            "route",
            "model",
        )
        self._tokens = self._counter("hxp_gateway_tokens", "Tokens by model and kind.", "model", "kind")
        self._outcomes = self._counter(
            "hxp_gateway_outcomes", "Accepted requests by model and how they ended.", "model", "outcome"
        )
        self._add_alike()
        self.in_flight = 0
        self._in_flight = Level(Gauge("hxp_gateway_in_flight", "Requests being relayed.", registry=self.registry))
        self.rows_held = Gauge(
            "hxp_gateway_usage_rows_held", "Usage rows that wait for the database.", registry=self.registry
        )
        self.rows_stored = self._counter("hxp_gateway_usage_rows_stored", "Usage rows stored in the database.")
        self.rows_refused = self._counter("hxp_gateway_usage_rows_refused", "Usage rows that the database refused.")
        self._upstream_up = Gauge(
            "hxp_gateway_upstream_up",
            "1 while the model's server is healthy.",
            ("model",),
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        # Looking children up by labels costs several times what counting does.
        self._places: dict[_Kind, _Places] = {}

    def done(self, settled: Settled) -> None:
        """Take one request that ended."""
        self._uncounted.append(settled)
        if len(self._uncounted) >= MOST_UNCOUNTED:
            self.count()

    def count(self) -> None:
        """Count those that were taken, and show how many requests are in flight."""
        self._in_flight.set(self.in_flight)
        by_kind: dict[_Kind, list[Settled]] = {}
        for each in self._uncounted:
            kind = (each.route, each.model, each.status, each.outcome, each.stream)
            by_kind.setdefault(kind, []).append(each)
        self._uncounted.clear()
        for kind, ended in by_kind.items():
            self._count_in(self._places.get(kind) or self._places_of(kind), ended)

    def _count_in(self, places: _Places, ended: Sequence[Settled]) -> None:
        places.requests(len(ended))
        places.took([each.took_s for each in ended])
        places.first_byte([each.first_byte_s for each in ended if each.first_byte_s is not None])
        accepted = places.accepted
        if accepted is None:
            return
        accepted.outcomes(len(ended))
        output = sum([each.output_tokens for each in ended])
        accepted.output(output)
        accepted.output_alike(output)
        prompt = sum([each.prompt_tokens for each in ended if each.prompt_tokens is not None])
        accepted.prompt(prompt)
        accepted.prompt_alike(prompt)
        if accepted.whole is not None:
            accepted.whole([each.took_s for each in ended])
        if accepted.stream is not None:
            first_token, each_token = accepted.stream
            first_token([each.first_byte_s for each in ended if each.first_byte_s is not None])
            each_token(
                [
                    (each.took_s - each.first_byte_s) / (each.output_tokens - 1)
                    for each in ended
                    if each.first_byte_s is not None and each.output_tokens > 1
                ]
            )

    def healthy(self, found: Mapping[str, str]) -> None:
        """Set which models' servers are up."""
        for model, problem in found.items():
            self._upstream_up.labels(model).set(not problem)

    def _add_alike(self) -> None:
        """Add what vLLM counts too."""
        self._first_token = self._histogram(
            "hxp_gateway_time_to_first_token_seconds", "From a stream's request to its first event.", "model_name"
        )
        self._each_token = self._histogram(
            "hxp_gateway_request_time_per_output_token_seconds",
            "Of a stream, from its first event to its end, over the tokens behind the first.",
            "model_name",
            buckets=_EACH_S,
        )
        self._whole = self._histogram(
            "hxp_gateway_e2e_request_latency_seconds",
            "From an answered request's head to the end of its answer.",
            "model_name",
        )
        self._prompt = self._counter("hxp_gateway_prompt_tokens", "Tokens of prompts.", "model_name")
        self._generation = self._counter("hxp_gateway_generation_tokens", "Tokens of answers.", "model_name")

    def _places_of(self, kind: _Kind) -> _Places:
        route, model, status, outcome, stream = kind
        if model not in self._models:
            kind = (route, "", status, outcome, stream)
            model = ""
        found = self._places.get(kind)
        if found is None:
            found = self._places[kind] = _Places(
                adding(self._requests.labels(route, model, str(status))),
                observing(self._took.labels(route, model)),
                observing(self._first_byte.labels(route, model)),
                None if outcome is None else self._accepted_of(model, outcome, stream=stream, answered=status == OK),
            )
        return found

    def _accepted_of(self, model: str, outcome: Outcome, *, stream: bool, answered: bool) -> _Accepted:
        streams = observing(self._first_token.labels(model)), observing(self._each_token.labels(model))
        return _Accepted(
            adding(self._outcomes.labels(model, outcome)),
            adding(self._tokens.labels(model, "prompt")),
            adding(self._tokens.labels(model, "output")),
            adding(self._prompt.labels(model)),
            adding(self._generation.labels(model)),
            observing(self._whole.labels(model)) if answered else None,
            streams if answered and stream else None,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _BUCKETS_S) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)
