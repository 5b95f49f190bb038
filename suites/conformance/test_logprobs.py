"""How probable the tokens of an answer were."""

from __future__ import annotations

from typing import Any

import pytest

from suites.conformance.wire import Server

ASKED = {"max_tokens": 5, "ignore_eos": True}


def chat_tokens(server: Server, **fields: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.chat(logprobs=True, **ASKED, **fields).choice()["logprobs"]["content"]
    assert len(found) == 5
    return found


def test_one_for_each_token_of_a_chat(server: Server) -> None:
    """Every token has a value of at most 0 and its bytes; together they are the text."""
    answer = server.chat(logprobs=True, **ASKED)
    found = answer.choice()["logprobs"]["content"]

    assert len(found) == 5
    assert all(row["logprob"] <= 0 for row in found)
    assert all(bytes(row["bytes"]).decode("utf-8", "replace") == row["token"] for row in found)
    assert "".join(row["token"] for row in found) == answer.choice()["message"]["content"]


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_so_many_alternatives(server: Server, count: int) -> None:
    """top_logprobs is how many alternatives each token has, the likeliest first."""
    for row in chat_tokens(server, top_logprobs=count):
        values = [other["logprob"] for other in row["top_logprobs"]]
        assert len(values) == count
        assert values == sorted(values, reverse=True)


def test_greedy_takes_the_likeliest(server: Server) -> None:
    """At temperature 0 each token is its own first alternative."""
    for row in chat_tokens(server, top_logprobs=2):
        assert (row["token"], row["logprob"]) == (row["top_logprobs"][0]["token"], row["top_logprobs"][0]["logprob"])


def test_of_a_text_completion(server: Server) -> None:
    """Four lists have one entry for each token; the offsets are where the tokens lie in the text."""
    choice = server.complete(logprobs=2, **ASKED).choice()
    rows = choice["logprobs"]

    assert {name: len(row) for name, row in rows.items()} == dict.fromkeys(rows, 5)
    assert "".join(rows["tokens"]) == choice["text"]
    lengths = [len(token) for token in rows["tokens"]]
    assert rows["text_offset"] == [sum(lengths[:i]) for i in range(5)]
    assert all(token in top for token, top in zip(rows["tokens"], rows["top_logprobs"], strict=True))


def test_of_a_stream(server: Server) -> None:
    """A stream's events have the values of their own tokens; together they are those of the whole answer."""
    whole = chat_tokens(server, top_logprobs=1)
    events = server.chat(logprobs=True, top_logprobs=1, stream=True, **ASKED).events
    rows = [row for event in events if (row := event["choices"][0]["logprobs"])]

    assert [token["token"] for row in rows for token in row["content"]] == [token["token"] for token in whole]


def test_none_unless_asked(server: Server, path: str) -> None:
    """Without logprobs there are none."""
    assert server.ask(path).choice()["logprobs"] is None


@pytest.mark.vllm
def test_an_echo_of_a_chat_has_those_of_its_prompt(server: Server) -> None:
    """A chat that is to be echoed has an entry for each token of its prompt, unasked; the first has none before it."""
    answer = server.chat(max_tokens=1, echo=True)

    entries = answer.json["prompt_logprobs"]
    assert len(entries) == answer.json["usage"]["prompt_tokens"]
    assert entries[0] is None
    assert all(len(entry) == 1 for entry in entries[1:])
