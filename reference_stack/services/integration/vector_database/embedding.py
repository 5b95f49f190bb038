"""Text as vectors without a model: hashed pieces of words, and hashed words. Pure and the same on every machine.

The dense vector counts the pieces of 3 to 5 characters of each word, hashed with a sign into a fixed number of places
(feature hashing: Weinberger et al., 2009; pieces of words: Bojanowski et al., 2017), damped and normed to length 1. So
inflections and slips of the pen stay near. It knows spelling and no meaning: "slow" is not near "latency" unless both
are written. Whoever embeds documents writes the words that people will use.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

SIZE = 384
_WORD = re.compile(r"[a-z0-9]+")
_PIECES = range(3, 6)


def words_of(text: str) -> list[str]:
    """Return the words of `text` in lower case; "_" and "-" part them."""
    return _WORD.findall(text.lower())


def dense(text: str) -> list[float]:
    """Return `text` as SIZE numbers, of length 1; a text without any word points along the first axis."""
    places = [0.0] * SIZE
    for piece, count in Counter(_pieces(text)).items():
        number = _hash(piece)
        places[(number >> 1) % SIZE] += (1.0 if number & 1 else -1.0) * (1.0 + math.log(count))
    length = math.hypot(*places)
    return [place / length for place in places] if length else [1.0] + [0.0] * (SIZE - 1)


def sparse(text: str) -> dict[int, float]:
    """Return the weight of each word of `text` by its number; the server weighs rare words more."""
    return {_hash(word) >> 32: 1.0 + math.log(count) for word, count in Counter(words_of(text)).items()}


def _pieces(text: str) -> Iterator[str]:
    for word in words_of(text):
        marked = f"<{word}>"
        yield marked
        for length in _PIECES:
            yield from (marked[start : start + length] for start in range(len(marked) - length + 1))


def _hash(text: str) -> int:
    """Return 64 bits of BLAKE2b."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
