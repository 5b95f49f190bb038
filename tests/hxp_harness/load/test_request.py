"""A request asks for exactly what the schedule says."""

import json

from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.request import Renderer, body_of
from tests.hxp_harness.load.conftest import dues, plan_for


def test_a_rendered_request_is_whole_http() -> None:
    """Head and body fit together, and the key and the id are in the head."""
    due = dues(1, tokens=9)[0]
    head, _, body = Renderer(plan_for("http://h:81/v1"), "k", "run").request(due).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert {"Host: h:81", "Authorization: Bearer k", "X-Request-Id: hxp-run-0", f"Content-Length: {len(body)}"} <= {
        *lines
    }
    message = json.loads(body)
    assert len(message["messages"][0]["content"].split()) == 16
    assert (message["max_tokens"], message["stream"], message["ignore_eos"]) == (9, True, True)
    assert message["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_no_key_no_header() -> None:
    """Without a key nothing is claimed."""
    assert b"Authorization" not in Renderer(plan_for("http://h/v1"), "", "run").request(dues(1)[0])


def test_a_credential_in_the_url_is_not_sent_as_host() -> None:
    """The Host header is host and port only."""
    assert b"Host: h:1\r\n" in Renderer(plan_for("http://u:p@h:1/v1"), "", "run").request(dues(1)[0])


def test_fields_that_a_target_does_not_know_are_left_out() -> None:
    """A plain OpenAI server gets plain OpenAI fields."""
    plan = LoadPlan("http://h/v1", "m", "completions", True, 1.0, ignore_eos=False, continuous_usage=False)
    assert body_of(plan, "hello", 3) == {
        "model": "m",
        "prompt": "hello",
        "max_tokens": 3,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
