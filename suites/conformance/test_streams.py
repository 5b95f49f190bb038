"""How a stream is framed and what its events say together."""

from __future__ import annotations

import json
from typing import Any

from suites.conformance.wire import CHAT, Server


def pieces(events: list[dict[str, Any]], index: int = 0) -> list[str]:
    """Return the text of each event of one choice that has a text."""
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    texts = [choice["delta"].get("content") if "delta" in choice else choice["text"] for choice in choices]
    return [text for text in texts if text]


def text_of(choice: dict[str, Any]) -> str:
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def test_lines(server: Server, path: str) -> None:
    """A stream is lines of `data: ` and JSON with an empty line between, and `data: [DONE]` at its end."""
    answer = server.ask(path, stream=True)

    assert answer.is_stream
    assert answer.body.count(b"data: [DONE]") == 1
    assert b"\r" not in answer.body
    assert b"\n\n\n" not in answer.body
    assert len(answer.events) >= 2


def test_the_role_comes_first(server: Server) -> None:
    """The first event of a chat names the role and has no text; no other names it."""
    events = server.chat(stream=True).events
    roles = ["role" in event["choices"][0]["delta"] for event in events]

    assert roles == [True] + [False] * (len(events) - 1)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_text_is_that_of_the_whole_answer(server: Server, path: str) -> None:
    """At temperature 0 the pieces of a stream make the text of the answer that is not streamed."""
    whole = server.ask(path, max_tokens=24)
    events = server.ask(path, max_tokens=24, stream=True).events

    assert "".join(pieces(events)) == text_of(whole.choice())
    assert events[-1]["choices"][0]["finish_reason"] == whole.choice()["finish_reason"]


def test_one_event_says_why_it_ends(server: Server, path: str) -> None:
    """Only the last event of a choice has a finish_reason."""
    events = server.ask(path, stream=True).events
    reasons = [event["choices"][0]["finish_reason"] for event in events]

    assert reasons[:-1] == [None] * (len(events) - 1)
    assert reasons[-1] in {"stop", "length"}


def test_no_usage_unless_asked(server: Server, path: str) -> None:
    """Without include_usage no event has a usage."""
    assert all(event.get("usage") is None for event in server.ask(path, stream=True).events)


def test_a_usage_event(server: Server, path: str) -> None:
    """With include_usage the last event has the usage and no choices; no other has one."""
    events = server.ask(path, stream=True, stream_options={"include_usage": True}).events

    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] > 0
    assert all(event.get("usage") is None for event in events[:-1])


def test_usage_as_it_goes(server: Server, path: str) -> None:
    """With continuous_usage_stats every event has the tokens so far; they grow up to the usage at the end."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = server.ask(path, stream=True, max_tokens=6, ignore_eos=True, stream_options=options).events
    counts = [event["usage"]["completion_tokens"] for event in events]

    assert counts == sorted(counts)
    assert counts[0] == (0 if path == CHAT else 1)
    assert counts[-1] == counts[-2] == 6
    assert all(
        use["total_tokens"] == use["prompt_tokens"] + use["completion_tokens"] for use in (e["usage"] for e in events)
    )


def test_continuous_usage_alone_does_nothing(server: Server, path: str) -> None:
    """continuous_usage_stats without include_usage gives no usage at all."""
    options = {"include_usage": False, "continuous_usage_stats": True}
    events = server.ask(path, stream=True, stream_options=options).events

    assert all(event.get("usage") is None for event in events)


def test_choices_are_streamed_side_by_side(server: Server, path: str) -> None:
    """With n the events of a stream belong to n choices, each of which ends once."""
    events = server.ask(path, stream=True, n=3, temperature=1, seed=7).events
    ends = [choice["index"] for event in events for choice in event["choices"] if choice["finish_reason"]]

    assert sorted(ends) == [0, 1, 2]
    assert all(pieces(events, index) for index in range(3))


def test_an_error_is_no_stream(server: Server, path: str) -> None:
    """What is refused before the first token is a JSON error with its own status, streamed or not."""
    answer = server.ask(path, stream=True, temperature=-1)

    assert answer.status == 400
    assert not answer.is_stream
    assert json.loads(answer.body)["error"]["code"] == 400
