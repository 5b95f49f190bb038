"""KV blocks: conserved, found by their tokens, and given out again in vLLM's order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.services.ai_models.blocks import BlockPool, block_keys

TOKENS = st.lists(st.integers(0, 2), max_size=80)


@settings(deadline=None)
@given(TOKENS, TOKENS, st.sampled_from([None, "a"]), st.sampled_from([None, "a"]))
def test_keys_are_equal_as_far_as_the_tokens_are(
    left: list[int], right: list[int], salt: str | None, other: str | None
) -> None:
    """Two token lists share as many keys as full blocks of equal beginning, none under different salts."""
    equal = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    shared = [a == b for a, b in zip(block_keys(left, salt), block_keys(right, other), strict=False)]

    assert len(block_keys(left, salt)) == len(left) // 16
    assert sum(shared) == (equal // 16 if salt == other else 0)


def test_blocks_without_a_key_go_first_then_fresh_then_the_longest_unused() -> None:
    """What can be found again is kept as long as there is anything else to give."""
    pool = BlockPool(5)
    named = pool.take(2)
    assert named == [0, 1]
    pool.name(0, 100)
    pool.name(1, 101)
    bare = pool.take(1)
    assert bare == [2]
    pool.release(named)
    pool.release(bare)

    assert pool.take(4) == [2, 3, 4, 1]  # of a prefix the end goes before its beginning
    assert pool.find([100, 101], 9) == [0]
    assert pool.take(2) is None
    assert pool.take(0, pool.find([100], 9)) == [0]
    assert pool.free == 0


def test_equal_blocks_are_each_found_until_the_last_is_gone() -> None:
    """Of two blocks with the same tokens the second is found when the first has been given away."""
    pool = BlockPool(2)
    first, second = pool.take(1), pool.take(1)
    assert first is not None
    assert second is not None
    for block in (*first, *second):
        pool.name(block, 7)
    pool.release(first)
    assert pool.find([7], 1) == first
    pool.take(1)

    assert pool.find([7], 1) == second


def test_a_shared_block_that_nobody_holds_counts_as_one_of_the_free() -> None:
    """Sharing an idle block uses it up: no more blocks are promised than there are."""
    pool = BlockPool(3)
    held = pool.take(2)
    assert held is not None
    pool.name(held[0], 1)
    pool.release(held)

    assert pool.fits(2, pool.find([1], 9))
    assert not pool.fits(3, pool.find([1], 9))
    assert pool.take(3, pool.find([1], 9)) is None
    assert pool.free == 3
