"""Our shapes of the OpenAI API against real vLLM's answers and the official client, in both directions."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from openai.types import Completion as TheirCompletion
from openai.types import Model as TheirModel
from openai.types.chat import ChatCompletion as TheirChat
from openai.types.chat import ChatCompletionChunk as TheirChunk
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from reference_stack.schemas.api import openai_replies as ours
from reference_stack.schemas.api.openai import ChatRequest, CompletionRequest
from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.sim_server import create_app

DATA = Path(__file__).parents[1] / "ai_models" / "data"
PROBES = [
    probe
    for file in ("vllm-0.32-probes.json", "vllm-0.32-tools.json")
    for probe in json.loads((DATA / file).read_text(encoding="utf-8"))
]
SHAPES: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "chat.completion": (ours.ChatCompletion, TheirChat),
    "chat.completion.chunk": (ours.ChatCompletionChunk, TheirChunk),
    "text_completion": (ours.Completion, TheirCompletion),
    "list": (ours.ModelList, TheirModel),
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
HELLO: Any = [{"role": "user", "content": "hello"}]


def answers(body: str) -> list[dict[str, Any]]:
    """Return the JSON objects of an answer: one, or those of its events."""
    if not body.startswith("data: "):
        return [json.loads(body)]
    events = [part.removeprefix("data: ") for part in body.split("\n\n") if part.strip()]
    return [json.loads(event) for event in events if event != "[DONE]"]


RECORDED = [
    answer
    for probe in PROBES
    if probe["status"] == 200 and probe["path"].startswith(("/v1/chat/completions", "/v1/completions", "/v1/models"))
    for answer in answers(probe["body"])
    if "error" not in answer and "object" in answer
]
REFUSED = [
    json.loads(probe["body"]) for probe in PROBES if probe["status"] >= 400 and probe["body"].startswith('{"error":{')
]


def test_every_recorded_answer_is_of_our_shape() -> None:
    """What real vLLM answered fits our strict shapes to the last key, and is written back as it was."""
    kinds = {answer["object"] for answer in RECORDED}
    assert kinds >= {"chat.completion", "chat.completion.chunk", "text_completion"}
    assert len(RECORDED) > 100
    for answer in RECORDED:
        shape, _ = SHAPES[answer["object"]]
        read = shape.model_validate(answer)
        assert read.model_dump(mode="json", exclude_unset=True) == answer


def test_every_recorded_refusal_is_of_our_shape() -> None:
    """The errors of real vLLM fit our shape too."""
    assert len(REFUSED) > 40
    for refused in REFUSED:
        assert ours.ErrorReply.model_validate(refused).model_dump(exclude_unset=True) == refused


def has_untyped_null(choice: dict[str, Any]) -> bool:
    """Whether a text choice has a null that OpenAI's API sends and its type leaves out: no reason to end yet, and no
    probability of the first token of an echo.
    """
    logprobs = choice["logprobs"] or {"token_logprobs": []}
    return choice["finish_reason"] is None or None in logprobs["token_logprobs"]


def test_the_official_client_reads_what_our_shapes_write() -> None:
    """What our shapes write is, read strictly by OpenAI's own types, the same text, usage and calls."""
    compared = 0
    for answer in RECORDED:
        shape, theirs = SHAPES[answer["object"]]
        written = shape.model_validate(answer).model_dump(mode="json", exclude_unset=True)
        if theirs is TheirCompletion and any(has_untyped_null(choice) for choice in written["choices"]):
            continue
        for item in written["data"] if answer["object"] == "list" else [written]:
            kept = theirs.model_validate(item).model_dump(mode="json", exclude_unset=True)
            assert {key: kept[key] for key in item} == item
            compared += 1
    assert compared > 100


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[openai.OpenAI, list[tuple[str, dict[str, Any]]]]]:
    """The official client on a simulated model, and the bodies that it sent, by path."""
    app = create_app(ModelSettings(service="hermes", device="ideal", enable_auto_tool_choice=True))
    sent: list[tuple[str, dict[str, Any]]] = []

    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""

        async def heard() -> Message:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.request" and not message.get("more_body") and body:
                sent.append((scope["path"], json.loads(body)))
                body = b""
            return message

        await app(scope, heard if scope["type"] == "http" else receive, send)

    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(listening, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    base_url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
    # pragma: allowlist nextline secret
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=20) as client:
        yield client, sent
    server.should_exit = True
    thread.join(10)
    sock.close()


def test_we_read_what_the_official_client_sends(
    served: tuple[openai.OpenAI, list[tuple[str, dict[str, Any]]]],
) -> None:
    """Every body that the official client sends is read by our shapes with each of its values."""
    client, sent = served
    sent.clear()
    client.chat.completions.create(
        model="hermes",
        messages=[{"role": "system", "content": "short"}, {"role": "user", "content": [{"type": "text", "text": "a"}]}],
        max_tokens=3,
        temperature=0.5,
        top_p=0.9,
        n=2,
        seed=7,
        stop=["x"],
        presence_penalty=0.1,
        frequency_penalty=0.1,
        logprobs=True,
        top_logprobs=2,
        logit_bias={"5": 1},
        user="me",
    )
    client.chat.completions.create(
        model="hermes", messages=HELLO, max_completion_tokens=4, tools=[WEATHER], tool_choice="auto"
    )
    client.chat.completions.create(
        model="hermes", messages=HELLO, max_tokens=4, response_format={"type": "json_object"}
    )
    client.completions.create(model="hermes", prompt=["a", "b"], max_tokens=2, echo=True, logprobs=1, suffix=None)
    client.completions.create(model="hermes", prompt=[1, 2, 3], max_tokens=2)
    assert len(sent) == 5
    for path, body in sent:
        shape = ChatRequest if path.endswith("/chat/completions") else CompletionRequest
        read = shape.model_validate(body).model_dump(mode="json", exclude_unset=True, by_alias=True)
        known = {key: value for key, value in body.items() if key != "user"}  # a name for the operator's own books
        assert {key: read[key] for key in known} == known


def test_the_official_client_reads_what_we_say(
    served: tuple[openai.OpenAI, list[tuple[str, dict[str, Any]]]],
) -> None:
    """Whole, streamed, with log probabilities and refused: the client's objects say what our server said."""
    client, _ = served
    whole = client.chat.completions.with_raw_response.create(
        model="hermes", messages=HELLO, max_tokens=6, logprobs=True, temperature=0
    )
    said = ours.ChatCompletion.model_validate_json(whole.content)
    assert whole.parse().choices[0].message.content == said.choices[0].message.content
    streamed = client.chat.completions.create(
        model="hermes",
        messages=HELLO,
        max_tokens=6,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [ours.ChatCompletionChunk.model_validate(chunk.model_dump(exclude_unset=True)) for chunk in streamed]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == said.choices[0].message.content
    assert chunks[-1].usage is not None
    assert said.usage.completion_tokens == chunks[-1].usage.completion_tokens == 6
    assert [model.id for model in client.models.list()] == ["hermes"]
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nobody", messages=HELLO)
    assert refused.value.param == "model"
    ours.ErrorReply.model_validate(refused.value.response.json())
