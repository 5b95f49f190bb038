"""How long a prompt and an output may be."""

from __future__ import annotations

import pytest

from suites.conformance.wire import CHAT, Server


def words(tokens: int) -> list[int]:
    """Return a prompt of exactly so many tokens."""
    return [5 + i % 50 for i in range(tokens)]


@pytest.mark.parametrize("tokens", [1, 2, 7])
def test_max_tokens(server: Server, path: str, tokens: int) -> None:
    """An answer has as many tokens as were asked for where it does not end before, and says `length`."""
    answer = server.ask(path, max_tokens=tokens, ignore_eos=True)

    assert answer.usage["completion_tokens"] == tokens
    assert answer.choice()["finish_reason"] == "length"


def test_max_completion_tokens_wins(server: Server) -> None:
    """Of a chat's max_tokens and max_completion_tokens the latter counts."""
    answer = server.chat(max_tokens=9, max_completion_tokens=3, ignore_eos=True)

    assert answer.usage["completion_tokens"] == 3


def test_an_output_that_does_not_fit_is_cut(server: Server, max_model_len: int) -> None:
    """Where prompt and max_tokens are together over the limit, the output ends at the limit."""
    prompt = words(max_model_len - 5)
    answer = server.complete(prompt, max_tokens=100, ignore_eos=True)

    assert answer.usage["total_tokens"] == max_model_len
    assert answer.choice()["finish_reason"] == "length"


@pytest.mark.vllm
def test_more_than_the_model_can_is_refused(server: Server, path: str, max_model_len: int) -> None:
    """A max_tokens over the model's length is 400; the length itself is cut to what fits."""
    refused = server.ask(path, max_tokens=max_model_len + 1)

    assert (refused.status, refused.error["param"]) == (400, "max_tokens")
    assert server.ask(path, max_tokens=max_model_len, stop=[" ", "e", "a"]).status == 200


def test_a_prompt_that_leaves_room_for_one(server: Server, max_model_len: int) -> None:
    """A prompt of one token less than the limit gets one token."""
    answer = server.complete(words(max_model_len - 1), max_tokens=4)

    assert answer.status == 200, answer.text
    assert answer.usage["completion_tokens"] == 1


def test_a_prompt_at_the_limit_is_refused(server: Server, max_model_len: int) -> None:
    """A prompt as long as the model leaves no token to make, and is 400."""
    answer = server.complete(words(max_model_len))

    assert answer.status == 400
    assert (answer.error["type"], answer.error["param"]) == ("BadRequestError", "max_tokens")


@pytest.mark.parametrize("over", [1, 500])
def test_a_prompt_over_the_limit_is_refused(server: Server, max_model_len: int, over: int) -> None:
    """A prompt longer than the model is 400 and names the limit."""
    answer = server.complete(words(max_model_len + over))

    assert answer.status == 400
    assert answer.error["type"] == "BadRequestError"
    assert f"maximum context length is {max_model_len} tokens" in answer.error["message"]


def test_a_long_conversation_is_refused(server: Server, max_model_len: int) -> None:
    """A conversation over the limit is 400, streamed or not."""
    for stream in (False, True):
        answer = server.chat("hello world " * max_model_len, stream=stream)
        assert answer.status == 400
        assert answer.error["param"] == "input_tokens"


def test_a_chat_may_fill_what_is_left(server: Server, max_model_len: int) -> None:
    """A chat without max_tokens may be as long as the model; a stop string ends it."""
    answer = server.post(CHAT, {"messages": [{"role": "user", "content": "x"}], "stop": [" "], "temperature": 0})

    assert answer.status == 200, answer.text
    assert answer.usage["total_tokens"] < max_model_len


@pytest.mark.vllm
@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("prompt", ["one two three four five six", words(12)], ids=["text", "numbers"])
def test_a_prompt_is_cut_to_what_was_asked(server: Server, prompt: object, side: str | None) -> None:
    """truncate_prompt_tokens keeps so many tokens, by default and with `left` the last ones; a shorter prompt stays."""
    whole = server.complete(prompt, return_token_ids=True, max_tokens=1)
    ids = whole.choice()["prompt_token_ids"]
    for keep in (3, len(ids), len(ids) + 1):
        asked = {"truncate_prompt_tokens": keep, "truncation_side": side, "return_token_ids": True, "max_tokens": 1}
        answer = server.complete(prompt, **asked)

        assert answer.status == 200, answer.text
        assert answer.usage["prompt_tokens"] == min(keep, len(ids))
        kept = answer.choice()["prompt_token_ids"]
        assert kept[-1] == (ids[:keep] if side == "right" else ids)[-1]


@pytest.mark.vllm
def test_a_conversation_is_cut_to_what_was_asked(server: Server) -> None:
    """Of a chat, too, truncate_prompt_tokens keeps so many tokens."""
    assert server.chat(truncate_prompt_tokens=4).usage["prompt_tokens"] == 4


@pytest.mark.vllm
def test_a_prompt_is_cut_to_what_the_model_can(server: Server, max_model_len: int) -> None:
    """-1 cuts a prompt over the limit so that one token can be made; more than the limit is 400."""
    answer = server.complete(words(max_model_len + 9), truncate_prompt_tokens=-1, max_tokens=4)
    refused = server.complete(words(3), truncate_prompt_tokens=max_model_len + 1)

    assert answer.status == 200, answer.text
    assert answer.usage["prompt_tokens"] == max_model_len - 1
    assert (refused.status, refused.error["param"]) == (400, "truncate_prompt_tokens")


@pytest.mark.vllm
@pytest.mark.parametrize("fields", [{"truncate_prompt_tokens": 0}, {"truncation_side": "middle"}], ids=str)
def test_a_cut_that_leaves_nothing_is_refused(server: Server, fields: dict[str, object]) -> None:
    """Nothing of a prompt, or a side that is none, is 400."""
    assert server.complete(words(9), **fields).status == 400
