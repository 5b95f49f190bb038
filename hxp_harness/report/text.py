"""Text that a stranger's server may have made, fit to be shown: in a terminal, in XML, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Escape sequences drive terminals, bidirectional overrides reorder a line, and XML 1.0 has no word for the rest.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_MARKDOWN = re.compile(r"([\\`*|\[\]<>#]|(?<!\w)_|_(?!\w)|~~)")
_MENTION = re.compile(r"@(?=\w)")


def shown(text: str, longest: int = 2000) -> str:
    """Return `text` with control characters made visible as U+FFFD, cut at `longest` characters."""
    safe = _UNSHOWABLE.sub("\ufffd", text.replace("\r\n", "\n"))
    return safe if len(safe) <= longest else safe[: longest - 1] + "…"


def one_line(text: str, longest: int = 2000) -> str:
    """Return `text` as one line: what a table cell, a heading and a progress line can hold."""
    return shown(" ".join(text.split()), longest)


def markdown(text: str) -> str:
    """Return `text` as one line of Markdown that renders as itself: no tag, table cell, link or mention of its own."""
    return _MENTION.sub("@\u200b", _MARKDOWN.sub(r"\\\1", one_line(text)))


def code(text: str) -> str:
    """Return `text` for a code span in a cell: a backtick would end the span, a bar the cell, whatever is before it."""
    return one_line(text).replace("`", "'").replace("|", "/")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; its cells are padded, so that the source is a table too."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
