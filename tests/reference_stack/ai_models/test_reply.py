"""Tokens and replies: what is counted, how a reply ends, and that a seed decides it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference_stack.services.ai_models.reply import TOKENS, count_tokens, plan, token_id, tokenize


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    """No character is lost or invented, and counting agrees with splitting."""
    assert "".join(tokenize(text)) == text
    assert count_tokens(text) == len(tokenize(text))


def test_words_are_tokens() -> None:
    """A word with its space is one token; signs, long words and numbers are more."""
    assert tokenize("Hello world, it is 12345.") == ["Hello", " world", ",", " it", " is", " 123", "45", "."]
    assert count_tokens("x" * 25) == 3


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=600))
def test_ignore_eos_gives_exactly_the_limit(seed: int, limit: int) -> None:
    """Without an end of its own a reply has as many tokens as were asked for, each with text."""
    reply = plan(seed, limit, ignore_eos=True)

    assert len(reply.tokens) == limit
    assert all(reply.tokens)
    assert reply.finish_reason == "length"


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=2000), st.integers(min_value=0, max_value=300))
def test_natural_end(seed: int, limit: int, least: int) -> None:
    """Left alone a reply ends with a sentence, never over the limit nor before min_tokens."""
    reply = plan(seed, limit, min_tokens=min(least, limit))

    assert min(least, limit) <= len(reply.tokens) <= limit
    assert reply == plan(seed, limit, min_tokens=min(least, limit))
    if reply.finish_reason == "stop":
        assert reply.tokens[-1] == ""
        assert "".join(reply.tokens).endswith(".")
    else:
        assert len(reply.tokens) == limit


def test_stop_string_ends_the_reply() -> None:
    """The reply ends before the stop string, with the token that completes it, and says which it was."""
    whole = "".join(plan(0, 100, ignore_eos=True).tokens)
    reply = plan(0, 100, ignore_eos=True, stop=("never there", " reads the"))

    assert "".join(reply.tokens) == whole[: whole.index(" reads the")]
    assert (reply.finish_reason, reply.stop_reason) == ("stop", " reads the")
    assert len(reply.tokens) == len(tokenize(whole[: whole.index(" reads the") + len(" reads the")]))


def test_stop_string_may_be_kept() -> None:
    """With include_stop the text ends with the stop string."""
    assert "".join(plan(0, 100, stop=("reads",), include_stop=True).tokens).endswith(" reads")


def test_stop_waits_for_min_tokens() -> None:
    """A stop string in the first min_tokens does not end the reply."""
    early = plan(0, 200, ignore_eos=True, stop=(" the",))
    late = plan(0, 200, ignore_eos=True, stop=(" the",), min_tokens=50)

    assert len(early.tokens) < 10
    assert len(late.tokens) >= 50
    assert late.finish_reason == "stop"


def test_a_stop_that_never_comes_changes_nothing() -> None:
    """A stop string that is not in the reply leaves it whole."""
    assert plan(3, 40, stop=("zzz",)) == plan(3, 40)


def test_token_numbers_are_stable() -> None:
    """The same token has the same number, below the size of the vocabulary."""
    numbers = {token_id(token, 1000) for token in TOKENS}

    assert numbers == {token_id(token, 1000) for token in TOKENS}
    assert all(0 <= number < 1000 for number in numbers)
