"""A sentence that is read word by word, and refused at the column where it stops making sense."""

from __future__ import annotations

import re
from typing import NoReturn

from hxp_harness.errors import UsageError


class Sentence:
    """`text` as far as it is read, up to the column `at`; white space is single."""

    def __init__(self, text: str) -> None:
        self.text = "".join(" " if letter.isspace() else letter for letter in text).rstrip()
        self.at = 0

    def take(self, pattern: re.Pattern[str], wanted: str, hint: str) -> tuple[str, int]:
        """Return the next word of this kind and its column. Raises UsageError when another stands there."""
        match = pattern.match(self.text, self.at)
        if match is None:
            self.refuse(self.next_at, f"expected {wanted}", hint)
        self.at = match.end()
        return match["word"], match.start("word")

    def skip(self, word: str) -> bool:
        """Read `word` if it comes next; a name must end there."""
        start = self.next_at
        end = start + len(word)
        if not self.text.startswith(word, start) or (word.isalpha() and self.text[end : end + 1].strip(" (,)")):
            return False
        self.at = end
        return True

    @property
    def done(self) -> bool:
        return not self.text[self.at :].strip()

    @property
    def next_at(self) -> int:
        """The column of what comes next."""
        rest = self.text[self.at :]
        return self.at + len(rest) - len(rest.lstrip()) if rest.strip() else len(self.text)

    def refuse(self, column: int, problem: str, hint: str) -> NoReturn:
        raise UsageError(f"{problem}, in the gate\n  {self.text}\n  {' ' * column}^", hint=hint)
