"""Log probabilities in vLLM's shapes. The figures are made up, the same each time, and never add up to more than one.

The token that is said is always the likeliest; a prompt's own tokens are unlikely, as a random text is to a model.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reference_stack.services.ai_models.reply import TOKENS, token_id

END = "</s>"  # how the end token, which has no text, is named


@dataclass(frozen=True, slots=True)
class Named:
    """How tokens are named: by their text, or as `token_id:N`."""

    vocab: int
    by_number: bool

    def __call__(self, token: str | int) -> str:
        number = self.number(token)
        return f"token_id:{number}" if self.by_number else text_of(token)

    def number(self, token: str | int) -> int:
        return token if isinstance(token, int) else token_id(token or END, self.vocab)


def text_of(token: str | int) -> str:
    return str(token) if isinstance(token, int) else token or END


def ranked(token: str | int, place: int, count: int) -> list[tuple[str | int, float]]:
    """Return `token` and the likeliest others, `count` or one in all, the likeliest first."""
    draw = zlib.crc32(f"{place} {token}".encode("utf-8", "surrogatepass"))
    chance = 0.5 + (draw % 1000) / 2100  # 0.5 to 0.98
    found: list[tuple[str | int, float]] = [(token, math.log(chance))]
    left, at = 1.0 - chance, draw
    while len(found) < count:
        at += 1
        other = TOKENS[at % len(TOKENS)]
        if all(other != known for known, _ in found):
            left /= 2
            found.append((other, math.log(left)))
    return found


def of_prompt(tokens: Sequence[str | int], count: int) -> list[list[tuple[str | int, float, int]] | None]:
    """Return for each token of a prompt itself and the `count` likeliest, each with log probability and rank.

    The first has none: nothing stands before it.
    """
    rows: list[list[tuple[str | int, float, int]] | None] = [None]
    for place, token in enumerate(tokens[1:], start=1):
        draw = zlib.crc32(f"{place} {token}".encode("utf-8", "surrogatepass"))
        own = (token, -10.0 - draw % 1000 / 100, 30 + draw % 1000)
        likely = TOKENS[(draw + 7) % len(TOKENS)]
        others = [other for other in ranked(likely, place, count + 1) if other[0] != token][:count]
        rows.append([own, *((other, value, rank) for rank, (other, value) in enumerate(others, start=1))])
    return rows


def chat_entry(token: str, place: int, top: int, name: Named) -> dict[str, Any]:
    """Return one entry of a chat's `logprobs.content`."""
    found = ranked(token, place, top)
    entries = [
        {"token": name(one), "logprob": value, "bytes": list(name(one).encode("utf-8", "replace"))}
        for one, value in found
    ]
    own = {"token": name(token), "logprob": found[0][1], "bytes": list(text_of(token).encode("utf-8", "replace"))}
    return {**own, "top_logprobs": entries[:top]}


def completion_block(
    prompt: Sequence[str | int], reply: Sequence[str], first: int, offset: int, top: int, name: Named
) -> dict[str, Any]:
    """Return the `logprobs` of a text completion: those of `prompt`, if it is echoed, and of `reply` from `first` on.

    `offset` is how many characters of tokens went before.
    """
    rows: list[tuple[str, float | None, dict[str, float] | None]] = []
    for token, found in zip(prompt, of_prompt(prompt, top) if prompt else [], strict=True):
        values = {name(one): value for one, value, _ in found or []}
        rows.append((name(token), values.get(name(token)), values or None))
    for place, token in enumerate(reply, start=first):
        values = {name(one): value for one, value in ranked(token, place, top)}
        rows.append((name(token), values[name(token)], values))
    offsets = []
    for label, _, _ in rows:
        offsets.append(offset)
        offset += len(label)
    return {
        "text_offset": offsets,
        "token_logprobs": [value for _, value, _ in rows],
        "tokens": [label for label, _, _ in rows],
        "top_logprobs": [values for _, _, values in rows],
    }


def prompt_block(tokens: Sequence[str | int], count: int, name: Named) -> list[dict[str, Any] | None]:
    """Return `prompt_logprobs`: for each token of the prompt a mapping by token number."""
    return [
        None
        if row is None
        else {
            str(name.number(token)): {"logprob": value, "rank": rank, "decoded_token": text_of(token)}
            for token, value, rank in row
        }
        for row in of_prompt(tokens, count)
    ]
