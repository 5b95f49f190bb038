"""Mutants on the wire of a model server, and the conformance test that catches each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from suites.conformance.wire import CHAT, Server
from tests.mutants.changes import (
    DONE,
    Tree,
    in_bodies,
    in_errors,
    in_events,
    in_question,
    in_status,
    on_the_page,
    with_header,
)
from tests.mutants.middleman import Change
from tests.mutants.mutant import Mutant, Workshop

KEY, KEY_VARIABLE = "sk-mutants-4f1d2c9b", "HXP_MUTANTS_KEY"
ROOT = Path(__file__).parents[2]
_CHAT = {"path": CHAT}


@dataclass(frozen=True, slots=True)
class Asks:
    """One test of the suite: its file and function, the part of its id in brackets, and the same as arguments."""

    file: str
    test: str
    brackets: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)

    @property
    def node(self) -> str:
        return f"suites/conformance/{self.file}.py::{self.test}{self.brackets}"

    def by_command(self, target: Any) -> str:
        """Type what a user types; return what pytest says of a failure."""
        options = ("--target", target.base_url, "--api-model", target.api_model, "--api-key-env", KEY_VARIABLE)
        quiet = ("-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-n", "0", "--no-header")
        argv = [sys.executable, "-m", "pytest", self.node, *options, *quiet]
        env = os.environ | {KEY_VARIABLE: target.api_key}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, env=env, timeout=120)
        if done.returncode == pytest.ExitCode.OK and " passed" in done.stdout:
            return ""
        words = [line.removeprefix("E").strip() for line in done.stdout.splitlines() if line.startswith("E  ")]
        return words[0] if words else f"exit code {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"

    def here(self, target: Any) -> str:
        """Call the same function in this process."""
        function = getattr(import_module(f"suites.conformance.{self.file}"), self.test)
        with Server(target) as server:
            try:
                function(server, **self.arguments)
            except (AssertionError, ValueError, KeyError, IndexError) as error:
                return f"{type(error).__name__}: {error}"
        return ""


def _mutant(name: str, breaks: str, asks: Asks, how: str, change: Change) -> Mutant:
    def trial(workshop: Workshop, broken: bool) -> str:
        with workshop.front(change if broken else None) as target:
            return asks.by_command(target) if workshop.by_command else asks.here(target)

    return Mutant(name, breaks, asks.node, how, trial)


def _merged(events: list[Tree]) -> list[Tree]:
    """Drop the last event with text but keep that which says why it ended."""
    return [*events[:-3], events[-1]]


def _last(events: list[Tree], reason: str | None) -> list[Tree]:
    found = deepcopy(events)
    for event in found:
        for choice in event["choices"]:
            choice["finish_reason"] = choice["finish_reason"] and reason
    return found


def _ids(events: list[Tree]) -> list[Tree]:
    return [{**event, "id": f"chatcmpl-{number}"} for number, event in enumerate(events)]


def _role(events: list[Tree]) -> list[Tree]:
    found = deepcopy(events)
    for event in found[1:]:
        event["choices"][0]["delta"]["role"] = "assistant"
    return found


def _used(tree: Tree, more: int, which: str) -> Tree:
    usage = tree["usage"]
    return {**tree, "usage": {**usage, which: usage[which] + more, "total_tokens": usage["total_tokens"] + more}}


def _own_shape(tree: Tree) -> Tree:
    return {"detail": tree["error"]["message"]}


def _streams(test: str) -> Asks:
    return Asks("test_streams", test, "[chat]", _CHAT)


_WRONG_FIELD = Asks(
    "test_errors",
    "test_a_wrong_body",
    "[chat-empty]",
    {"path": CHAT, "body": b"", "param": "body"},
)
_WRONG_KEY = Asks(
    "test_key",
    "test_a_wrong_key",
    "[GET-/v1/models-Bearer wrong]",
    {"method": "GET", "path": "/v1/models", "header": "Bearer wrong"},
)
_NO_MODEL = Asks("test_errors", "test_no_model_is_the_served_one", "[chat-none]", {"path": CHAT, "model": None})
_ADDS_UP = Asks(
    "test_usage", "test_the_parts_make_the_total", "[chat-whole-1]", {"path": CHAT, "stream": False, "n": 1}
)
_COUNTED = Asks(
    "test_counters", "test_one_answer_moves", "[generation_tokens_total]", {"name": "generation_tokens_total"}
)

WIRE = (
    _mutant(
        "truncated stream sent as done", "I4", _streams("test_text_is_that_of_the_whole_answer"),
        "drops two events before the last one", in_events(_merged),
    ),
    _mutant(
        "stream without [DONE]", "I4", _streams("test_lines"), "leaves out the last line",
        in_events(lambda events: events, end=b""),
    ),
    _mutant(
        "[DONE] twice", "I16", _streams("test_lines"), "writes the last line twice",
        in_events(lambda events: events, end=DONE * 2),
    ),
    _mutant(
        "duplicate chunk", "I16", _streams("test_text_is_that_of_the_whole_answer"), "sends the third event twice",
        in_events(lambda events: [*events[:3], *events[2:]]),
    ),
    _mutant(
        "chunks out of order", "I16", _streams("test_text_is_that_of_the_whole_answer"), "swaps two events",
        in_events(lambda events: [*events[:2], events[3], events[2], *events[4:]]),
    ),
    _mutant(
        "finish_reason missing", "I4", _streams("test_one_event_says_why_it_ends"), "makes it null",
        in_events(lambda events: _last(events, None)),
    ),
    _mutant(
        "usage missing", "I2", _streams("test_a_usage_event"), "drops the event with the usage",
        in_events(lambda events: [event for event in events if event["choices"]]),
    ),
    _mutant(
        "usage of the output too high", "I2", _ADDS_UP, "adds a token to usage and total",
        in_bodies(lambda tree: _used(tree, 1, "completion_tokens")),
    ),
    _mutant(
        "usage of the prompt too low", "I2",
        Asks("test_usage", "test_token_numbers_count_one_each"), "takes a token from usage and total",
        in_bodies(lambda tree: _used(tree, -1, "prompt_tokens")),
    ),
    _mutant(
        "role repeated", "vLLM's wire", Asks("test_streams", "test_the_role_comes_first"),
        "puts the role into every event", in_events(_role),
    ),
    _mutant(
        "ids of one stream differ", "I3", Asks("test_shapes", "test_streams_have_one_id", "[chat]", _CHAT),
        "numbers the events", in_events(_ids),
    ),
    _mutant(
        "another model's name", "I3", _NO_MODEL, "answers under another name",
        in_bodies(lambda tree: {**tree, "model": "another"}),
    ),
    _mutant(
        "unknown model served", "I10",
        Asks("test_errors", "test_an_unknown_model", "[chat-whole]", {"path": CHAT, "stream": False}),
        "asks for the served model instead", in_question(lambda tree: {**tree, "model": ""}),
    ),
    _mutant("error as 200", "I11", _WRONG_FIELD, "makes 400 a 200", in_status({400: 200})),
    _mutant("5xx instead of 4xx", "I11", _WRONG_FIELD, "makes 400 a 500", in_status({400: 500})),
    _mutant(
        "non-OpenAI error shape", "I11", _WRONG_FIELD, 'answers {"detail": ...}', in_bodies(_own_shape, status=400)
    ),
    _mutant(
        "fail-open key", "I10", _WRONG_KEY, "puts the right key in place of any",
        with_header("authorization", f"Bearer {KEY}"),
    ),
    _mutant(
        "key echoed", "I11", _WRONG_KEY, "says the key that it refuses",
        in_errors(lambda ask, _: json.dumps({"error": ask.headers.get("authorization")}).encode(), status=401),
    ),
    _mutant(
        "shorter output than asked", "the contract",
        Asks("test_limits", "test_max_tokens", "[chat-7]", {"path": CHAT, "tokens": 7}), "asks for half",
        in_question(lambda tree: {**tree, "max_tokens": tree["max_tokens"] // 2}),
    ),
    _mutant(
        "no cancel on disconnect", "I12",
        Asks("test_abort", "test_hanging_up_ends_the_work", "[chat-1]", {"path": CHAT, "clients": 1}),
        "reads the answer to its end, whoever has left", Change(deaf=True),
    ),
    _mutant(
        "counter that stands still", "I13", _COUNTED, "shows 0 generated tokens",
        on_the_page("vllm:generation_tokens_total", lambda _: 0.0),
    ),
    _mutant(
        "tokens counted twice", "I13", _COUNTED, "shows twice the generated tokens",
        on_the_page("vllm:generation_tokens_total", lambda value: 2 * value),
    ),
    _mutant(
        "leaked slot", "I7", Asks("test_abort", "test_an_abort_frees_the_cache"), "shows a tenth of the cache in use",
        on_the_page("vllm:kv_cache_usage_perc", lambda value: value + 0.1),
    ),
)  # fmt: skip
