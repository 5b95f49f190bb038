"""Why an answer ends, and what it then says."""

from __future__ import annotations

import pytest

from suites.conformance.test_streams import pieces, text_of
from suites.conformance.wire import Server


def first_words(server: Server, path: str) -> str:
    """Return what the model says first, a few words, so that a stop string can be taken out of it."""
    text = text_of(server.ask(path, max_tokens=12, ignore_eos=True).choice())
    assert text.count(" ") >= 3, text
    return text


@pytest.mark.parametrize("include", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_stop_string(server: Server, path: str, stream: bool, include: bool) -> None:
    """A stop string ends the answer where it begins, or behind it where that is asked for, and is its stop_reason."""
    said = first_words(server, path)
    stop = said.lstrip()[4:8]
    asked = {"max_tokens": 12, "ignore_eos": True, "stop": [stop], "include_stop_str_in_output": include}
    answer = server.ask(path, stream=stream, **asked)
    end = said.index(stop) + (len(stop) if include else 0)
    last = answer.events[-1]["choices"][0] if stream else answer.choice()

    assert ("".join(pieces(answer.events)) if stream else text_of(last)) == said[:end]
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", stop)


def test_the_first_of_several_stop_strings(server: Server, path: str) -> None:
    """Of several stop strings the one that comes first ends the answer."""
    said = first_words(server, path).lstrip()
    early, late = said[3:5], said[9:12]
    answer = server.ask(path, max_tokens=12, ignore_eos=True, stop=[late, "\u2603", early])

    assert answer.choice()["stop_reason"] == early


def test_a_stop_string_that_does_not_come(server: Server, path: str) -> None:
    """A stop string that the model does not say changes nothing."""
    plain = server.ask(path, max_tokens=6, ignore_eos=True)
    answer = server.ask(path, max_tokens=6, ignore_eos=True, stop="\u2603 no such thing")

    assert text_of(answer.choice()) == text_of(plain.choice())
    assert (answer.choice()["finish_reason"], answer.choice()["stop_reason"]) == ("length", None)


def test_a_natural_end(server: Server) -> None:
    """A model that has said all says `stop` without a stop_reason, and its end token is counted."""
    answer = server.chat(max_tokens=500)

    assert (answer.choice()["finish_reason"], answer.choice()["stop_reason"]) == ("stop", None)
    assert 1 < answer.usage["completion_tokens"] < 500


def test_ignore_eos(server: Server) -> None:
    """With ignore_eos the answer goes on behind its natural end."""
    natural = server.chat(max_tokens=500).usage["completion_tokens"]
    answer = server.chat(max_tokens=natural + 20, ignore_eos=True)

    assert answer.usage["completion_tokens"] == natural + 20
    assert answer.choice()["finish_reason"] == "length"


def test_min_tokens(server: Server) -> None:
    """With min_tokens the natural end does not come before."""
    natural = server.chat(max_tokens=500).usage["completion_tokens"]
    answer = server.chat(max_tokens=500, min_tokens=natural + 10)

    assert answer.usage["completion_tokens"] >= natural + 10


def test_min_tokens_holds_stop_strings_back(server: Server, path: str) -> None:
    """A stop string within the first min_tokens tokens does not end the answer."""
    said = first_words(server, path)
    answer = server.ask(path, max_tokens=12, min_tokens=12, ignore_eos=True, stop=[said.lstrip()[1:3]])

    assert answer.usage["completion_tokens"] == 12
