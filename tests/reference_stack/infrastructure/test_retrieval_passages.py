"""Promises of cutting a text: nothing is lost, nothing is too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.retrieval.passages import passages

TEXTS = st.text(alphabet="ab \n\t", max_size=300)


@given(text=TEXTS, most=st.integers(1, 12))
def test_every_word_is_in_one_passage(text: str, most: int) -> None:
    """All words come once and in their order, and no passage has more of them than it may, nor none."""
    found = passages(text, most)

    assert [word for each in found for word in each.split()] == text.split()
    assert all(1 <= len(each.split()) <= most for each in found)


def test_paragraphs_stay_together() -> None:
    """A passage holds whole paragraphs while they fit, and only one that is too long is cut."""
    assert passages("a b\n\nc d\n\ne f g h i", 4) == ["a b\n\nc d", "e f g h", "i"]
    assert passages("a b\n\nc d e", 4) == ["a b", "c d e"]


def test_what_has_no_spaces_is_cut() -> None:
    """A word of any length becomes passages that are bounded."""
    found = passages("x" * 5000, 2)

    assert "".join(found).replace(" ", "") == "x" * 5000
    assert max(map(len, found)) <= 2001
