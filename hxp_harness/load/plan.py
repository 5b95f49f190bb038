"""What the load processes are told: files in one folder, complete before the first request."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How to send. The key is not part of it: the child reads it from the environment variable HXP_API_KEY."""

    base_url: str  # ends in /v1
    api_model: str
    api: str  # chat | completions
    stream: bool
    timeout_s: float
    temperature: float = 0.0
    ignore_eos: bool = True  # ask for exactly the output tokens of the schedule, where the server knows the field
    continuous_usage: bool = True  # ask for usage in every chunk, so that a chunk tells how many tokens it carries
    tokens_per_word: float = 1.0  # of the target's tokenizer, for our word list
    overhead_tokens: float = 0.0  # what the chat template adds to each prompt
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Due:
    """One request of the schedule. `intended_s` counts from the run's t0; `seed` makes its prompt."""

    index: int
    replicate: int  # -1 is warm-up
    intended_s: float
    prompt_tokens: int
    output_tokens: int
    seed: int
    tag: str = ""


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What the hot loop says of itself when it ends."""

    t0_monotonic_s: float  # absolute CLOCK_MONOTONIC of t0
    t0_unix_s: float
    due: int  # requests whose intended time lay before the stop
    sent: int
    stamps: str  # kernel | user: where arrival times come from
    clock_step_s: float  # largest change of (wall - monotonic) seen; a step makes the run INVALID
    cpu_s: float
    peak_rss_bytes: int
    stopped_early: bool
