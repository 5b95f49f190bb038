"""What vLLM tells of its KV cache's configuration, as labels of one gauge. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reference_stack.services.ai_models.physics import BLOCK_TOKENS

# vLLM 0.32's values where nothing is set: features that are not simulated, or that do not show.
_DEFAULTS = {
    "_block_size_resolved": "True",
    "cache_dtype": "auto",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "gpu_memory_utilization": "0.92",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "float32",
    "num_cpu_blocks": "None",
    "num_gpu_blocks_override": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "False",
}


def cache_labels(
    blocks: int, max_model_len: int, kv_bytes_per_token: int, *, prefix_caching: bool
) -> Mapping[str, str]:
    """Return the labels of a cache of `blocks`."""
    tokens = blocks * BLOCK_TOKENS
    own = {
        "block_size": BLOCK_TOKENS,
        "effective_attention_block_size": BLOCK_TOKENS,
        "enable_prefix_caching": prefix_caching,
        "engine": 0,
        "kv_cache_max_concurrency": tokens / max_model_len,
        "kv_cache_memory_bytes": tokens * kv_bytes_per_token,
        "kv_cache_size_tokens": tokens,
        "num_gpu_blocks": blocks,
    }
    return {**_DEFAULTS, **{name: str(value) for name, value in own.items()}}
