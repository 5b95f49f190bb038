"""Whether a model on a device can meet a contract at all, and which term binds. Pure.

The prediction is the engine in virtual time under the contract's arrivals; what the memory holds and how much of the
capacity is used come from arithmetic. A contract that fits only as long as no step takes SLACK times longer is
MARGINAL: the constants of the physics are estimates until they are calibrated.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from reference_stack.schemas.configuration.workload import Contract
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import BLOCK_TOKENS, Device, kv_capacity_bytes
from reference_stack.services.ai_models.scheduler import Limits
from reference_stack.services.ai_models.simulate import Simulated, arrivals_s, simulate
from reference_stack.services.ai_models.steady import Steady

SLACK = 1.25
REQUESTS = 3000
_TOKENS = 192_000  # of output in one prediction at most: it must take well under a second
_WARM_UP = 0.1  # of the requests: the first find the engine empty
_SEED = 11400


class Fit(enum.StrEnum):
    """Whether a contract can be met."""

    FEASIBLE = "FEASIBLE"
    MARGINAL = "MARGINAL"
    INFEASIBLE = "INFEASIBLE"


class Term(enum.StrEnum):
    """What sets the figures, or what breaks the contract."""

    MEMORY = "memory limit"
    LENGTH = "context length"
    KV = "KV capacity"
    WEIGHTS = "weight bandwidth"
    KV_READ = "KV bandwidth"
    PREFILL = "prefill FLOPs"
    OVERHEAD = "step overhead"
    QUEUEING = "queueing"


@dataclass(frozen=True, slots=True)
class Latency:
    """End-to-end latency in seconds: its mean, the contract's quantile, and the mean wait before the first step."""

    mean_s: float
    quantile_s: float
    queued_s: float
    preempted: bool  # somebody had to give up KV


@dataclass(frozen=True, slots=True)
class Feasibility:
    """The verdict on one contract with its numbers; what could not be computed because nothing would run is None."""

    model: str
    precision: str
    device: str
    contract: Contract
    fit: Fit
    term: Term
    weight_bytes: float
    memory_limit_bytes: float
    kv_room_tokens: int
    kv_need_tokens: int | None = None
    batch: int | None = None
    step_s: float | None = None
    rho: float | None = None
    latency: Latency | None = None  # None with rho from 1 on, too: the queue has no steady length


def kv_room_tokens(spec: ModelSpec, device: Device) -> int:
    """Return the KV tokens that memory limit and device leave; 0 where the weights alone do not fit."""
    left = kv_capacity_bytes(spec, device, spec.memory_limit_bytes, spec.max_num_batched_tokens)
    return max(int(left // (spec.kv_bytes_per_token * BLOCK_TOKENS)), 0) * BLOCK_TOKENS


def loads(spec: ModelSpec, device: Device) -> bool:
    """Whether the engine would start: its memory must hold one request of max_model_len."""
    return kv_room_tokens(spec, device) >= spec.max_model_len


def widest_precision(spec: ModelSpec, device: Device) -> str | None:
    """Return the widest precision of weights with which the model starts inside its limit, or None."""
    for precision in ("bf16", "fp8", "int4"):
        if loads(spec.model_copy(update={"precision": precision}), device):
            return precision
    return None


def predict(spec: ModelSpec, device: Device, contract: Contract, *, slower: float = 1.0) -> Latency:
    """Return the latency that virtual time shows, were every step `slower` times as long.

    The model must start there. A slower engine is the same engine under a higher rate, with all its times stretched.
    """
    limits = limits_of(spec, device)
    count = max(min(REQUESTS, _TOKENS // contract.output_tokens), 100)
    moments = arrivals_s(contract.arrival, contract.rate_rps * slower, count, _SEED)
    one = (contract.prompt_tokens, contract.output_tokens)
    served = simulate(spec, device, limits, (Simulated(*one, at_s) for at_s in moments))
    judged = served[int(count * _WARM_UP) :]
    e2e_s = sorted(one.e2e_s * slower for one in judged)
    queued_s = [(one.started_s or 0.0) - one.arrival_s - device.request_overhead_s for one in judged]
    return Latency(
        mean_s=sum(e2e_s) / len(e2e_s),
        quantile_s=e2e_s[max(math.ceil(contract.quantile * len(e2e_s) - 1e-9), 1) - 1],
        queued_s=sum(queued_s) / len(queued_s) * slower,
        preempted=any(one.preemptions for one in judged),
    )


def assess(spec: ModelSpec, device: Device, contract: Contract) -> Feasibility:
    """Return whether `spec` on `device`, alone, can meet `contract`."""
    steady = Steady(spec, device, limits_of(spec, device), contract)
    found = Feasibility(
        model=spec.name,
        precision=spec.precision,
        device=device.title,
        contract=contract,
        fit=Fit.INFEASIBLE,
        term=Term.MEMORY,
        weight_bytes=spec.weight_bytes,
        memory_limit_bytes=min(spec.memory_limit_bytes, device.memory_bytes),
        kv_room_tokens=kv_room_tokens(spec, device),
    )
    if not loads(spec, device):
        return found
    if contract.prompt_tokens + contract.output_tokens > spec.max_model_len:
        return replace(found, term=Term.LENGTH)
    found = replace(
        found,
        term=_overload_term(steady),
        kv_need_tokens=steady.kv_need_tokens,
        batch=steady.batch,
        step_s=steady.mean_step(steady.batch).duration_s,
        rho=steady.rho,
    )
    if steady.rho >= 1.0:
        return found
    latency = predict(spec, device, contract)
    fit = Fit.FEASIBLE
    if contract.limit_s is not None and latency.quantile_s > contract.limit_s:
        fit = Fit.INFEASIBLE
    elif not holds(steady, slower=SLACK):
        fit = Fit.MARGINAL
    return replace(found, fit=fit, term=_term(steady, latency), latency=latency)


def limits_of(spec: ModelSpec, device: Device) -> Limits:
    """Return what bounds the engine's steps with the model's own settings."""
    return Limits(spec.max_num_seqs, spec.max_num_batched_tokens, kv_room_tokens(spec, device))


def holds(steady: Steady, *, slower: float = 1.0) -> bool:
    """Whether the contract can be met by an engine whose steps are `slower` times as long."""
    if steady.rho * slower >= 1.0:
        return False
    spec, device, contract = steady.spec, steady.device, steady.contract
    if contract.limit_s is None:
        return True
    alone = simulate(spec, device, steady.limits, [Simulated(contract.prompt_tokens, contract.output_tokens, 0.0)])
    if alone[0].e2e_s * slower > contract.limit_s:  # a search asks often, and this is soon answered
        return False
    return predict(spec, device, contract, slower=slower).quantile_s <= contract.limit_s


def _overload_term(steady: Steady) -> Term:
    """What keeps the capacity below the rate: the KV where it bounds the batch, else what the step waits for."""
    if steady.largest == steady.largest_by_kv < steady.limits.max_num_seqs:
        return Term.KV
    return _binding(steady, lambda one: 1 / one.capacity_rps, steady.largest)


def _term(steady: Steady, latency: Latency) -> Term:
    if latency.queued_s > latency.mean_s / 4:
        return Term.KV if latency.preempted or steady.kv_need_tokens > steady.limits.kv_tokens else Term.QUEUEING
    return _binding(steady, lambda one: one.mean_step(one.batch).duration_s, steady.batch)


def _binding(steady: Steady, cost: Callable[[Steady], float], batch: int) -> Term:
    """Return what would lower `cost` most if the device had twice as much of it."""
    device, step = steady.device, steady.mean_step(batch)
    twice = {precision: 2 * flops for precision, flops in device.flops.items()}
    half = (device.step_overhead_s / 2, device.sequence_overhead_s / 2)
    better = {
        Term.WEIGHTS if step.weights_s >= step.kv_s else Term.KV_READ: replace(device, bandwidth=2 * device.bandwidth),
        Term.PREFILL: replace(device, flops=twice),
        Term.OVERHEAD: replace(device, step_overhead_s=half[0], sequence_overhead_s=half[1]),
    }
    costs = {term: cost(replace(steady, device=one)) for term, one in better.items()}
    return min(costs, key=lambda term: costs[term])
