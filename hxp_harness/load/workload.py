"""What each request of a run asks: lengths, words, shared beginnings, or texts from a file; drawn before the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hxp_harness.errors import UsageError
from hxp_harness.load.corpus import Text, read_texts
from hxp_harness.load.lengths import check_mean, draw_lengths, tag
from hxp_harness.load.prompts import PROMPT_SEEDS
from hxp_harness.load.recorded import Recorded
from hxp_harness.load.replay import read_requests

if TYPE_CHECKING:  # pydantic is not needed to draw
    from hxp_harness.contract import Contract


@dataclass(frozen=True, slots=True)
class Question:
    """What one request asks; `seed` makes its words, `prefix_seed` those of its first `prefix_tokens` tokens."""

    prompt_tokens: int
    output_tokens: int
    seed: int
    prefix_seed: int = 0
    prefix_tokens: int = 0
    messages: tuple[dict[str, str], ...] = ()  # instead of words
    tag: str = ""  # of a file of prompts


@dataclass(frozen=True, slots=True)
class Streams:
    """Sources of chance, one for each choice, so that changing one leaves the others as they were."""

    prompts: np.random.Generator
    prompt_lengths: np.random.Generator
    output_lengths: np.random.Generator
    choices: np.random.Generator


def draw_questions(contract: Contract, count: int, streams: Streams) -> list[Question]:
    """Return `count` questions. Raises UsageError for files that do not suffice and for lengths of another mean."""
    seeds = _fresh_seeds(streams.prompts, count)
    recorded = read_requests(contract.arrival.file) if contract.arrival.kind == "replay" else None
    if recorded is not None:
        return _recorded(contract, recorded, seeds)
    asked = draw_lengths(
        contract.prompt_lengths, contract.prompt_tokens, count, streams.prompt_lengths, "prompt_lengths"
    )
    owed = draw_lengths(
        contract.output_lengths, contract.output_tokens, count, streams.output_lengths, "output_lengths"
    )
    if contract.prompts is not None:
        texts = _chosen(contract.prompts.file, contract, count, streams.choices)
        return [
            Question(
                contract.prompt_tokens, text.output_tokens or int(out), int(seed), messages=text.messages, tag=text.tag
            )
            for text, out, seed in zip(texts, owed, seeds, strict=True)
        ]
    if contract.prefix is None:
        return [Question(int(a), int(b), int(seed)) for a, b, seed in zip(asked, owed, seeds, strict=True)]
    beginnings = _fresh_seeds(streams.choices, contract.prefix.groups)
    group = streams.choices.integers(contract.prefix.groups, size=count)
    rows = zip(asked, owed, seeds, beginnings[group], strict=True)
    tokens = contract.prefix.tokens
    return [Question(int(a), int(b), int(seed), int(first), tokens) for a, b, seed, first in rows]


def _recorded(contract: Contract, recorded: Recorded, seeds: NDArray[np.int64]) -> list[Question]:
    """Return the first questions of a file whose requests have lengths, which nothing else may set."""
    for name in ("prompt_lengths", "output_lengths", "prefix", "prompts", "sessions"):
        if getattr(contract, name) is not None:
            raise UsageError(
                f"{contract.arrival.kind} of requests and {name} exclude each other: the file has their lengths",
                hint=f"leave {name} out, or replay a file of times alone",
            )
    asked, owed = recorded.prompt_tokens[: len(seeds)], recorded.output_tokens[: len(seeds)]
    check_mean(asked, contract.prompt_tokens, f"the first {len(asked)} recorded prompts have")
    check_mean(owed, contract.output_tokens, f"the first {len(owed)} recorded answers have")
    return [
        Question(int(a), int(b), int(seed), tag=tag(int(a), int(b)))
        for a, b, seed in zip(asked, owed, seeds, strict=True)
    ]


def _chosen(file: Path, contract: Contract, count: int, rng: np.random.Generator) -> list[Text]:
    """Return so many texts in an order of chance; all are taken before one is taken again."""
    texts = read_texts(file, single=contract.api == "completions")
    if len(texts) < count and contract.cache == "cold":
        raise UsageError(
            f"{file} has {len(texts)} prompts, the run needs {count}, and a repeated prompt is not cold",
            hint="cache: any allows repeats; --replicates and --requests ask for less",
        )
    rounds = -(-count // len(texts))
    order = np.concatenate([rng.permutation(len(texts)) for _ in range(rounds)]) if count else np.zeros(0, np.int64)
    return [texts[place] for place in order[:count]]


def _fresh_seeds(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return `count` seeds of prompts, no two alike."""
    seeds = np.unique(rng.integers(PROMPT_SEEDS, size=count))
    while len(seeds) < count:
        seeds = np.unique(np.append(seeds, rng.integers(PROMPT_SEEDS, size=count - len(seeds))))
    rng.shuffle(seeds)
    return seeds
