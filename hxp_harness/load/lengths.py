"""How long prompts and answers are to be: drawn from a seed, in whole tokens, never adjusted to their mean. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hxp_harness.errors import UsageError

if TYPE_CHECKING:  # pydantic is not needed to draw
    from hxp_harness.lengths import OutputLengths, PromptLengths

Ints = NDArray[np.int64]
MEAN_SLACK = 0.10  # the judge forgives a mean that is off by so much
_ROUNDS = 1000


def draw_lengths(
    spread: PromptLengths | OutputLengths | None, mean: int, count: int, rng: np.random.Generator, what: str
) -> Ints:
    """Return `count` lengths of at least 1 token; without a spread all are `mean`, natural ones all at their most.

    Raises UsageError, which says `what`, when their mean is not the contract's, so that no run can be valid.
    """
    if spread is None:
        return np.full(count, mean)
    if spread.kind == "natural":
        if spread.most < mean:
            raise UsageError(f"{what}: at_most: {spread.most} is below the mean of {mean} tokens")
        return np.full(count, spread.most)
    if spread.kind == "uniform":
        lengths = rng.integers(spread.least, spread.most, size=count, endpoint=True)
    elif spread.kind == "empirical":
        lengths = rng.choice(read_lengths(spread.file), size=count)
    elif spread.kind == "normal":
        lengths = _bounded(lambda size: rng.normal(mean, spread.sd, size=size), spread.most, count)
    else:
        # sigma^2 = log(1 + (sd/mean)^2) and mu = log(mean) - sigma^2/2 give this mean and standard deviation
        sigma = math.sqrt(math.log1p((spread.sd / mean) ** 2))
        mu = math.log(mean) - sigma**2 / 2
        lengths = _bounded(lambda size: rng.lognormal(mu, sigma, size=size), spread.most, count)
    check_mean(lengths, mean, f"{what}: the lengths drawn have")
    return lengths


def check_mean(lengths: Ints, mean: int, which: str) -> None:
    """Raise UsageError, which says `which`, when the mean of `lengths` is not the contract's."""
    if len(lengths) and abs(float(lengths.mean()) / mean - 1) > MEAN_SLACK:
        raise UsageError(
            f"{which} a mean of {lengths.mean():.0f} tokens, the contract says {mean}",
            hint="a run of them would be INVALID: change the contract's mean, or how lengths vary about it",
        )


def _bounded(draw: Callable[[int], NDArray[np.float64]], most: int, count: int) -> Ints:
    """Draw whole numbers from 1 to `most`; what lies outside is drawn again."""
    lengths = np.rint(draw(count))
    for _ in range(_ROUNDS):
        outside = (lengths < 1) | (lengths > most)
        if not outside.any():
            return lengths.astype(np.int64)
        lengths[outside] = np.rint(draw(int(outside.sum())))
    raise UsageError(f"hardly any length drawn lies between 1 and {most}", hint="raise at_most or lower sd")


def read_lengths(file: Path) -> Ints:
    """Return the lengths in `file`: one a line, whole numbers from 1. Raises UsageError that names the line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the lengths in {file}: {error}") from None
    found: list[int] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"{file}, line {number}: {text[:40]!r} is no number of tokens from 1")
        found.append(int(text))
    if not found:
        raise UsageError(f"{file} holds no lengths", hint="one number of tokens a line")
    return np.array(found)


def tag(prompt_tokens: int, output_tokens: int) -> str:
    """Return the name of a length bucket, by the powers of two that hold both: in128-out64."""
    return f"in{_bucket(prompt_tokens)}-out{_bucket(output_tokens)}"


def _bucket(tokens: int) -> int:
    return 1 << max(tokens - 1, 0).bit_length()
