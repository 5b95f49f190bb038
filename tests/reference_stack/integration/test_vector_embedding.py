"""Promises of the embedding: the same text is the same vector everywhere, and spelling that is near is near."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.services.integration.vector_database.embedding import SIZE, dense, sparse


def nearness(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(dense(one), dense(other), strict=True))


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_vector_of_length_one(text: str) -> None:
    """Whatever the text, its vector has the declared size, length 1, and is the same again."""
    vector = dense(text)
    assert len(vector) == SIZE
    assert math.isclose(math.hypot(*vector), 1.0)
    assert vector == dense(text)
    assert all(0 <= number < 2**32 and weight >= 1 for number, weight in sparse(text).items())


def test_the_numbers_are_those_of_every_machine() -> None:
    """The number of a word is fixed, so that one machine finds what another stored."""
    assert sparse("token tokens TOKEN") == {1057079962: 1 + math.log(2), 86402779: 1.0}


def test_near_spelling_is_near() -> None:
    """An inflection or a slip of the pen is much nearer than another word."""
    assert nearness("latency", "latencies") > 0.4
    assert nearness("throughput", "throughptu") > 0.3
    assert abs(nearness("latency", "mixtral")) < 0.2
    assert nearness("slow first token", "the first token was slow") > 0.7


def test_names_are_parted() -> None:
    """A name with "_" or "-" is its words."""
    assert sparse("error_rate") == sparse("error-rate") == sparse("Error rate")
