"""The API server in front of an engine: one process that reads requests and sends tokens, one piece of work at a time.

vLLM V1 runs it beside the engine's process, and one event loop does all of it. A token that waits for its turn is
joined by the tokens of the same sequence that are made meanwhile, and they leave together, at the cost of one (vLLM's
RequestOutputCollector). Pure: moments are the caller's clock, and have to be given in their order.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ApiServer:
    """`request_s` is its work on one request, `token_s` on one event of a stream, in seconds."""

    request_s: float
    token_s: float
    free_s: float = 0.0  # when it has done all that it was given

    def take(self, arrival_s: float) -> float:
        """Return when a request that comes at `arrival_s` has been read, checked and tokenised."""
        if not self.request_s:
            return arrival_s
        self.free_s = max(self.free_s, arrival_s) + self.request_s
        return self.free_s

    def send(self, made_s: float, before_s: float) -> float:
        """Return when a token leaves that was made at `made_s`; the one before it in its stream left at `before_s`."""
        if not self.token_s:
            return made_s
        if before_s > made_s:
            return before_s
        self.free_s = max(self.free_s, made_s) + self.token_s
        return self.free_s
