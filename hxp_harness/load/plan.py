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
    costs: tuple[int, ...] = ()  # tokens of each of our words behind another, where the target's /tokenize told them
    concurrency: int = 0  # slots of a closed loop; 0: every request has its own time
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Due:
    """One request of the schedule. `intended_s` counts from the run's t0; `seed` makes its prompt.

    Where a request waits for an answer (sessions, closed loop), `intended_s` is only the time to expect: its trace has
    the end of what it waited for plus `think_s`.
    """

    index: int
    replicate: int  # -1 is warm-up
    intended_s: float
    prompt_tokens: int
    output_tokens: int
    seed: int
    tag: str = ""
    after: int = -1  # index of the request whose answer it follows; -1: none
    think_s: float = 0.0  # from that answer, or from the slot's becoming free, to its sending
    history_tokens: int = 0  # of prompt_tokens, what earlier turns of its session make up
    prefix_seed: int = 0  # makes its first `prefix_tokens` tokens, which others have too
    prefix_tokens: int = 0
    messages: tuple[dict[str, str], ...] = ()  # what to say instead of words made of seeds


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What the hot loop says of itself when it ends."""

    t0_monotonic_s: float  # absolute CLOCK_MONOTONIC of t0
    t0_unix_s: float
    due: int  # requests whose intended time lay before the stop
    sent: int
    stamps: str  # kernel | kernel, at the ends of TLS records | user: where arrival times come from
    clock_step_s: float  # largest change of (wall - monotonic) seen; a step makes the run INVALID
    cpu_s: float
    peak_rss_bytes: int
    stopped_early: bool
