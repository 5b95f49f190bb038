"""How long one step of an engine takes on a device, and how many KV tokens fit. Pure.

A step reads weights and KV once and does the arithmetic of its tokens; whichever takes longer binds (roofline), plus
what the host and the launches cost. Peak figures are the vendors' data sheets (dense, without sparsity). Efficiencies
and overheads are estimates until `hxp-stack calibrate` has fitted them to traces of the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from reference_stack.errors import SettingsError, nearest
from reference_stack.services.ai_models.model_spec import WEIGHT_BYTES, Architecture, ModelSpec, Precision

BLOCK_TOKENS = 16  # vLLM's default KV block on a GPU


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator: memory in bytes, bandwidth in bytes/s, arithmetic in FLOP/s by precision of the weights.

    `*_efficiency` is the part of the peak that kernels reach; `step_overhead_s` is paid once a step,
    `sequence_overhead_s` for each sequence in it, `request_overhead_s` once a request before it is queued. `api_*_s` is
    what the API server works on a request and on a token; it does one thing at a time (see api_server.py).
    """

    name: str
    title: str
    memory_bytes: float
    bandwidth: float
    flops: Mapping[Precision, float]
    bandwidth_efficiency: float = 0.8  # estimate: large streaming reads reach 75-90 % of the data sheet
    flops_efficiency: float = 0.5  # estimate: prefill of a few hundred tokens in serving reaches 40-60 %
    step_overhead_s: float = 1.5e-3  # estimate: scheduling, sampling, detokenising, some 300 launches in a CUDA graph
    sequence_overhead_s: float = 8e-6  # estimate: host work for each sequence of a step
    request_overhead_s: float = 2e-3  # estimate: HTTP, validation, chat template, tokenising
    schedules_ahead: bool = False  # a step is chosen while the one before it runs: who comes then waits a step longer
    calibrated: str = ""  # with what its constants were measured; empty: they are estimates
    launch_s: float = 0.0  # to launch a step for which there is no CUDA graph; the device works meanwhile
    api_request_s: float = 0.0
    api_token_s: float = 0.0


def _tensor_flops(bf16: float, fp8: float) -> Mapping[Precision, float]:
    # Weight-only INT4 is unpacked and multiplied in BF16.
    return {"bf16": bf16, "fp8": fp8, "int4": bf16}


class _Constants(TypedDict):
    bandwidth_efficiency: float
    flops_efficiency: float
    step_overhead_s: float
    sequence_overhead_s: float
    request_overhead_s: float
    launch_s: float
    schedules_ahead: bool


# Fitted by `hxp-stack calibrate` to vLLM 0.26 on an H200, see docs/reference/calibration.md; an H100 differs in memory.
_HOPPER: _Constants = {
    "bandwidth_efficiency": 0.693,
    "flops_efficiency": 0.359,
    "step_overhead_s": 2.35e-3,
    "sequence_overhead_s": 3.6e-6,
    "request_overhead_s": 10.6e-3,
    "launch_s": 21.3e-3,
    "schedules_ahead": True,
}
_TERA = 1e12
_MIB = 2.0**20
DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        # Memory is what the driver reports: the marketing's gigabytes are neither 1e9 nor 2**30 bytes.
        Device(
            "h200",
            "NVIDIA H200 SXM",
            143771 * _MIB,
            4.8 * _TERA,
            _tensor_flops(989.5 * _TERA, 1979 * _TERA),
            calibrated="vLLM 0.26 with random weights",
            **_HOPPER,
        ),
        Device(
            "h100",
            "NVIDIA H100 SXM",
            81559 * _MIB,
            3.35 * _TERA,
            _tensor_flops(989.5 * _TERA, 1979 * _TERA),
            **_HOPPER,
        ),
        # No FP8 units: FP8 weights are unpacked and multiplied in BF16.
        Device("a100", "NVIDIA A100 80 GB SXM", 81920 * _MIB, 2.039 * _TERA, _tensor_flops(312 * _TERA, 312 * _TERA)),
        Device("l40s", "NVIDIA L40S", 46068 * _MIB, 0.864 * _TERA, _tensor_flops(362 * _TERA, 733 * _TERA)),
        # Two virtual cores; the overheads are what tiny models take of a core's time, the rest an estimate.
        Device(
            "cpu",
            "two CPU cores",
            16e9,
            10e9,
            _tensor_flops(1.0 * _TERA, 1.0 * _TERA),
            flops_efficiency=0.17,
            step_overhead_s=2.7e-3,
            sequence_overhead_s=7e-5,
            request_overhead_s=2e-3,
            api_request_s=3.5e-3,
            api_token_s=8e-5,
        ),
        # No physics: for what is judged in front of a model, such as a gateway.
        Device(
            "ideal",
            "no device: steps take no time",
            1e15,
            1e30,
            _tensor_flops(1e30, 1e30),
            step_overhead_s=0.0,
            sequence_overhead_s=0.0,
            request_overhead_s=0.0,
        ),
    )
}

# CUDA context, libraries, workspaces and graphs of one engine: what four engines of vLLM 0.26 held on an H200, by
# nvidia-smi, beyond their weights, KV and activations was 1.2 GB each (Mixtral 2.2).
RUNTIME_BYTES = 1.3e9


def find_device(name: str) -> Device:
    """Return the device called `name`; raise SettingsError with the nearest right spelling."""
    if name not in DEVICES:
        raise SettingsError(f"no device {name!r}", hint=nearest(name, DEVICES))
    return DEVICES[name]


def experts_hit(architecture: Architecture, tokens: int) -> float:
    """Return the expected number of experts of one layer that a batch of `tokens` touches.

    With E experts of which each token takes k independently: E * (1 - (1 - k/E)^n).
    """
    total, active = architecture.experts, architecture.active_experts
    return total * (1.0 - (1.0 - active / total) ** tokens)


def weight_bytes_read(spec: ModelSpec, tokens: int) -> float:
    """Return the bytes of weights that a step of `tokens` reads; embeddings are gathered, not read whole."""
    a = spec.architecture
    layer = a.attention_params + experts_hit(a, tokens) * a.expert_params
    head = (a.head_params + a.layers * a.router_params) * WEIGHT_BYTES["bf16"]
    return a.layers * layer * WEIGHT_BYTES[spec.precision] + head


def step_flops(spec: ModelSpec, prefill_tokens: int, decode_seqs: int, context_tokens: int) -> float:
    """Return the FLOPs of a step: two for each active parameter and token, four for each score of attention."""
    a = spec.architecture
    layers = a.params_active - a.head_params - a.embedding_params
    attention = 4 * a.layers * a.heads * a.head_dim * context_tokens
    return 2 * layers * (prefill_tokens + decode_seqs) + 2 * a.head_params * max(decode_seqs, 1) + attention


def step_time_s(spec: ModelSpec, device: Device, prefill_tokens: int, decode_seqs: int, context_tokens: int) -> float:
    """Return the duration in seconds of one step.

    `prefill_tokens` are the prompt tokens that it computes, `decode_seqs` the sequences that get one more token,
    `context_tokens` the KV tokens that it reads.
    """
    tokens = prefill_tokens + decode_seqs
    if tokens == 0:
        return 0.0
    moved = weight_bytes_read(spec, tokens) + context_tokens * spec.kv_bytes_per_token
    read_s = moved / (device.bandwidth * device.bandwidth_efficiency)
    flops = step_flops(spec, prefill_tokens, decode_seqs, context_tokens)
    compute_s = flops / (device.flops[spec.precision] * device.flops_efficiency)
    launch_s = device.launch_s if tokens > spec.graph_tokens else 0.0
    return max(read_s, compute_s, launch_s) + device.step_overhead_s + device.sequence_overhead_s * decode_seqs


def activation_bytes(spec: ModelSpec, batched_tokens: int, seqs: int) -> float:
    """Return the peak of what a step keeps besides weights and KV: hidden states, MLP rows and logits."""
    a = spec.architecture
    row = 2 * (4 * a.hidden + 3 * a.intermediate * a.active_experts)  # gate and up together, and their product
    return batched_tokens * row + seqs * a.vocab * 4


def kv_capacity_bytes(spec: ModelSpec, device: Device, memory_limit_bytes: float, batched_tokens: int) -> float:
    """Return the bytes left for KV inside the limit or the device, whichever is smaller; negative: it does not fit."""
    room = min(memory_limit_bytes, device.memory_bytes)
    return room - spec.weight_bytes - RUNTIME_BYTES - activation_bytes(spec, batched_tokens, spec.max_num_seqs)


def kv_capacity_tokens(spec: ModelSpec, device: Device, memory_limit_bytes: float, batched_tokens: int) -> int:
    """Return how many KV tokens fit, in whole blocks; raise SettingsError where not even one request would."""
    left = kv_capacity_bytes(spec, device, memory_limit_bytes, batched_tokens)
    blocks = int(left // (spec.kv_bytes_per_token * BLOCK_TOKENS))
    if blocks * BLOCK_TOKENS < spec.max_model_len:
        raise SettingsError(
            f"{spec.name}: {spec.precision} weights are {spec.weight_bytes / 1e9:.1f} GB; what {device.title} or the "
            f"limit of {memory_limit_bytes / 1e9:.0f} GB leaves holds {max(blocks, 0) * BLOCK_TOKENS} KV tokens, "
            f"less than one request of {spec.max_model_len}",
            hint="use a smaller precision, a shorter max_model_len or a larger limit",
        )
    return blocks * BLOCK_TOKENS
