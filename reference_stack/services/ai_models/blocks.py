"""KV blocks: who holds them, and which can be found again by the tokens in them. Pure.

As vLLM V1's prefix cache: a full block is known by the hash of its tokens and of all before them. A block that nobody
holds stays findable until it is given out again: blocks without a key go first, then the longest unused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence

from reference_stack.services.ai_models.physics import BLOCK_TOKENS


def block_keys(tokens: Sequence[Hashable], salt: Hashable = None) -> tuple[int, ...]:
    """Return the key of each full block of `tokens`. Equal keys mean equal tokens up to there, and an equal salt."""
    whole = tuple(tokens)
    keys = []
    parent = hash((BLOCK_TOKENS, salt))
    for end in range(BLOCK_TOKENS, len(whole) + 1, BLOCK_TOKENS):
        parent = hash((parent, whole[end - BLOCK_TOKENS : end]))
        keys.append(parent)
    return tuple(keys)


class BlockPool:
    """The blocks of one engine, numbered from 0. A block is held by each sequence that has it in its list."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._untouched = 0  # blocks from this number on have never been given out
        self._bare: list[int] = []  # given out before, held by nobody, without a key
        self._idle: OrderedDict[int, None] = OrderedDict()  # held by nobody, with a key, the longest unused first
        self._holders: dict[int, int] = {}
        self._key_of: dict[int, int] = {}
        self._blocks_of: dict[int, dict[int, None]] = {}  # blocks of the same key, oldest first

    @property
    def free(self) -> int:
        """Blocks that nobody holds, those that can be found again included."""
        return self.total - len(self._holders)

    def find(self, keys: Iterable[int], most: int) -> list[int]:
        """Return the blocks of the longest known prefix of `keys`, at most `most`. They are not held by that."""
        found: list[int] = []
        for key in keys:
            if len(found) == most or key not in self._blocks_of:
                break
            found.append(next(iter(self._blocks_of[key])))
        return found

    def fits(self, count: int, shared: Sequence[int] = ()) -> bool:
        """Return whether `take` would find enough blocks."""
        return count + sum(block in self._idle for block in shared) <= self.free

    def take(self, count: int, shared: Sequence[int] = ()) -> list[int] | None:
        """Hold `shared`, which were found, and `count` more; return all of them, None where too few are free."""
        if not self.fits(count, shared):
            return None
        for block in shared:
            self._idle.pop(block, None)
            self._holders[block] = self._holders.get(block, 0) + 1
        return [*shared, *(self._next() for _ in range(count))]

    def name(self, block: int, key: int) -> None:
        """Let `block`, whose tokens are complete, be found by `key`; of several the first is."""
        self._blocks_of.setdefault(key, {})[block] = None
        self._key_of[block] = key

    def release(self, blocks: Iterable[int]) -> None:
        """Hold `blocks` no longer. The last ones are given out again first: a prefix is worth more than its end."""
        for block in reversed(list(blocks)):
            self._holders[block] -= 1
            if not self._holders[block]:
                del self._holders[block]
                if block in self._key_of:
                    self._idle[block] = None
                else:
                    self._bare.append(block)

    def _next(self) -> int:
        if self._bare:
            block = self._bare.pop()
        elif self._untouched < self.total:
            block = self._untouched
            self._untouched += 1
        else:
            block, _ = self._idle.popitem(last=False)
            self._forget(block)
        self._holders[block] = 1
        return block

    def _forget(self, block: int) -> None:
        key = self._key_of.pop(block, None)
        if key is not None:
            del self._blocks_of[key][block]
            if not self._blocks_of[key]:
                del self._blocks_of[key]
