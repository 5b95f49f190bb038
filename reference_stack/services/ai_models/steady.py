"""The steady state of an engine under a contract: how many sequences decode at once, and what their step takes. Pure.

With n sequences inside, each of `output_tokens`, n / output_tokens of them are in their first step, where their prompt
is computed; how many is taken as Poisson. A step of mean duration s(n) then serves n / (output_tokens * s(n)) requests
a second. The steady batch of a rate is the smallest n that serves it; the capacity is the best rate of any n allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from reference_stack.schemas.configuration.workload import Contract
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import BLOCK_TOKENS, Device, step_time_s, weight_bytes_read
from reference_stack.services.ai_models.scheduler import Limits

_TAIL = 1e-6  # of the Poisson distribution, left out


@dataclass(frozen=True, slots=True)
class MeanStep:
    """Seconds of a mean step, by what they go to; `prefill_s` is what its arithmetic adds to the reading."""

    weights_s: float
    kv_s: float
    prefill_s: float
    overhead_s: float

    @property
    def duration_s(self) -> float:
        return self.weights_s + self.kv_s + self.prefill_s + self.overhead_s


@dataclass(frozen=True)
class Steady:
    """Where `contract` settles on `device`. Rates in requests/s; the rate of the contract itself is not limited."""

    spec: ModelSpec
    device: Device
    limits: Limits
    contract: Contract

    def mean_step(self, batch: int) -> MeanStep:
        """Return the mean step with `batch` sequences inside."""
        c = self.contract
        joins = batch / c.output_tokens
        decode = max(round(batch - joins), 0)
        # as many tokens of KV as decoding sequences have on average, half of their output done
        context = round(decode * (c.prompt_tokens + c.output_tokens / 2))
        bandwidth = self.device.bandwidth * self.device.bandwidth_efficiency
        kv_s = context * self.spec.kv_bytes_per_token / bandwidth
        overhead_s = self.device.step_overhead_s + self.device.sequence_overhead_s * decode

        def duration_s(prompts: int) -> float:
            return step_time_s(self.spec, self.device, prompts * c.prompt_tokens, decode, context)

        def weights_s(prompts: int) -> float:
            return weight_bytes_read(self.spec, prompts * c.prompt_tokens + decode) / bandwidth

        if not decode:  # a step without anybody in it is none
            return MeanStep(weights_s(1), 0.0, duration_s(1) - weights_s(1) - overhead_s, overhead_s)
        whole_s, read_s = _poisson_mean(duration_s, joins), _poisson_mean(weights_s, joins)
        return MeanStep(read_s, kv_s, max(whole_s - read_s - kv_s - overhead_s, 0.0), overhead_s)

    @property
    def mean_tokens(self) -> int:
        """KV tokens of one sequence on average over its life, in whole blocks."""
        tokens = self.contract.prompt_tokens + self.contract.output_tokens / 2
        return math.ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS

    @property
    def largest_by_kv(self) -> int:
        """How many sequences of average length the KV holds."""
        return max(self.limits.kv_tokens // self.mean_tokens, 1)

    @property
    def largest(self) -> int:
        """The largest batch that the engine's limits allow."""
        c = self.contract
        tokens_each = 1 + c.prompt_tokens / c.output_tokens  # of a step's budget
        by_budget = int(self.limits.max_num_batched_tokens / tokens_each)
        return max(min(self.limits.max_num_seqs, self.largest_by_kv, by_budget), 1)

    def _served_rps(self, batch: int) -> float:
        return batch / max(self.contract.output_tokens * self.mean_step(batch).duration_s, 1e-12)

    @cached_property
    def capacity_rps(self) -> float:
        """The highest rate that is served without an ever longer queue: batching helps, so it is at the largest."""
        return max(self._served_rps(batch) for batch in {1, self.largest // 2 or 1, self.largest})

    @property
    def rho(self) -> float:
        """The rate as a part of the capacity; from 1 on the queue grows without end."""
        return self.contract.rate_rps / self.capacity_rps

    @cached_property
    def batch(self) -> int:
        """The sequences inside at once; max_num_seqs where no batch serves the rate. The KV does not limit it."""
        low, high = 1, self.limits.max_num_seqs
        while low < high:
            middle = (low + high) // 2
            if self._served_rps(middle) >= self.contract.rate_rps:
                high = middle
            else:
                low = middle + 1
        return low

    @property
    def kv_need_tokens(self) -> int:
        return self.batch * self.mean_tokens


def _poisson_mean(value: Callable[[int], float], mean: float) -> float:
    """Return the mean of `value(k)` for Poisson k."""
    chance, k = math.exp(-mean), 0
    total = chance * value(0)
    left = 1.0 - chance
    while left > _TAIL or k < mean:
        k += 1
        chance *= mean / k
        left -= chance
        total += chance * value(k)
    return total
