"""A text that a regular expression matches. Pure; what it cannot make it refuses by name."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterable
from re import _constants as op  # type: ignore[attr-defined]  # the parse tree has no public door
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from reference_stack.services.ai_models.api_error import ApiError, unsupported

LONGEST = 20_000  # characters; a repeat of a repeat grows quickly
_MORE_REPEATS = 3  # beyond the least that is asked for

_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    op.CATEGORY_DIGIT: str.isdigit,
    op.CATEGORY_NOT_DIGIT: lambda letter: not letter.isdigit(),
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_NOT_SPACE: lambda letter: not letter.isspace(),
    op.CATEGORY_WORD: lambda letter: letter.isalnum() or letter == "_",
    op.CATEGORY_NOT_WORD: lambda letter: not (letter.isalnum() or letter == "_"),
}
# Preferred letters first: a set that allows letters and digits shall not give signs.
_LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits
_PRINTABLE = _LETTERS + string.punctuation + " \t\n"


def matching(pattern: str, draw: random.Random, *, whole: bool = True) -> str:
    """Return a text that matches `pattern`: all of it with `whole`, else somewhere in it.

    Raises ApiError where the pattern is none, or uses what is not understood (look-around, back references, word
    boundaries, anchors inside).
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ApiError(f'Grammar error: invalid regex "{pattern}": {error}') from None
    text = "".join(_Maker(draw).make(parser.parse(pattern)))
    if not (compiled.fullmatch if whole else compiled.search)(text):
        raise unsupported(f"the regex {pattern!r}")
    return text


class _Maker:
    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._length = 0
        self._ended = False

    def make(self, tree: Iterable[tuple[Any, Any]]) -> Iterable[str]:
        for kind, value in tree:
            if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
                self._length += 1
                if self._ended:
                    raise unsupported("an anchor inside a regex, or a word boundary")
                if self._length > LONGEST:
                    raise unsupported(f"a regex whose text is longer than {LONGEST} characters")
                yield self._letter(kind, value)
            elif kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
                least, most, inner = value
                for _ in range(least + self._draw.randint(0, min(most - least, _MORE_REPEATS))):
                    yield from self.make(inner)
            elif kind is op.BRANCH:
                yield from self.make(self._draw.choice(value[1]))
            elif kind is op.SUBPATTERN:
                yield from self.make(value[3])
            elif kind is op.ATOMIC_GROUP:
                yield from self.make(value)
            elif kind is op.AT:
                self._anchor(value)
            else:
                raise unsupported(f"{str(kind).lower()} in a regex")

    def _anchor(self, value: Any) -> None:
        # Where it cannot hold, looking for a match could take for ever.
        if value in (op.AT_END, op.AT_END_STRING):
            self._ended = True
        elif value not in (op.AT_BEGINNING, op.AT_BEGINNING_STRING) or self._length:
            raise unsupported("an anchor inside a regex, or a word boundary")

    def _letter(self, kind: Any, value: Any) -> str:
        if kind is op.LITERAL:
            return chr(value)
        if kind is op.IN:
            negated = value[0][0] is op.NEGATE
            inside = [_member(*item) for item in value[negated:]]
            allowed = [c for c in _PRINTABLE if any(test(c) for test in inside) is not negated]
            first = value[0]
            if not allowed and first[0] in (op.LITERAL, op.RANGE):
                return chr(first[1] if first[0] is op.LITERAL else first[1][0])
        else:
            allowed = [c for c in _LETTERS if kind is op.ANY or ord(c) != value]
        if not allowed:
            raise unsupported("a set in a regex without printable letters")
        usual = [c for c in allowed if c in _LETTERS]
        return self._draw.choice(usual or allowed)


def _member(kind: Any, value: Any) -> Callable[[str], bool]:
    if kind is op.CATEGORY:
        return _CATEGORIES[value]
    low, high = value if kind is op.RANGE else (value, value)
    return lambda letter: bool(low <= ord(letter) <= high)
