"""Which tokens each step of the engine computes: iteration-level continuous batching as vLLM V1 has it. Pure.

Running sequences come first, then waiting ones in order of arrival, until the step's token budget is spent. A prompt
that exceeds what is left of the budget is computed in chunks. KV lies in blocks; when a running sequence needs one
and none is free, the youngest running sequence gives up its blocks and is computed again later. What a sequence finds
in the prefix cache is not computed, but for its last token. The choices of one request (`n`) share its prompt so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from reference_stack.services.ai_models.blocks import BlockPool
from reference_stack.services.ai_models.physics import BLOCK_TOKENS


@dataclass(slots=True, eq=False)
class Sequence:
    """One reply being made. `output_tokens` is where it ends; times are the caller's clock in seconds.

    `keys` name the full blocks of prompt and reply (see `block_keys`), as far as equal ones shall be shared.
    """

    prompt_tokens: int
    output_tokens: int
    arrival_s: float
    keys: tuple[int, ...] = ()
    reads_cache: bool = True  # false: computes its whole prompt
    computed: int = 0  # tokens whose KV is there
    generated: int = 0
    cached: int = 0  # prompt tokens found in the cache when it first started
    blocks: list[int] = field(default_factory=list)
    named: int = 0  # of its blocks, how many can be found by their keys
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
    prompts: int = 0  # prompt tokens whose prefill it completes, and how many of those the cache had
    cached: int = 0
    sampled: list[S] = field(default_factory=list)


class Scheduler(Generic[S]):
    """The queues and the KV blocks of one engine."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[S] = deque()
        self.running: list[S] = []
        self.pool = BlockPool(limits.kv_tokens // BLOCK_TOKENS)
        self.preemptions = 0
        self.cache_queries = 0  # prompt tokens looked for in the cache, and those found
        self.cache_hits = 0

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    @property
    def kv_usage(self) -> float:
        """Part of the KV blocks in use, 0 to 1."""
        return 1.0 - self.pool.free / self.pool.total if self.pool.total else 0.0

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
            found = self._find(sequence)
            known = len(found) * BLOCK_TOKENS
            take = min(sequence.length - known, budget)
            whole = -(-sequence.length // BLOCK_TOKENS) - len(found)
            if not self.pool.fits(whole, found) or not self._grow(sequence, known + take, found):
                return  # it starts only when all of its prompt has room, not just the first chunk
            self.waiting.popleft()
            self.running.append(sequence)
            sequence.computed, sequence.named = known, len(found)
            if sequence.started_s is None:
                sequence.started_s = now_s
                sequence.cached = known
                if sequence.keys and sequence.reads_cache:
                    self.cache_queries += sequence.prompt_tokens
                    self.cache_hits += known
            budget -= self._compute(step, sequence, take)

    def _find(self, sequence: S) -> list[int]:
        # The last token is always computed: without it there is nothing to sample from.
        most = (sequence.length - 1) // BLOCK_TOKENS
        return self.pool.find(sequence.keys, most) if sequence.reads_cache else []

    def _compute(self, step: Step[S], sequence: S, take: int) -> int:
        step.context_tokens += sequence.computed
        sequence.computed += take
        if sequence.keys:
            self._name_blocks(sequence)
        whole = sequence.computed == sequence.length
        if take == 1 and whole and sequence.generated:
            step.decode_seqs += 1
        else:
            step.prefill_tokens += take
        if whole:
            step.sampled.append(sequence)
            if not sequence.generated:
                step.prompts += sequence.prompt_tokens
                step.cached += sequence.cached
        return take

    def _name_blocks(self, sequence: S) -> None:
        # At once, as vLLM does: a later sequence of the same step already shares them.
        full = min(sequence.computed // BLOCK_TOKENS, len(sequence.keys))
        for place in range(sequence.named, full):
            self.pool.name(sequence.blocks[place], sequence.keys[place])
        sequence.named = max(sequence.named, full)

    def _grow(self, sequence: S, tokens: int, found: Row[int] = ()) -> bool:
        need = -(-tokens // BLOCK_TOKENS) - len(sequence.blocks) - len(found)
        if need > 0 or found:
            taken = self.pool.take(max(need, 0), found)
            if taken is None:
                return False
            sequence.blocks += taken
        return True

    def _make_room(self, sequence: S, take: int) -> bool:
        while not self._grow(sequence, sequence.computed + take):
            youngest = self.running.pop()
            self._release(youngest)
            youngest.computed = 0
            youngest.preemptions += 1
            self.preemptions += 1
            self.waiting.appendleft(youngest)
            if youngest is sequence:
                return False
        return True

    def _release(self, sequence: S) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.named = 0

    def _end(self, sequence: S) -> None:
        sequence.over = True
        self._release(sequence)
