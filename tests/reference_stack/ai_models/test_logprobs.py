"""Log probabilities: as many as asked for, sensible as probabilities, and the same streamed as whole."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.services.ai_models.logprobs import of_prompt, ranked


@settings(deadline=None)
@given(st.text(max_size=8), st.integers(0, 500), st.integers(0, 20))
def test_probabilities_fall_and_add_up_to_no_more_than_one(token: str, place: int, count: int) -> None:
    """The token itself is the likeliest, the others follow in order, and no token stands twice."""
    found = ranked(token, place, count)

    assert found[0][0] == token
    assert len(found) == len({one for one, _ in found}) == max(count, 1)
    assert sum(math.exp(value) for _, value in found) <= 1.0 + 1e-9
    assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=20), st.integers(0, 20))
def test_a_prompt_has_a_row_for_each_token_but_the_first(tokens: list[str], count: int) -> None:
    """Nothing is said of the first token; each other has itself and the likeliest."""
    first, *rows = of_prompt(tokens, count)

    assert first is None
    assert len(rows) == len(tokens) - 1
    for token, row in zip(tokens[1:], rows, strict=True):
        assert row is not None
        assert row[0][0] == token
        assert len({one for one, _, _ in row}) == len(row) == 1 + count


def test_streamed_and_whole_log_probabilities_agree(ideal: Any) -> None:
    """Chat and text: the pieces of a stream are the rows of the whole answer, offsets included."""
    fields = {"max_tokens": 6, "logprobs": True, "top_logprobs": 3}
    whole = ideal.chat(**fields).json["choices"][0]["logprobs"]["content"]
    _, *chunks = ideal.chat(**fields, stream=True).events
    assert [chunk["choices"][0]["logprobs"]["content"][0] for chunk in chunks] == whole
    assert [len(entry["top_logprobs"]) for entry in whole] == [3] * 6
    assert bytes(whole[0]["bytes"]).decode() == whole[0]["token"]

    for echo in (False, True):
        block = ideal.complete(max_tokens=6, logprobs=2, echo=echo).json["choices"][0]["logprobs"]
        pieces = [
            event["choices"][0]["logprobs"]
            for event in ideal.complete(max_tokens=6, logprobs=2, echo=echo, stream=True).events
        ]
        assert {key: [item for piece in pieces for item in piece[key]] for key in block} == block
        ends = [offset + len(token) for offset, token in zip(block["text_offset"], block["tokens"], strict=True)]
        assert block["text_offset"] == [0, *ends[:-1]]


def test_a_prompt_alone_can_be_echoed(ideal: Any) -> None:
    """With max_tokens 0 and echo the answer is the prompt and its log probabilities."""
    choice = ideal.complete("Hello world", max_tokens=0, echo=True, logprobs=1).json["choices"][0]

    assert choice["text"] == "Hello world"
    assert choice["logprobs"]["tokens"] == ["<s>", "Hello", " world"]
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert [row and len(row) for row in choice["prompt_logprobs"]] == [None, 2, 2]


def test_prompt_log_probabilities_compute_the_whole_prompt(start: Any) -> None:
    """A request for them finds nothing in the prefix cache, since each position has to be computed."""
    sim = start("phi3", device="ideal", enable_prompt_tokens_details=True)
    text = "one two three four five six seven eight " * 8
    sim.complete(text, max_tokens=1)
    asked = sim.complete(text, max_tokens=1, prompt_logprobs=1).json["usage"]
    plain = sim.complete(text, max_tokens=1).json["usage"]

    assert asked["prompt_tokens_details"]["cached_tokens"] == 0
    assert plain["prompt_tokens_details"]["cached_tokens"] == 64


def test_tokens_are_told_as_numbers_where_asked(ideal: Any) -> None:
    """Token numbers of prompt and reply are those of /tokenize, in log probabilities too."""
    choice = ideal.complete(
        "Hello world", max_tokens=2, return_token_ids=True, logprobs=0, return_tokens_as_token_ids=True
    ).json["choices"][0]
    known = ideal.request("POST", "/tokenize", {"prompt": "Hello world"}).json["tokens"]

    assert choice["prompt_token_ids"] == known
    assert choice["logprobs"]["tokens"] == [f"token_id:{number}" for number in choice["token_ids"]]
    assert ideal.request("POST", "/detokenize", {"tokens": choice["token_ids"]}).json["prompt"] == choice["text"]
