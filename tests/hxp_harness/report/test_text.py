"""Text of strangers: shown, and never obeyed."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.report.text import markdown, one_line, shown

TEXTS = st.text(st.characters())


@given(TEXTS)
def test_what_is_shown_cannot_drive_a_terminal(text: str) -> None:
    """No control character but newline and tab survives, and no half of a surrogate pair."""
    said = shown(text)
    said.encode("utf-8")
    assert not [one for one in said if unicodedata.category(one) == "Cc" and one not in "\n\t"]


@given(TEXTS)
def test_one_line_is_one_line(text: str) -> None:
    """What goes into a table cell has no line break of any kind."""
    assert len(one_line(text).splitlines()) <= 1


def test_long_text_is_cut() -> None:
    """A megabyte of error message does not become a megabyte of report."""
    assert len(shown("x" * 10**6)) == 2000
    assert shown("x" * 10**6).endswith("…")


def test_markdown_renders_as_itself() -> None:
    """Neither tags nor tables, emphasis, links or mentions come from foreign text."""
    assert markdown("<b> | *a* [l](u) `c`") == r"\<b\> \| \*a\* \[l\](u) \`c\`"
    assert markdown("_a_ error_rate ~~x~~") == r"\_a\_ error_rate \~~x\~~"
    assert "@\u200beveryone" in markdown("@everyone")
