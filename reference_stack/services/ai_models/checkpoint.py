"""Whether a folder holds the model that a row describes: architecture, precision, tokenizer, all shards.

Reads small files alone, so that a wrong checkpoint is refused in milliseconds and not by vLLM after minutes. Whether
the files are of safe formats and unchanged is the storage service's to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reference_stack.services.ai_models.model_spec import ModelSpec

INDEX = "model.safetensors.index.json"
_FOUR_BIT = ("awq", "gptq", "awq_marlin", "gptq_marlin", "compressed-tensors", "bitsandbytes")
# A vocabulary is padded: Phi-3 has 32,011 tokens in 32,064 rows, our tiny models 1,226 in 2,048. Less than this part is
# another model's.
_LEAST_FILLED = 0.5
_TOKENIZERS = ("tokenizer.json", "tokenizer.model")


def mismatches(folder: Path, spec: ModelSpec) -> Iterator[str]:
    """Yield in words, each with its file, what keeps the checkpoint in `folder` from being served as `spec`."""
    try:
        config = _read(folder / "config.json")
    except ValueError as error:
        yield str(error)
        return
    yield from _config(config, spec)
    yield from _shards(folder)
    yield from _tokenizer(folder, config)


def _config(config: Mapping[str, Any], spec: ModelSpec) -> Iterator[str]:
    a = spec.architecture
    families = config.get("architectures")
    if families != [a.family]:
        yield f"config.json is of {_words(families)}, and {spec.name} is {a.family}"
        return
    expected = {
        "num_hidden_layers": a.layers,
        "hidden_size": a.hidden,
        "intermediate_size": a.intermediate,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
    } | ({"num_local_experts": a.experts} if a.experts > 1 else {})
    for key, value in expected.items():
        if config.get(key) != value:
            yield f"config.json: {key} is {config.get(key)}, and {spec.name} has {value}"
    quantised = config.get("quantization_config")
    method = str(quantised.get("quant_method")) if isinstance(quantised, dict) else ""
    if spec.precision == "int4" and method not in _FOUR_BIT:
        held = f"quantised by {method}" if method else "not quantised"
        yield (
            f"config.json: its weights are {held}; in {spec.memory_limit_bytes / 1e9:g} GB {spec.name} needs 4-bit "
            "ones (AWQ or GPTQ)"
        )


def _words(families: object) -> str:
    return ", ".join(map(str, families)) if isinstance(families, list) and families else "no architecture"


def _shards(folder: Path) -> Iterator[str]:
    """Yield what is missing of the weights: the one file, or what the index lists."""
    index = folder / INDEX
    if not index.exists():
        if not any(folder.glob("*.safetensors")):
            others = sorted(path.name for path in folder.glob("*.*") if path.suffix in (".bin", ".pt", ".pth", ".gguf"))
            yield "there is no .safetensors file" + (
                f"; {others[0]} is of a format that is not loaded" if others else ""
            )
        return
    try:
        shards = _read(index).get("weight_map")
    except ValueError as error:
        yield str(error)
        return
    if not isinstance(shards, dict) or not shards:
        yield f"{INDEX} lists no weights"
        return
    names = sorted(set(map(str, shards.values())))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        yield f"{missing[0]} is missing, {len(missing)} of the {len(names)} files that {INDEX} lists"


def _tokenizer(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    rows = config.get("vocab_size")
    if not isinstance(rows, int):
        yield "config.json says no vocab_size"
        return
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        yield f"there is no tokenizer: {' or '.join(_TOKENIZERS)}"
        return
    if not (folder / "tokenizer.json").is_file():
        return  # sentencepiece's own format: vLLM reads it
    try:
        tokens = _tokens(_read(folder / "tokenizer.json"))
    except (ValueError, TypeError, KeyError, AttributeError):
        yield "tokenizer.json is no tokenizer"
        return
    if not _LEAST_FILLED * rows <= tokens <= rows:
        yield f"tokenizer.json has {tokens} tokens, and the model {rows}: it is another model's"


def _tokens(tokenizer: Mapping[str, Any]) -> int:
    """Return one more than the largest number of a token."""
    vocabulary = tokenizer["model"]["vocab"]
    largest = max(vocabulary.values()) if isinstance(vocabulary, dict) else len(vocabulary) - 1
    return 1 + max([largest, *(int(row["id"]) for row in tokenizer.get("added_tokens", []))])


def _read(file: Path) -> dict[str, Any]:
    """Return the object in `file`; raise ValueError in words where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{file.name} is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} is not an object")  # noqa: TRY004 - one kind of error for one kind of file
    return found
