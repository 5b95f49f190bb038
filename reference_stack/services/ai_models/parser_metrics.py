"""How often a parser of tool calls was asked, and whether it found one: vLLM's counter, there only where a parser is.

A whole answer asks it once a choice, a stream once a token; only where the model was free to call or not, since a named
or required function needs no parser.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter

_MODES = ("streaming", "non_streaming")
_OUTCOMES = ("tool_call", "no_tool_call")
_REQUESTS = ("chat_completions", "responses", "other")


class ParserMetrics:
    """All rows stand from the start, at zero."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._model = model
        self._counter = Counter(
            "vllm:tool_call_parser_invocations",
            "Number of times that a parser of tool calls was asked: once a choice, streaming once a delta.",
            ["model_name", "mode", "outcome", "request_type"],
            registry=registry,
        )
        for row in itertools.product(_MODES, _OUTCOMES, _REQUESTS):
            self._counter.labels(model, *row)

    def of_chat(self, *, stream: bool) -> Callable[[bool], None]:
        """Return what counts one look of the parser at a chat's answer, given whether it found a call."""
        return functools.partial(self._count, _MODES[not stream])

    def _count(self, mode: str, found: bool) -> None:
        self._counter.labels(self._model, mode, _OUTCOMES[not found], _REQUESTS[0]).inc()
