"""Cuts a text into passages that are short enough to be an answer. Pure."""

from __future__ import annotations

import re

MOST_WORDS = 160
_LONGEST_WORD = 1000  # characters: what has no spaces is cut all the same
_PARAGRAPH = re.compile(r"\n\s*\n")


def passages(text: str, most_words: int = MOST_WORDS) -> list[str]:
    """Return the words of `text` in passages of at most `most_words`, in order and each word once.

    A passage is as many whole paragraphs as it has room for; a paragraph that is longer is cut between words.
    """
    found: list[str] = []
    held: list[str] = []
    held_words = 0
    for paragraph in _PARAGRAPH.split(text):
        words = [piece for word in paragraph.split() for piece in _pieces(word)]
        if held and held_words + len(words) > most_words:
            found.append("\n\n".join(held))
            held, held_words = [], 0
        *whole, rest = [words[start : start + most_words] for start in range(0, len(words), most_words)] or [[]]
        found += [" ".join(part) for part in whole]
        if rest:
            held.append(" ".join(rest))
            held_words += len(rest)
    return [*found, "\n\n".join(held)] if held else found


def _pieces(word: str) -> list[str]:
    return [word[start : start + _LONGEST_WORD] for start in range(0, len(word), _LONGEST_WORD)]
