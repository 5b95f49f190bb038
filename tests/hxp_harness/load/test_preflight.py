"""What a target is asked before any load, and what each wrong answer means."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
import respx

from hxp_harness.errors import ExitCode, HxpError, NotReady, UsageError
from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.preflight import preflight
from hxp_harness.profile import Contract
from hxp_harness.target import Target
from tests.hxp_harness.load.conftest import (
    FINISH,
    Peer,
    ServerFactory,
    completion,
    event,
    response,
    stream,
    token,
    usage,
)

BASE = "http://target.test/v1"
STREAMED = Contract.model_validate({"prompt_tokens": 128, "output_tokens": 64, "rate_rps": 50.0})
WHOLE = STREAMED.model_copy(update={"stream": False, "api": "completions"})
MODELS = {"object": "list", "data": [{"id": "mixtral"}, {"id": "phi3"}]}


def words_in(body: dict[str, object]) -> int:
    messages = body.get("messages")
    text = messages[0]["content"] if isinstance(messages, list) else body["prompt"]
    return len(str(text).split())


def count_tokens(body: dict[str, object]) -> int:
    """A tokenizer of 1.5 tokens a word and a template of 10 tokens."""
    return 10 + words_in(body) * 3 // 2


def openai(peer: Peer) -> None:
    """Answer as an OpenAI server does, streaming or not."""
    while request := peer.request():
        if request.line.startswith("GET"):
            peer.send(response(MODELS))
        elif "/tokenize" in request.line:
            peer.send(response({"detail": "Not Found"}, "404 Not Found"))
        elif request.body["stream"]:
            count = count_tokens(request.body)
            peer.send(stream([event(token()), event(FINISH), event(usage(1, count)), event(b"[DONE]")]))
        else:
            peer.send(response(completion(1, count_tokens(request.body))))


@pytest.mark.parametrize("contract", [STREAMED, WHOLE], ids=["stream", "whole"])
def test_two_prompts_tell_how_the_target_counts(serve: ServerFactory, contract: Contract) -> None:
    """Tokens a word and the template's tokens come out of usage, through a real socket."""
    server = serve(openai)
    plan = preflight(Target(server.base_url, "mixtral", "key"), contract)
    assert plan == LoadPlan(
        server.base_url,
        "mixtral",
        contract.api,
        contract.stream,
        30.0,
        continuous_usage=contract.stream,
        tokens_per_word=1.5,
        overhead_tokens=10.0,
    )
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer key"}
    assert [request.body.get("max_tokens") for request in server.requests] == [None, 1, 1, None]


@pytest.mark.parametrize(
    ("refused", "continuous_usage", "ignore_eos"),
    [
        (("continuous_usage_stats",), False, True),
        (("ignore_eos",), True, False),
        (("ignore_eos", "continuous"), False, False),
    ],
)
def test_a_strict_server_gets_plain_requests(
    refused: tuple[str, ...], continuous_usage: bool, ignore_eos: bool
) -> None:
    """Only the fields that a server refuses are done without."""

    def answer(request: httpx.Request) -> httpx.Response:
        if any(name in request.content.decode() for name in refused):
            return httpx.Response(400, json={"error": {"message": "unknown field"}})
        count = count_tokens(json.loads(request.content))
        return httpx.Response(200, content=event(token()) + event(FINISH) + event(usage(1, count)))

    with respx.mock(base_url=BASE) as router:
        router.get("/models").respond(404)
        router.post("/chat/completions").mock(side_effect=answer)
        router.post("http://target.test/tokenize").respond(404)
        plan = preflight(Target(BASE, "mixtral"), STREAMED)
    assert (plan.continuous_usage, plan.ignore_eos) == (continuous_usage, ignore_eos)


def ask(models: httpx.Response, answer: httpx.Response, *, key: str = "", model: str = "mixtral") -> HxpError:
    """Return the error of a preflight against these two answers."""
    with respx.mock(base_url=BASE, assert_all_called=False) as router:
        router.get("/models").mock(return_value=models)
        router.post("/chat/completions").mock(return_value=answer)
        with pytest.raises(HxpError) as caught:
            preflight(Target(BASE, model, key), STREAMED)
    return caught.value


@pytest.mark.parametrize(("key", "words"), [("", "wants an API key"), ("wrong", "refuses the API key")])
@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_names_the_option(status: int, key: str, words: str) -> None:
    """Whether /models or the first request refuses: the option is named, the key is not shown."""
    refusal = httpx.Response(status, json={"error": "Unauthorized"})
    for error in (ask(refusal, refusal, key=key), ask(httpx.Response(200, json=MODELS), refusal, key=key)):
        assert isinstance(error, UsageError)
        assert words in error.message
        assert "--api-key-env" in error.hint
        assert "wrong" not in str(error)


@pytest.mark.parametrize(
    ("answer", "model", "hint"),
    [
        (httpx.Response(404, json={"error": {"message": "no such model"}}), "mixtrall", "did you mean 'mixtral'?"),
        (httpx.Response(400, json={"error": {"message": "bad model"}}), "zzz", "known: mixtral, phi3"),
    ],
)
def test_an_unknown_model_names_the_known_ones(answer: httpx.Response, model: str, hint: str) -> None:
    """The nearest spelling, or all that the target offers."""
    error = ask(httpx.Response(200, json=MODELS), answer, model=model)
    assert isinstance(error, UsageError)
    assert model in error.message
    assert hint in error.hint


def test_an_unknown_model_of_a_target_without_a_list_has_the_targets_words() -> None:
    """Where nothing is listed the target's own words stand."""
    error = ask(httpx.Response(200, text="<html>"), httpx.Response(404, json={"detail": "Not Found"}))
    assert "Not Found" in error.hint


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(503, text=""), "status 503: nothing"),
        (httpx.Response(500, json={"error": {"message": "engine died"}}), "status 500: engine died"),
        (httpx.Response(200, text="<html>hello</html>"), "not as OpenAI's API does"),
        (httpx.Response(200, content=event({"hello": 1})), "not as OpenAI's API does"),
        (httpx.Response(200, content=event(token()) + event(FINISH)), "does not say usage.prompt_tokens"),
        (httpx.Response(200, content=event(token()) + event(usage(1, 5))), "cannot be right"),
        (httpx.Response(200, content=b"x" * 2_000_000), "did not end its answer"),
    ],
)
def test_a_target_that_is_no_openai_server_is_not_ready(answer: httpx.Response, words: str) -> None:
    """Each way of not being usable is said in its own words."""
    error = ask(httpx.Response(200, json=MODELS), answer)
    assert isinstance(error, NotReady)
    assert error.exit_code == ExitCode.NOT_READY
    assert words in str(error)
    assert error.hint


def test_a_target_that_is_down_is_named() -> None:
    """The URL and what to check."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotReady, match=f"nothing answers at http://127.0.0.1:{port}/v1") as caught:
        preflight(Target(f"http://127.0.0.1:{port}/v1", "m"), STREAMED)
    assert "started" in caught.value.hint


def test_a_target_without_tls_is_given_its_own_url(serve: ServerFactory) -> None:
    """Https to a port that speaks plain HTTP: the hint is the URL to type."""

    def script(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        peer.wait_until_gone()

    server = serve(script)
    with pytest.raises(NotReady) as caught:
        preflight(Target(server.base_url.replace("http:", "https:"), "m"), STREAMED)
    assert caught.value.hint == f"it speaks no TLS there: --target {server.base_url}"


def test_a_target_that_speaks_no_http_is_said(serve: ServerFactory) -> None:
    """Something else listens there."""

    def script(peer: Peer) -> None:
        peer.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        peer.wait_until_gone()

    with pytest.raises(NotReady, match="does not speak HTTP"):
        preflight(Target(serve(script).base_url, "m"), STREAMED)


@pytest.mark.parametrize(
    ("slow", "words"),
    [(httpx.ConnectTimeout, "took no connection within 5 s"), (httpx.ReadTimeout, "gave no answer within 60 s")],
)
def test_a_target_that_hangs_is_given_up(slow: type[httpx.TimeoutException], words: str) -> None:
    """Nothing waits for ever."""
    with respx.mock(base_url=BASE) as router:
        router.get("/models").mock(side_effect=slow)
        with pytest.raises(NotReady, match=words):
            preflight(Target(BASE, "m"), STREAMED)


def test_a_key_that_no_header_can_carry_is_refused() -> None:
    """A line end in the key is a mistake in the environment, not a second header."""
    with pytest.raises(UsageError, match="no header can carry"):
        preflight(Target(BASE, "m", "key\r\nX: y"), STREAMED)
