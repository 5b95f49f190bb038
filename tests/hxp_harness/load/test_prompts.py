"""Prompts have the asked length and share no beginning."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.prompts import PROMPT_SEEDS, WORDS, prompt, words_for

SEEDS = st.integers(0, PROMPT_SEEDS - 1)


def test_the_words_are_distinct() -> None:
    """No word stands twice: the first words of a prompt are the digits of its seed."""
    assert len(set(WORDS)) == len(WORDS) == 256


@given(seed=SEEDS, words=st.integers(1, 300))
def test_a_prompt_has_as_many_words_as_asked(seed: int, words: int) -> None:
    """The length is exact and the text is made again from the seed."""
    assert len(prompt(seed, words).split()) == words
    assert prompt(seed, words) == prompt(seed, words)


@given(st.lists(SEEDS, min_size=2, max_size=50, unique=True))
def test_different_seeds_differ_in_their_first_six_words(seeds: list[int]) -> None:
    """No two prompts share a prefix block of 16 tokens."""
    beginnings = [tuple(prompt(seed, 64).split()[:6]) for seed in seeds]
    assert len(set(beginnings)) == len(seeds)


def test_the_number_of_words_follows_the_tokenizer() -> None:
    """Words are the tokens asked, less the template's, over the tokens of a word."""
    plan = LoadPlan("http://h/v1", "m", "chat", True, 1.0, tokens_per_word=2.0, overhead_tokens=8.0)
    assert words_for(128, plan) == 60
    assert words_for(1, plan) == 1


def test_neighbouring_seeds_differ_at_once() -> None:
    """Seeds that count up differ already in the first word."""
    for low, high in itertools.pairwise(range(20)):
        assert prompt(low, 1) != prompt(high, 1)
