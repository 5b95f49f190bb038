"""Asks two servers the same, keeps the smallest request for every kind of difference, and counts what was asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import httpx

from suites.conformance.fuzz.grammar import Case
from suites.conformance.fuzz.likeness import Class, class_of, differences
from suites.conformance.wire import Server

TRIES = 40  # of one difference, to make its request smaller


@dataclass
class Comparison:
    """The simulation and another server. `found` maps a difference to the smallest request that shows it."""

    simulated: Server
    other: Server
    found: dict[str, Case] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def ask(self, case: Case) -> list[str]:
        """Return in what the two answers to `case` differ."""
        left, right = (_ask(server, case) for server in (self.simulated, self.other))
        self.asked[_kind(right)] += 1
        return differences(case, left, right)

    def keep(self, case: Case) -> None:
        """Ask `case`, and keep it where it shows a difference that no smaller one has shown."""
        for line in self.ask(case):
            if line not in self.found or len(case.body) < len(self.found[line].body):
                self.found[line] = case

    def shrink(self, line: str) -> Case:
        """Return the request of the difference `line` without the fields that it does not need."""
        case = self.found[line]
        needed = {"prompt", "messages"}  # without one of these it is another mistake
        for name in [name for name in case.fields or {} if name not in needed][:TRIES]:
            smaller = case.without(name)
            if line in self.ask(smaller):
                case = smaller
        return case


def _ask(server: Server, case: Case) -> Class:
    try:
        try:
            answer = server.send(case.method, case.path, case.body, case.headers)
        except httpx.HTTPError:
            # A server may close a connection after a broken request, just when the next one goes out on it.
            answer = server.send(case.method, case.path, case.body, case.headers)
        return class_of(case, answer)
    except httpx.HTTPError as error:
        return {"status": 0, "content": "", "type": type(error).__name__}
    except (AssertionError, ValueError, KeyError) as error:
        return {"status": -1, "content": "", "type": f"unreadable: {type(error).__name__}"}


def _kind(found: Class) -> str:
    if found["status"] != 200:
        return str(found["status"])
    return "200 streamed" if found["content"] == "text/event-stream" else "200"
