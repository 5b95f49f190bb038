"""What a simulated server may hold, and the key that it asks for, from its settings."""

from __future__ import annotations

import os

from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import BLOCK_TOKENS, find_device, kv_capacity_tokens
from reference_stack.services.ai_models.scheduler import Limits


def limits_of(settings: ModelSettings, spec: ModelSpec) -> Limits:
    """Return the limits of the scheduler; raise SettingsError where the model or one request does not fit."""
    batched = settings.max_num_batched_tokens or spec.max_num_batched_tokens
    longest = settings.max_model_len or spec.max_model_len
    if longest > spec.architecture.max_positions:
        raise SettingsError(
            f"{spec.name}: max_model_len {longest} is over the {spec.architecture.max_positions} positions of the model"
        )
    kv_tokens = settings.kv_tokens
    if kv_tokens is None:
        kv_tokens = kv_capacity_tokens(spec, find_device(settings.device), spec.memory_limit_bytes, batched)
    kv_tokens -= kv_tokens % BLOCK_TOKENS  # KV is given out in whole blocks
    if kv_tokens < longest:
        raise SettingsError(
            f"{spec.name}: {kv_tokens} KV tokens do not hold one request of {longest}",
            hint=f"set max_model_len to at most {kv_tokens}",
        )
    return Limits(settings.max_num_seqs or spec.max_num_seqs, batched, kv_tokens)


def read_key(settings: ModelSettings) -> bytes | None:
    """Return the key that guards /v1, None where none is configured; raise SettingsError where it cannot be read."""
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env, "")
        where = f"the environment variable {settings.api_key_env}"
    elif settings.api_key_file is not None:
        try:
            key = settings.api_key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"cannot read the key in {settings.api_key_file}: {error.strerror}") from None
        where = str(settings.api_key_file)
    else:
        return None
    if not key:
        raise SettingsError(f"{settings.service}: {where} holds no key")
    return key.encode()
