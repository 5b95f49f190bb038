"""Prompts of our own words: as long as asked, and no two alike in their first words."""

from __future__ import annotations

import random

from hxp_harness.load.plan import Due, LoadPlan

# Short everyday words: one token each, with the space before it, in every tokenizer with a large vocabulary.
_TEXT = """
able acid aged also area army away baby back ball band bank base bath bear beat been beer bell belt best
bill bird blow blue boat body bond bone book boom born boss both bowl bulk burn bush busy call calm came
camp card care case cash cast cell chat chip city club coal coat code cold come cook cool cope copy core
cost crew crop dark data date dawn days deal dean dear debt deep deny desk dial diet disc disk does done
door dose down draw drew drop dual duke dust duty each earn ease east easy edge else even ever exit face
fact fail fair fall farm fast fate fear feed feel feet fell felt file fill film find fine fire firm fish
five flat flow food foot form four free from fuel full fund gain game gate gave gear gene gift girl give
glad goal goes gold golf gone good gray grew grey grow gulf hair half hall hand hang hard harm have head
hear heat held help here hero high hill hire hold hole holy home hope host hour huge hung hunt hurt idea
inch into iron item join jump jury just keen keep kept kick kind king knee knew know lack lady laid lake
land lane last late lead left less life lift like line link list live load loan lock logo long look lose
loss lost love luck made mail main make male many mark mass meal mean meat meet menu mere mile milk mill
mind mine miss mode
"""
WORDS = tuple(_TEXT.split())
_NAME_WORDS = 6
PROMPT_SEEDS = len(WORDS) ** _NAME_WORDS  # how many prompts there are that differ in their first words


def prompt(seed: int, words: int) -> str:
    """Return `words` words (at least one) made from `seed`, 0 <= seed < PROMPT_SEEDS.

    The first six words are the seed's digits, lowest first, so that two prompts differ before a block of 16 tokens is
    full and no server finds one's prefix in its cache for another. The rest is drawn.
    """
    digits = [WORDS[seed // len(WORDS) ** place % len(WORDS)] for place in range(_NAME_WORDS)]
    rest = random.Random(seed).choices(WORDS, k=max(0, words - _NAME_WORDS))  # noqa: S311 - no secret
    return " ".join([*digits[: max(1, words)], *rest])


FILLERS = ("a", "I", "the", "to")  # one token each even in a small vocabulary
VOCABULARY = (*WORDS, *FILLERS)
LEAST_OWN_TOKENS = 8  # of a prompt behind its shared beginning: enough to tell it from all others
FIRST = WORDS[0]  # begins every measured prompt: a word at the very beginning may be other tokens than behind a space


def measured(seed: int, tokens: int, costs: tuple[int, ...]) -> list[str]:
    """Return words that follow other words and have exactly `tokens` tokens together, made from `seed`.

    `costs` are the tokens of each word of VOCABULARY. As in `prompt`, the first words are the digits of the seed, as
    far as there is room. Where no word has the few tokens that are left, it is the nearest number above.
    """
    cheapest = min(range(len(VOCABULARY)), key=costs.__getitem__)
    digits = [seed // len(WORDS) ** place % len(WORDS) for place in range(_NAME_WORDS)]
    draw = random.Random(seed)  # noqa: S311 - no secret
    words: list[str] = []
    left = tokens
    while left > 0:
        place = digits.pop(0) if digits else draw.randrange(len(WORDS))
        if costs[place] > left:
            place = cheapest
        words.append(VOCABULARY[place])
        left -= costs[place]
    return words


def text_of(due: Due, plan: LoadPlan) -> str:
    """Return the words of a request: as many tokens as it asks for, its shared beginning first."""
    tokens = due.prompt_tokens - due.history_tokens
    if plan.costs:
        room = max(0, tokens - round(plan.overhead_tokens))
        shared = min(due.prefix_tokens, max(0, room - LEAST_OWN_TOKENS))
        words = measured(due.prefix_seed, shared, plan.costs) + measured(due.seed, room - shared, plan.costs)
        return " ".join([FIRST, *words])
    if not due.prefix_tokens:
        return prompt(due.seed, words_for(tokens, plan))
    shared = max(1, round(due.prefix_tokens / plan.tokens_per_word))
    own_words = max(1, words_for(tokens, plan) - shared)
    return f"{prompt(due.prefix_seed, shared)} {prompt(due.seed, own_words)}"


def words_for(prompt_tokens: int, plan: LoadPlan) -> int:
    """Return how many words make a request of `prompt_tokens` tokens under the plan's tokenizer, at least one."""
    return max(1, round((prompt_tokens - plan.overhead_tokens) / plan.tokens_per_word))
