"""What the simulated engine reads and says: a simple tokenizer, and readable replies that depend only on a seed."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

# A token is a word with its space, up to three digits, a sign, or white space: close to what a BPE makes of English.
_TOKEN = re.compile(r" ?[^\W\d_]{1,12}| ?\d{1,3}| ?[^\w\s]|_|\s+?(?=\s\S|$)|\s")

TEXT = Path(__file__).with_name("text.txt").read_text(encoding="utf-8")


def tokenize(text: str) -> list[str]:
    """Return the tokens of `text`; joined they are `text` again."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    return len(_TOKEN.findall(text))


def token_id(token: str, vocab: int) -> int:
    """Return a stable number for `token` below `vocab`."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) % vocab


TOKENS = tuple(tokenize(" " + " ".join(TEXT.split())))
# The first token of each sentence: where replies begin, and before which they end.
STARTS = tuple(i for i in range(len(TOKENS)) if TOKENS[i - 1] == ".")


@dataclass(frozen=True, slots=True)
class Reply:
    """A planned reply: `tokens` as they will be sent, why it ends and, for a stop string, which one."""

    tokens: tuple[str, ...]
    finish_reason: str  # stop | length
    stop_reason: str | None = None


def plan(
    seed: int,
    limit: int,
    *,
    ignore_eos: bool = False,
    min_tokens: int = 0,
    stop: tuple[str, ...] = (),
    include_stop: bool = False,
) -> Reply:
    """Return the reply for `seed`, at most `limit` tokens.

    It ends by itself after one to eight sentences (an end token, which has no text and counts) unless `ignore_eos`,
    never before `min_tokens`. A stop string ends it with the token that completes the string.
    """
    first = STARTS[seed % len(STARTS)]
    natural = limit if ignore_eos else _natural_length(first, seed, min_tokens)
    count = min(limit, natural)
    words = [TOKENS[(first + i) % len(TOKENS)] for i in range(count)]
    words[0] = words[0].lstrip()
    ended = not ignore_eos and natural < limit
    if stop:
        cut = _cut(words, stop, min_tokens, include_stop=include_stop)
        if cut is not None:
            return cut
    return Reply((*words, ""), "stop") if ended else Reply(tuple(words), "length")


def say(text: str, limit: int, *, stop: tuple[str, ...] = (), include_stop: bool = False) -> Reply:
    """Return `text` as a reply of at most `limit` tokens, its end token included."""
    words = tokenize(text)
    cut = _cut(words[:limit], stop, 0, include_stop=include_stop) if stop else None
    if cut is not None:
        return cut
    return Reply((*words, ""), "stop") if len(words) < limit else Reply(tuple(words[:limit]), "length")


def _natural_length(first: int, seed: int, min_tokens: int) -> int:
    sentences = 1 + seed // len(STARTS) % 8
    count = 0
    while True:
        count += 1
        if TOKENS[(first + count - 1) % len(TOKENS)] == ".":
            sentences -= 1
            if sentences <= 0 and count >= min_tokens:
                return count


def _cut(words: list[str], stop: tuple[str, ...], min_tokens: int, *, include_stop: bool) -> Reply | None:
    text = "".join(words)
    begin = len("".join(words[: max(min_tokens - 1, 0)]))
    found = [(end, s) for s in stop if (end := _end_of(text, s, begin)) >= 0]
    if not found:
        return None
    end, string = min(found)
    visible = end if include_stop else end - len(string)
    kept: list[str] = []
    at = 0
    while at < end:
        word = words[len(kept)]
        kept.append(word[: max(visible - at, 0)])
        at += len(word)
    return Reply(tuple(kept), "stop", string)


def _end_of(text: str, string: str, begin: int) -> int:
    at = text.find(string, begin)
    return -1 if at < 0 else at + len(string)
