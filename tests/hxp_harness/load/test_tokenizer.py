"""Prompts are exactly as long as asked under a tokenizer that tells its counts, and are not claimed so under others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.prompts import FIRST, PROMPT_SEEDS, VOCABULARY, WORDS, text_of
from hxp_harness.load.tokenizer import measure

PLAN = LoadPlan("http://h/v1", "m", "chat", True, 1.0)
SEEDS = st.integers(0, PROMPT_SEEDS - 1)


def large(text: str) -> int:
    """Count a token a word, and a template of ten."""
    return 10 + len(text.split())


def small(text: str) -> int:
    """Count words as one to four tokens by their last letter, and the first, which has no space, as one more."""
    return 10 + 1 + sum(1 if len(word) < 4 else 1 + ord(word[-1]) % 4 for word in text.split())


def due(seed: int, tokens: int, prefix_seed: int = 0, prefix_tokens: int = 0) -> Due:
    return Due(0, 0, 0.0, tokens, 1, seed, prefix_seed=prefix_seed, prefix_tokens=prefix_tokens)


def exact(count: Callable[[str], int | None]) -> LoadPlan:
    plan = measure(PLAN, count)
    assert plan is not None
    return plan


@pytest.mark.parametrize("count", [large, small])
@given(seed=SEEDS, tokens=st.integers(30, 400))
def test_a_measured_prompt_is_exact(count: Callable[[str], int], seed: int, tokens: int) -> None:
    """The tokenizer itself counts as many tokens as were asked for, template included, word by word made anew."""
    plan = exact(count)
    assert count(text_of(due(seed, tokens), plan)) == tokens
    assert text_of(due(seed, tokens), plan) == text_of(due(seed, tokens), plan)


@given(seeds=st.lists(SEEDS, min_size=2, max_size=30, unique=True), tokens=st.integers(60, 200))
def test_measured_prompts_part_within_a_block(seeds: list[int], tokens: int) -> None:
    """Behind the one first word the digits of the seed come: no block of 16 tokens of ours is another's."""
    plan = exact(large)
    assert len({tuple(text_of(due(seed, tokens), plan).split()[:7]) for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("count", [large, small])
@given(group=SEEDS, one=SEEDS, other=SEEDS, shared=st.integers(1, 100))
def test_a_shared_beginning_is_as_long_as_asked(
    count: Callable[[str], int], group: int, one: int, other: int, shared: int
) -> None:
    """Two requests of a group have so many tokens alike, and their own words differ at once behind them."""
    plan = exact(count)
    first, second = (
        text_of(due(seed, 200, prefix_seed=group, prefix_tokens=shared), plan).split() for seed in (one, other)
    )
    assert count(" ".join(first)) == 200
    alike = 0
    while alike < min(len(first), len(second)) and first[alike] == second[alike]:
        alike += 1
    common = " ".join(first[:alike])
    assert count(common) - count(FIRST) >= shared
    if one % len(WORDS) != other % len(WORDS):
        assert count(common) - count(FIRST) == shared


def test_a_tokenizer_that_knows_all_words_is_asked_five_times() -> None:
    """The first word, all of them, and three proofs."""
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return large(text)

    assert exact(count).costs == (1,) * len(VOCABULARY)
    assert len(asked) == 5


@pytest.mark.parametrize(
    "count",
    [
        lambda _text: None,
        lambda text: None if len(text.split()) < 3 and text != FIRST else small(text),
        lambda text: large(text) + len(text) // 40,  # words are not counted for themselves
        lambda text: 10 + len(set(text.split())),
        lambda _text: 10,
    ],
    ids=["silent", "silent later", "not additive", "by kinds", "always the same"],
)
def test_what_does_not_add_up_is_not_exact(count: Callable[[str], int | None]) -> None:
    """Where words have no cost of their own, no exactness is claimed."""
    assert measure(PLAN, count) is None


@given(seed=SEEDS, tokens=st.integers(19, 120))
def test_a_short_prompt_is_exact_and_its_own(seed: int, tokens: int) -> None:
    """Where the shared beginning would fill the prompt it is shorter: eight tokens at least are the request's own."""
    plan = exact(large)
    text = text_of(due(seed, tokens, prefix_seed=1, prefix_tokens=200), plan)
    assert large(text) == tokens
    other = text_of(due((seed + 1) % PROMPT_SEEDS, tokens, prefix_seed=1, prefix_tokens=200), plan)
    assert text.split()[-8:] != other.split()[-8:]
    assert text.split()[:-8] == other.split()[:-8]


def test_without_costs_a_shared_beginning_has_the_words_of_its_tokens() -> None:
    """The estimate by usage holds for both parts of a prompt."""
    plan = replace(PLAN, tokens_per_word=2.0, overhead_tokens=8.0)
    first, second = (text_of(due(seed, 128, prefix_seed=5, prefix_tokens=40), plan).split() for seed in (1, 2))
    assert len(first) == len(second) == 60
    assert first[:20] == second[:20]
    assert first[20] != second[20]
