"""A server with continuous batching, in virtual time. Pure and seeded.

One step of the engine makes one token for each running request and reads the prompts of those it admits:
step = STEP_S + ROW_S * running + PROMPT_S * admitted. Requests arrive as a Poisson process, wait for one of SLOTS, and
leave after as many steps as they have tokens. So requests share steps, and those that are slow come together. The
constants put the server near its limit; they imitate no device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

RATE_RPS = 50.0
STEP_S, ROW_S, PROMPT_S = 0.012, 0.0001, 0.006
SLOTS = 112
MEAN_TOKENS, MOST_TOKENS = 64, 256
WARM_UP = 1500  # requests that are not looked at: the server starts empty


def fixed_lengths(random: np.random.Generator, runs: int, count: int) -> Floats:
    """Return latencies in seconds, one row a run; every answer has MEAN_TOKENS tokens."""
    tokens = np.full(count + WARM_UP, MEAN_TOKENS, np.int64)
    return np.stack([_run(random, tokens) for _ in range(runs)])


def variable_lengths(random: np.random.Generator, runs: int, count: int) -> Floats:
    """Return the same for geometric lengths of the same mean, cut at MOST_TOKENS."""
    lengths = (random.geometric(1 / MEAN_TOKENS, count + WARM_UP) for _ in range(runs))
    return np.stack([_run(random, np.minimum(tokens, MOST_TOKENS).astype(np.int64)) for tokens in lengths])


def _run(random: np.random.Generator, tokens: Longs) -> Floats:
    """Return the latencies of one run; `tokens` gives the length of each answer in order of arrival."""
    arrival_s = np.cumsum(random.exponential(1 / RATE_RPS, len(tokens)))
    admitted_at, end_s = _steps(arrival_s, tokens)
    return np.asarray((end_s[admitted_at + tokens - 1] - arrival_s)[WARM_UP:])


def _steps(arrival_s: Floats, tokens: Longs) -> tuple[Longs, Floats]:
    """Return the step that admits each request, and when each step ends.

    A plain loop over plain numbers: a step does so little that arrays, of many runs at once, cost three times as much.
    """
    due_s, lengths, count = [*arrival_s.tolist(), np.inf], tokens.tolist(), len(tokens)
    leaving = [0] * (MOST_TOKENS + 1)  # how many end in each of the next steps, a ring
    admitted_at, ends_s = [0] * count, []
    arrived = admitted = running = step = 0
    now_s = 0.0
    while admitted < count:
        while due_s[arrived] <= now_s:
            arrived += 1
        new = min(arrived - admitted, SLOTS - running)
        for number in range(admitted, admitted + new):
            admitted_at[number] = step
            leaving[(step + lengths[number] - 1) % len(leaving)] += 1
        admitted, running = admitted + new, running + new
        now_s = now_s + STEP_S + ROW_S * running + PROMPT_S * new if running else due_s[arrived]
        ends_s.append(now_s)
        place = step % len(leaving)
        running, leaving[place] = running - leaving[place], 0
        step += 1
    # what still runs when the last request is admitted ends at the pace of the last steps
    tail_s = now_s + (now_s - ends_s[-2]) * np.arange(1, MOST_TOKENS + 1)
    return np.array(admitted_at), np.concatenate([ends_s, tail_s])
