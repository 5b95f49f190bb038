"""Vectors of texts: of a model that was started for them, and refused by one that generates."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest

from suites.conformance.shapes import differences
from suites.conformance.wire import CHAT, COMPLETIONS, Server

EMBEDDINGS = "/v1/embeddings"
NOT_HERE = (404, {"detail": "Not Found"})
SHAPE = {
    "id": str,
    "object": "list",
    "created": int,
    "model": str,
    "data": [{"index": int, "object": "embedding", "embedding": [float]}],
    "usage": {
        "prompt_tokens": int,
        "total_tokens": int,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    },
}


def vectors(server: Server, given: object, **more: object) -> list[list[float]]:
    """Return the vectors of what is given, in its order."""
    answer = server.post(EMBEDDINGS, {"model": server.target.api_model, "input": given, **more})
    assert answer.status == 200, answer.text
    assert [row["index"] for row in answer.json["data"]] == list(range(len(answer.json["data"])))
    return [row["embedding"] for row in answer.json["data"]]


def near(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(one, other, strict=True))


@pytest.mark.vllm
def test_a_model_that_generates_has_none(server: Server) -> None:
    """A server that was started to generate does not know the route: 404 in FastAPI's body."""
    answer = server.post(EMBEDDINGS, {"model": server.target.api_model, "input": "hello"})

    assert (answer.status, answer.json) == NOT_HERE


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_model_for_vectors_generates_nothing(embedder: Server, path: str) -> None:
    """A server that was started for vectors has neither route that generates."""
    answer = embedder.ask(path)

    assert (answer.status, answer.json) == NOT_HERE


def test_an_answer_has_vllms_fields(embedder: Server) -> None:
    """A vector for each text, and vLLM's fields around them to the last."""
    answer = embedder.post(EMBEDDINGS, {"model": embedder.target.api_model, "input": ["hello world", "a second one"]})

    assert answer.status == 200, answer.text
    assert differences(answer.json, SHAPE) == []
    assert answer.json["model"] == embedder.target.api_model
    assert len(answer.json["data"]) == 2
    assert answer.json["usage"]["total_tokens"] == answer.json["usage"]["prompt_tokens"] > 2


def test_vectors_are_as_long_as_each_other(embedder: Server) -> None:
    """All vectors are of one width and of length 1; the same text has the same vector, alone or among others."""
    one, two, again = vectors(embedder, ["hello world", "the weather is fine", "hello world"])

    assert len({len(one), len(two), len(again)}) == 1
    assert all(math.isclose(math.hypot(*each), 1.0, rel_tol=1e-3) for each in (one, two))
    assert near(one, again)
    assert near(one, vectors(embedder, "hello world")[0])
    assert not near(one, two)


def test_token_numbers_are_taken(embedder: Server) -> None:
    """One list of numbers is one text, a list of lists are several, and their tokens are counted."""
    assert len(vectors(embedder, [5, 6, 7])) == 1
    body = {"model": embedder.target.api_model, "input": [[5, 6, 7], [8]]}
    answer = embedder.post(EMBEDDINGS, body)

    assert len(answer.json["data"]) == 2
    assert answer.json["usage"]["prompt_tokens"] == 4


def test_base64_holds_the_same_numbers(embedder: Server) -> None:
    """The other encoding is the little-endian 32-bit floats."""
    encoded: Any = vectors(embedder, "hello world", encoding_format="base64")[0]
    raw = base64.b64decode(encoded)

    assert near(list(struct.unpack(f"<{len(raw) // 4}f", raw)), vectors(embedder, "hello world")[0])


@pytest.mark.vllm
def test_a_conversation_has_a_vector(embedder: Server) -> None:
    """Messages are put into the model's template, as for a completion."""
    body = {"model": embedder.target.api_model, "messages": [{"role": "user", "content": "hi"}]}

    assert embedder.post(EMBEDDINGS, body).status == 200


@pytest.mark.parametrize(
    "more",
    [
        {"input": None},
        {"input": []},
        {"input": [[]]},
        {"input": 5},
        {"input": {"a": 1}},
        {"input": ["a", 5]},
        {"input": [99_999_999]},
        {"input": [-1]},
        {"input": "hello world " * 2000},
        {"dimensions": 16},
        {"encoding_format": "ascii"},
        {"cache_salt": ""},
    ],
    ids=lambda more: str(more)[:30],
)
def test_what_is_no_text_is_refused(embedder: Server, more: dict[str, object]) -> None:
    """What cannot be embedded is 400 with an error in OpenAI's shape, and the server goes on."""
    answer = embedder.post(EMBEDDINGS, {"model": embedder.target.api_model, "input": "x"} | more)

    assert answer.status == 400, answer.text
    assert (set(answer.error), answer.error["code"]) == ({"message", "type", "param", "code"}, 400)
    assert len(vectors(embedder, "x")) == 1


def test_an_empty_text_is_what_the_tokenizer_makes_of_it(embedder: Server) -> None:
    """A text without words is a vector where the tokenizer puts a sign before every text, else it is refused."""
    prompt = {"model": embedder.target.api_model, "prompt": ""}
    signs = embedder.post("/tokenize", prompt).json["count"]
    answer = embedder.post(EMBEDDINGS, {"model": embedder.target.api_model, "input": ""})

    assert answer.status == (200 if signs else 400), answer.text


def test_another_model_is_not_found(embedder: Server) -> None:
    """A model that this server does not have is 404; without a name its own is asked."""
    answer = embedder.post(EMBEDDINGS, {"model": "nope", "input": "hello"})

    assert (answer.status, answer.error["type"]) == (404, "NotFoundError")
    assert embedder.post(EMBEDDINGS, {"input": "hello"}).status == 200


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}])
def test_vectors_need_the_key(embedder: Server, header: dict[str, str]) -> None:
    """The route is behind the key as all of /v1."""
    answer = embedder.send("POST", EMBEDDINGS, b"{}", {"content-type": "application/json", **header}, key=False)

    assert (answer.status, answer.json) == (401, {"error": "Unauthorized"})


def test_vectors_are_counted(embedder: Server) -> None:
    """Prompt tokens and ended requests are counted, one a text, and no token was generated."""
    prompt = embedder.metric("vllm:prompt_tokens_total")
    done = embedder.metric("vllm:request_success_total")

    vectors(embedder, [[1, 2, 3], [4]])

    assert embedder.metric("vllm:prompt_tokens_total") == prompt + 4
    assert embedder.metric("vllm:request_success_total") == done + 2
    assert embedder.metric("vllm:generation_tokens_total") == 0


@pytest.mark.vllm
def test_a_text_is_cut_to_what_was_asked(embedder: Server) -> None:
    """truncate_prompt_tokens keeps so many tokens, the first ones: what comes after them makes no difference."""
    asked = {"model": embedder.target.api_model, "truncate_prompt_tokens": 3}
    first, second = (embedder.post(EMBEDDINGS, {**asked, "input": ids}) for ids in ([5, 6, 7, 8], [5, 6, 7, 9]))

    assert first.status == 200, first.text
    assert first.json["usage"]["prompt_tokens"] == 3
    assert first.json["data"][0]["embedding"] == pytest.approx(second.json["data"][0]["embedding"])
