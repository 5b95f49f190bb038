"""Scripted answers: exact words at exact times, and each fault at its token."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reference_stack.schemas.configuration.model import ModelSettings
from tests.reference_stack.ai_models.conftest import serving


@pytest.fixture(scope="module")
def sim() -> Iterator[Any]:
    """Hermes without physics that does what requests say."""
    with serving(ModelSettings(service="hermes", device="ideal", allow_scripts=True)) as running:
        yield running


def deltas(answer: Any) -> list[str]:
    return [event["choices"][0]["delta"]["content"] for event in answer.events if "delta" in event["choices"][0]]


def test_a_reply_is_said_word_for_word(sim: Any) -> None:
    """A text is said as it is and ends by itself; a list gives the tokens one by one; the limit still cuts."""
    text = sim.chat(hxp_script={"reply": "Good day, sir."}).json
    tokens = sim.chat(hxp_script={"reply": ["Goo", "d d", "ay"]}, stream=True)
    cut = sim.chat(hxp_script={"reply": ["a", "b", "c"]}, max_tokens=2).json["choices"][0]

    assert text["choices"][0]["message"]["content"] == "Good day, sir."
    assert text["choices"][0]["finish_reason"] == "stop"
    assert deltas(tokens) == ["", "Goo", "d d", "ay", ""]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("ab", "length")
    assert sim.complete(hxp_script={"reply": "Yes."}).json["choices"][0]["text"] == "Yes."


def test_calls_are_made_as_given(sim: Any) -> None:
    """Several calls with arguments of one's own, whole and streamed, even where no tool was offered."""
    calls = [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {"y": "z"}}]
    whole = sim.chat(hxp_script={"tool_calls": calls}).json["choices"][0]
    streamed = sim.chat(hxp_script={"tool_calls": calls}, stream=True).events
    parts = [part for event in streamed for part in event["choices"][0]["delta"].get("tool_calls", [])]

    assert [json.loads(call["function"]["arguments"]) for call in whole["message"]["tool_calls"]] == [
        {"x": 1},
        {"y": "z"},
    ]
    assert whole["finish_reason"] == streamed[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert [part["function"]["name"] for part in parts if "name" in part["function"]] == ["a", "b"]


@pytest.mark.parametrize("stream", [True, False])
def test_tokens_come_at_their_time(sim: Any, stream: bool) -> None:
    """The first token waits as told, and each further one, with and without streaming."""
    begin_s = time.perf_counter()
    answer = sim.chat(
        hxp_script={"reply": ["a", "b", "c"], "first_token_s": 0.15, "token_s": 0.05}, stream=stream, max_tokens=3
    )
    took_s = time.perf_counter() - begin_s

    assert answer.status == 200
    assert 0.25 <= took_s < 1.5


def ask(port: int, fault: dict[str, Any], **fields: object) -> socket.socket:
    """Send a chat request under `fault` and return its connection."""
    script = {"reply": ["a", "b", "c"], "fault": fault}
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"messages": messages, "stream": True, "hxp_script": script, **fields}).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    connection.sendall(head % len(body) + body)
    return connection


def read_all(connection: socket.socket) -> bytes:
    got = b""
    while piece := connection.recv(65536):
        got += piece
    return got


@pytest.mark.parametrize(("at_token", "seen"), [(0, []), (2, ["", "a", "b"]), (9, ["", "a", "b", "c", ""])])
def test_an_error_comes_as_from_a_dead_engine(sim: Any, at_token: int, seen: list[str]) -> None:
    """After its token the stream has vLLM's error event and [DONE], under status 200; whole answers are 500."""
    fault = {"kind": "error", "at_token": at_token}
    script = {"reply": ["a", "b", "c"], "fault": fault}
    streamed = sim.chat(hxp_script=script, stream=True)
    whole = sim.chat(hxp_script=script)

    assert streamed.status == 200
    assert [event["choices"][0]["delta"]["content"] for event in streamed.events[:-1]] == seen
    assert streamed.events[-1]["error"]["code"] == 500
    assert (whole.status, whole.error["type"]) == (500, "InternalServerError")
    assert whole.error["message"].startswith("EngineCore encountered an issue")


def test_a_cut_ends_the_connection_without_an_end(sim: Any) -> None:
    """The tokens before it arrive, then the connection closes in the middle of the answer."""
    with ask(sim.port, {"kind": "cut", "at_token": 2}) as connection:
        got = read_all(connection)

    assert got.count(b"data: ") == 3
    assert b"[DONE]" not in got
    assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("stream", [True, False])
def test_a_reset_is_one(sim: Any, stream: bool) -> None:
    """The peer sees ECONNRESET, not an orderly end."""
    with (
        ask(sim.port, {"kind": "reset", "at_token": 1}, stream=stream) as connection,
        pytest.raises(ConnectionResetError),
    ):
        read_all(connection)


def test_a_stall_says_nothing_more_and_frees_its_place(sim: Any, eventually: Callable[..., None]) -> None:
    """After its token nothing comes while the connection is open, and nothing is left when the client goes."""
    with ask(sim.port, {"kind": "stall", "at_token": 1}) as connection:
        got = b""
        while b'"a"' not in got:
            got += connection.recv(65536)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)

    eventually(lambda: sim.metric("vllm:num_requests_running") == 0)
    assert sim.chat(max_tokens=1).status == 200


@pytest.mark.parametrize("at_token", [0, 2])
def test_an_abort_ends_the_reply(sim: Any, at_token: int) -> None:
    """The engine gives the reply up: finish_reason `abort` after its tokens, counted as such."""
    before = sim.metric("vllm:request_success_total", finished_reason="abort")
    script = {"reply": ["a", "b", "c"], "fault": {"kind": "abort", "at_token": at_token}}
    said = sim.chat(hxp_script=script).json["choices"][0]

    assert (said["message"]["content"], said["finish_reason"]) == ("ab"[:at_token], "abort")
    assert sim.metric("vllm:request_success_total", finished_reason="abort") == before + 1


def test_an_abort_after_the_end_is_none(sim: Any) -> None:
    """A reply that has ended is not aborted any more."""
    script = {"reply": ["a"], "fault": {"kind": "abort", "at_token": 7}}

    assert sim.chat(hxp_script=script).json["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"replay": "x"}, "hxp_script.replay: unknown key; did you mean 'reply'?"),
        (
            {"fault": {"kind": "reset", "at_tokens": 1}},
            "hxp_script.fault.at_tokens: unknown key; did you mean 'at_token'?",
        ),
        ({"fault": {"kind": "explode"}}, "hxp_script.fault.kind: Input should be 'error', 'abort'"),
        ({"tool_calls": [{"nam": "a"}]}, "hxp_script.tool_calls.0.nam: unknown key; did you mean 'name'?"),
        ({"reply": "x", "tool_calls": [{"name": "a"}]}, "give reply or tool_calls, not both"),
        ({"token_s": -1}, "hxp_script.token_s: Input should be greater than or equal to 0"),
        ("reset", "hxp_script: Input should be"),
    ],
)
def test_a_wrong_script_is_refused_by_name(sim: Any, script: Any, message: str) -> None:
    """A script with a mistake is a 400 that names the key and the nearest right one, never half a script."""
    answer = sim.chat(hxp_script=script)

    assert answer.status == 400
    assert message in answer.error["message"]


def test_scripts_are_off_unless_allowed(ideal: Any) -> None:
    """A server that was not started for scripts refuses them and says how to allow them."""
    answer = ideal.chat(hxp_script={"reply": "x"})

    assert answer.status == 400
    assert "allow_scripts" in answer.error["message"]


def test_a_server_can_have_a_script_of_its_own(start: Any) -> None:
    """The script among the settings answers every request; that of a request wins where it is allowed."""
    sim = start("phi3", device="ideal", allow_scripts=True, script={"reply": "Ours."})

    assert sim.chat().json["choices"][0]["message"]["content"] == "Ours."
    assert sim.chat(hxp_script={"reply": "Mine."}).json["choices"][0]["message"]["content"] == "Mine."
