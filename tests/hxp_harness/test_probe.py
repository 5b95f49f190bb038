"""A probe's answers say what a server did, and never raise for it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import GoldenServer, golden
from hxp_harness.probe import Probe
from hxp_harness.target import Target


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoldenServer]:
    """A golden server that answers in a few milliseconds."""
    with golden(tmp_path_factory.mktemp("golden"), Behaviour(ttft_s=0.002, itl_s=0.001)) as running:
        yield running


@pytest.fixture
def ask(server: GoldenServer) -> Iterator[Probe]:
    with Probe(Target(server.base_url, server.model)) as probe:
        yield probe


@pytest.mark.parametrize("verb", [Probe.complete, Probe.stream])
def test_a_complete_answer_is_ok(ask: Probe, verb: Callable[..., object]) -> None:
    """Streamed or not, a complete answer has its text, its tokens and its reason to end."""
    reply = ask.complete("hello", max_tokens=5) if verb is Probe.complete else ask.stream("hello", max_tokens=5)

    assert reply.ok
    assert reply.text
    assert reply.output_tokens == 5
    assert reply.finish_reason == "length"
    assert reply.chunks == (1 if verb is Probe.complete else 5)


def test_paths_outside_the_api_are_reached(ask: Probe) -> None:
    """A probe asks the server's root for what lies beside /v1."""
    assert ask.get("/health").status_code == 200


def test_a_refusal_is_an_answer(ask: Probe) -> None:
    """A refused request is a Reply with its status and what the server said."""
    whole = ask.complete("hello", golden={"status": 429})
    streamed = ask.stream("hello", golden={"status": 429})

    assert (whole.status, streamed.status) == (429, 429)
    assert whole.error
    assert not whole.ok
    assert not streamed.ok


def test_a_dead_server_is_an_answer() -> None:
    """Where nobody listens the Reply has status 0 and the kind of failure."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with Probe(Target(f"http://127.0.0.1:{port}/v1", "x")) as probe:
            for reply in (probe.complete("hello"), probe.stream("hello")):
                assert (reply.status, reply.ok) == (0, False)
                assert reply.error == "ConnectError"


def test_the_key_goes_along(server: GoldenServer) -> None:
    """A target's key is sent as a bearer token, and does not appear when the target is printed."""
    target = Target(server.base_url, server.model, api_key="secret-of-the-test")
    with Probe(target) as probe:
        assert probe.complete("hello").ok
    assert "secret-of-the-test" not in repr(target)
