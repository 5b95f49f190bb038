"""Whether a published config.json is of the model that a service serves."""

from __future__ import annotations

from collections.abc import Mapping

from reference_stack.services.ai_models.model_spec import Architecture

# our name -> the name in config.json
_NAMES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "experts": "num_local_experts",
    "active_experts": "num_experts_per_tok",
    "vocab": "vocab_size",
    "max_positions": "max_position_embeddings",
    "rope_theta": "rope_theta",
    "tied_embeddings": "tie_word_embeddings",
}


def differences(architecture: Architecture, config: Mapping[str, object]) -> list[str]:
    """Return each size in which `config` differs from `architecture`, with both values; empty when it is that model."""
    families = config.get("architectures")
    family = families[0] if isinstance(families, list) and families else None
    found = [] if family == architecture.family else [f"architectures is {family}, not {architecture.family}"]
    heads = config.get("num_attention_heads")
    hidden = config.get("hidden_size")
    ratio = hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None
    # What transformers assumes where a config is silent.
    assumed = {"num_key_value_heads": heads, "head_dim": ratio, "num_local_experts": 1, "num_experts_per_tok": 1}
    assumed["tie_word_embeddings"] = False
    for ours, theirs in _NAMES.items():
        wanted = getattr(architecture, ours)
        said = config.get(theirs)
        value = assumed.get(theirs) if said is None else said
        if value != wanted:
            found.append(f"{theirs} is {value}, not {wanted}")
    return found
