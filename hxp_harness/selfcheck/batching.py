"""A server with continuous batching, in virtual time and many runs at once. Pure and seeded.

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
    return _latency_s(random, np.full((runs, count + WARM_UP), MEAN_TOKENS, np.int64))[:, WARM_UP:]


def variable_lengths(random: np.random.Generator, runs: int, count: int) -> Floats:
    """Return the same for geometric lengths of the same mean, cut at MOST_TOKENS."""
    tokens = np.minimum(random.geometric(1 / MEAN_TOKENS, (runs, count + WARM_UP)), MOST_TOKENS)
    return _latency_s(random, tokens.astype(np.int64))[:, WARM_UP:]


def _latency_s(random: np.random.Generator, tokens: Longs) -> Floats:
    """Step all runs together; `tokens` gives the length of each request in order of arrival."""
    runs, count = tokens.shape
    arrival_s = np.cumsum(random.exponential(1 / RATE_RPS, (runs, count)), axis=1)
    padded_s = np.concatenate([arrival_s, np.full((runs, 1), np.inf)], axis=1).ravel()
    padded_tokens = np.concatenate([tokens, np.ones((runs, 1), np.int64)], axis=1).ravel()
    start = np.arange(runs) * (count + 1)
    width = MOST_TOKENS + 1
    leaving = np.zeros((runs, width), np.int64)  # how many end in each of the next steps, a ring
    ring = np.arange(runs) * width
    admitted = np.zeros(runs, np.int64)  # so far
    arrived = np.zeros(runs, np.int64)
    running = np.zeros(runs, np.int64)
    now_s = np.zeros(runs)
    admitted_after: list[Longs] = []
    ends_s: list[Floats] = []
    step = 0
    while int(admitted.min()) < count:
        while True:
            due = padded_s[start + arrived] <= now_s
            if not due.any():
                break
            arrived += due
        new = np.minimum(arrived - admitted, SLOTS - running)
        for place in range(int(new.max(initial=0))):
            some = np.flatnonzero(new > place)
            length = padded_tokens[start[some] + admitted[some] + place]
            leaving.ravel()[ring[some] + (step + length - 1) % width] += 1
        running += new
        admitted += new
        idle = running == 0
        now_s = np.where(idle, np.maximum(now_s, padded_s[start + arrived]), now_s)
        now_s = now_s + np.where(idle, 0.0, STEP_S + ROW_S * running + PROMPT_S * new)
        now_s[~np.isfinite(now_s)] = 1e18
        running -= leaving[:, step % width]
        leaving[:, step % width] = 0
        admitted_after.append(admitted.copy())
        ends_s.append(now_s)
        step += 1
    return _ends(arrival_s, tokens, admitted_after, ends_s)


def _ends(arrival_s: Floats, tokens: Longs, admitted_after: list[Longs], ends_s: list[Floats]) -> Floats:
    """Look up for each request the step that admitted it, and when the step of its last token ended."""
    by_step, end_s = np.array(admitted_after).T, np.array(ends_s).T
    # what still runs when the last request is admitted ends at the pace of the last steps
    pace_s = end_s[:, -1:] - end_s[:, -2:-1]
    tail = end_s[:, -1:] + pace_s * np.arange(1, MOST_TOKENS + 1)
    end_s = np.concatenate([end_s, tail], axis=1)
    latency_s = np.empty_like(arrival_s)
    for run in range(len(arrival_s)):
        first = np.searchsorted(by_step[run], np.arange(1, arrival_s.shape[1] + 1))
        latency_s[run] = end_s[run][first + tokens[run] - 1] - arrival_s[run]
    return latency_s
