"""A byte-level BPE vocabulary trained on a text, in the form of a `tokenizer.json`. Pure and deterministic."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise

# The split of the byte-level pre-tokenizer, for texts whose letters are those of `\w`.
_WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def byte_letters() -> dict[int, str]:
    """Return the printable letter that stands for each byte: itself where it is printable, else one from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters = {}
    shift = 0
    for byte in range(256):
        if byte in printable:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + shift)
            shift += 1
    return letters


_LETTERS = byte_letters()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`specials` have the first numbers, then bytes, then what merges made, in order."""

    specials: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    @property
    def numbers(self) -> dict[str, int]:
        tokens = [*self.specials, *_LETTERS.values(), *(left + right for left, right in self.merges)]
        return {token: number for number, token in enumerate(dict.fromkeys(tokens))}

    def encode(self, text: str) -> list[int]:
        """Return the numbers of `text`, which has no special tokens."""
        numbers = self.numbers
        rank = {pair: i for i, pair in enumerate(self.merges)}
        found = []
        for word in split(text):
            parts = list(word)
            while len(parts) > 1:
                best = min(range(len(parts) - 1), key=lambda i: rank.get((parts[i], parts[i + 1]), len(rank)))
                if (parts[best], parts[best + 1]) not in rank:
                    break
                parts[best : best + 2] = [parts[best] + parts[best + 1]]
            found += [numbers[part] for part in parts]
        return found


def split(text: str) -> list[str]:
    """Return the words of `text`, each byte as its letter."""
    return ["".join(_LETTERS[byte] for byte in word.encode()) for word in _WORD.findall(text)]


def train(text: str, specials: tuple[str, ...], size: int) -> Vocabulary:
    """Merge the most frequent pair (the last in order among equals) until `size` tokens or no pair is left."""
    counts = Counter(split(text))
    words = [tuple(word) for word in counts]
    times = list(counts.values())
    pairs: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], set[int]] = defaultdict(set)  # in which words a pair was seen

    def count(place: int, sign: int) -> None:
        for pair in pairwise(words[place]):
            pairs[pair] += sign * times[place]
            places[pair].add(place)

    for place in range(len(words)):
        count(place, 1)
    merges: list[tuple[str, str]] = []
    while len(specials) + len(_LETTERS) + len(merges) < size:
        best = max(pairs, key=lambda pair: (pairs[pair], pair), default=("", ""))
        if not pairs[best]:
            break
        merges.append(best)
        for place in places.pop(best):
            count(place, -1)
            words[place] = _merge(words[place], best)
            count(place, 1)
        del pairs[best]
    return Vocabulary(specials, tuple(merges))


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return tuple(merged)


def tokenizer_json(vocabulary: Vocabulary, bos: str, size: int = 0) -> dict[str, object]:
    """Return the content of `tokenizer.json`; `bos` is put before a text that is not a chat, unless empty.

    Numbers from the end of the vocabulary up to `size` get words that no merge makes: they are decoded, never encoded.
    """
    numbers = vocabulary.numbers
    numbers |= {f"{_LETTERS[0x20]}w{number}": number for number in range(len(numbers), size)}
    added = [
        {"id": numbers[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for token in vocabulary.specials
    ]
    bytes_only = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    begin = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [numbers.get(bos, 0)], "tokens": [bos]}},
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **bytes_only},
        "post_processor": begin if bos else {"type": "ByteLevel", **bytes_only},
        "decoder": {"type": "ByteLevel", **bytes_only},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": numbers,
            "merges": [list(pair) for pair in vocabulary.merges],
        },
    }
