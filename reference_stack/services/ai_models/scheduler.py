"""Which tokens each step of the engine computes: iteration-level continuous batching as vLLM V1 has it. Pure.

Running sequences come first, then waiting ones in order of arrival, until the step's token budget is spent. A prompt
that exceeds what is left of the budget is computed in chunks. KV lies in blocks; when a running sequence needs one
and none is free, the youngest running sequence gives up its blocks and is computed again later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from reference_stack.services.ai_models.physics import BLOCK_TOKENS


@dataclass(slots=True, eq=False)
class Sequence:
    """One reply being made. `output_tokens` is where it ends; times are the caller's clock in seconds."""

    prompt_tokens: int
    output_tokens: int
    arrival_s: float
    computed: int = 0  # tokens whose KV is there
    generated: int = 0
    blocks: int = 0
    preemptions: int = 0
    started_s: float | None = None  # first step that computed some of it
    first_token_s: float | None = None
    last_token_s: float | None = None
    over: bool = False  # ended or aborted

    @property
    def length(self) -> int:
        return self.prompt_tokens + self.generated


S = TypeVar("S", bound=Sequence)


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a step: sequences, tokens, and KV tokens over all sequences."""

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_tokens: int


@dataclass(slots=True)
class Step(Generic[S]):
    """What one step computes. `sampled` get one more token when it ends."""

    prefill_tokens: int = 0
    decode_seqs: int = 0
    context_tokens: int = 0  # KV tokens that it reads
    prompts: int = 0  # prompt tokens whose prefill it completes
    sampled: list[S] = field(default_factory=list)


class Scheduler(Generic[S]):
    """The queues and the KV blocks of one engine."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[S] = deque()
        self.running: list[S] = []
        self.blocks_total = limits.kv_tokens // BLOCK_TOKENS
        self.blocks_free = self.blocks_total
        self.preemptions = 0

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    @property
    def kv_usage(self) -> float:
        """Part of the KV blocks in use, 0 to 1."""
        return 1.0 - self.blocks_free / self.blocks_total if self.blocks_total else 0.0

    def add(self, sequence: S) -> None:
        """Queue `sequence`. It must fit the KV alone: prompt and output together."""
        self.waiting.append(sequence)

    def abort(self, sequence: S) -> None:
        """Forget `sequence` and free its blocks at once; one that is over stays so."""
        if sequence.over:
            return
        self._end(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def step(self, now_s: float) -> Step[S]:
        """Choose what the step that starts at `now_s` computes."""
        step: Step[S] = Step()
        budget = self.limits.max_num_batched_tokens
        preemptions = self.preemptions
        position = 0
        while position < len(self.running) and budget > 0:
            sequence = self.running[position]
            take = min(sequence.length - sequence.computed, budget)
            if not self._make_room(sequence, take):
                break  # it gave up its own blocks: it was the last one
            budget -= self._compute(step, sequence, take)
            position += 1
        if preemptions == self.preemptions:
            self._admit(step, budget, now_s)
        return step

    def finish(self, step: Step[S], now_s: float) -> list[S]:
        """Give each sampled sequence its token at `now_s`; return those that got one, ended ones included."""
        served = []
        ended = False
        for sequence in step.sampled:
            if sequence.over:
                continue
            sequence.generated += 1
            sequence.last_token_s = now_s
            if sequence.first_token_s is None:
                sequence.first_token_s = now_s
            if sequence.generated >= sequence.output_tokens:
                self._end(sequence)
                ended = True
            served.append(sequence)
        if ended:
            self.running = [sequence for sequence in self.running if not sequence.over]
        return served

    def _admit(self, step: Step[S], budget: int, now_s: float) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting[0]
            take = min(sequence.length - sequence.computed, budget)
            if not self._grow(sequence, take):
                return
            self.waiting.popleft()
            self.running.append(sequence)
            if sequence.started_s is None:
                sequence.started_s = now_s
            budget -= self._compute(step, sequence, take)

    def _compute(self, step: Step[S], sequence: S, take: int) -> int:
        step.context_tokens += sequence.computed
        sequence.computed += take
        whole = sequence.computed == sequence.length
        if take == 1 and whole and sequence.generated:
            step.decode_seqs += 1
        else:
            step.prefill_tokens += take
        if whole:
            step.sampled.append(sequence)
            if not sequence.generated:
                step.prompts += sequence.prompt_tokens
        return take

    def _grow(self, sequence: S, take: int) -> bool:
        need = -(-(sequence.computed + take) // BLOCK_TOKENS) - sequence.blocks
        if need > self.blocks_free:
            return False
        if need > 0:
            self.blocks_free -= need
            sequence.blocks += need
        return True

    def _make_room(self, sequence: S, take: int) -> bool:
        while not self._grow(sequence, take):
            youngest = self.running.pop()
            self.blocks_free += youngest.blocks
            youngest.blocks = youngest.computed = 0
            youngest.preemptions += 1
            self.preemptions += 1
            self.waiting.appendleft(youngest)
            if youngest is sequence:
                return False
        return True

    def _end(self, sequence: S) -> None:
        sequence.over = True
        self.blocks_free += sequence.blocks
        sequence.blocks = 0
