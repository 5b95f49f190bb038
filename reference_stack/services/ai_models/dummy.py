"""Makes the folder of a model without its weights: true sizes and a tokenizer, for `--load-format dummy`.

vLLM then fills the true-size architecture with random numbers on the device. Nothing is downloaded, and what a step
reads and computes is what it is with real weights. The text means nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from reference_stack.services.ai_models.bpe import tokenizer_json
from reference_stack.services.ai_models.model_folder import make_folder
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.reply import TEXT
from reference_stack.services.ai_models.tiny import CONTROLS, config_json, tokenizer_config, vocabulary

_FORMAT = "1"  # counts up when what is written changes, so that old folders are made again


def make(spec: ModelSpec, root: Path) -> Path:
    """Make the folder of `spec` under `root` unless it is there, and return it."""
    family = spec.template.family
    parts = [_FORMAT, spec.model_dump(mode="json"), TEXT, tokenizer_config(family, spec.architecture.max_positions)]
    return make_folder(root, spec.name, parts, lambda folder: _write(spec, folder))


def _write(spec: ModelSpec, folder: Path) -> None:
    family, a = spec.template.family, spec.architecture
    vocab = vocabulary(family)
    end = vocab.numbers[CONTROLS[family].eos]
    files = {
        "config.json": config_json(a, family, vocab),
        "generation_config.json": {"bos_token_id": vocab.numbers["<s>"], "eos_token_id": end},
        # Random weights sample any number: one without a text would be a token that no client sees.
        "tokenizer.json": tokenizer_json(vocab, CONTROLS[family].bos, a.vocab),
        "tokenizer_config.json": tokenizer_config(family, a.max_positions),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
