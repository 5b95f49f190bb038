"""A model service alone, on the engine that was asked for (--engine), or any server (--target)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hxp_harness.metrics.scrape import fetch
from hxp_harness.probe import Probe
from hxp_harness.target import Target

Ask = Callable[[Target], Probe]


def test_a_completion_is_whole(target: Target, probe: Ask) -> None:
    """A chat completion has text, a reason to end and no more tokens than were asked for."""
    reply = probe(target).complete("Say something about the weather.", max_tokens=12)

    assert reply.ok, reply.error
    assert reply.text
    assert reply.output_tokens is not None
    assert 1 <= reply.output_tokens <= 12


def test_a_stream_says_what_a_whole_answer_says(target: Target, probe: Ask) -> None:
    """At temperature 0 the streamed text is the same as the whole one, and usage agrees."""
    ask = probe(target)
    whole = ask.complete("Count slowly.", max_tokens=8, temperature=0, seed=1)
    streamed = ask.stream("Count slowly.", max_tokens=8, temperature=0, seed=1)

    assert streamed.ok, streamed.error
    assert streamed.text == whole.text
    assert streamed.output_tokens == whole.output_tokens
    assert streamed.chunks >= 1


@pytest.mark.parametrize("fields", [{"max_tokens": -1}, {"temperature": -1}, {"messages": "no list"}, {"n": 0}])
def test_a_wrong_parameter_is_refused(target: Target, probe: Ask, fields: dict[str, object]) -> None:
    """A parameter out of range is 400 with an OpenAI-shaped error, and the server goes on serving."""
    ask = probe(target)
    refused = ask.complete("hello", **({"max_tokens": 4} | fields))  # type: ignore[arg-type]  # wrong on purpose

    assert refused.status == 400, refused
    assert '"error"' in refused.error
    assert ask.complete("hello", max_tokens=2).ok


def test_an_unknown_model_is_not_found(target: Target, probe: Ask) -> None:
    """A model that the server does not have is 404."""
    assert probe(target).complete("hello", model="no-such-model").status == 404


def test_the_counters_count_what_was_said(target: Target, probe: Ask, pytestconfig: pytest.Config) -> None:
    """The server's own token counter moves by the usage of the answers."""
    before = fetch(target.metrics_url)
    if before is None and pytestconfig.getoption("--target"):  # our own models have counters
        pytest.skip("the target shows no counters")
    said = [probe(target).complete("hello", max_tokens=6).output_tokens or 0 for _ in range(3)]
    after = fetch(target.metrics_url)

    assert before is not None
    assert after is not None
    assert after.since(before, "generation_tokens") == sum(said) > 0
