"""Makes a tiny model of a model's own architecture: a folder that vLLM, or anything that reads checkpoints, can load.

Nothing is downloaded and no deep-learning library is needed: sizes shrink, names, layout and chat template stay. The
model talks in readable English, because its last layer is a table of which token follows which in our own text.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from reference_stack.services.ai_models.bpe import Vocabulary, split, tokenizer_json, train
from reference_stack.services.ai_models.model_folder import make_folder
from reference_stack.services.ai_models.model_spec import Architecture, ModelSpec, TemplateFamily
from reference_stack.services.ai_models.reply import TEXT

VOCAB = 2048
MAX_POSITIONS = 4096
_FORMAT = "2"  # counts up when what is written changes, so that old folders are made again


@dataclass(frozen=True, slots=True)
class Control:
    """The special tokens of a template family; `bos` is empty where prompts begin without one."""

    specials: tuple[str, ...]
    bos: str
    eos: str


CONTROLS: dict[TemplateFamily, Control] = {
    "mistral": Control(("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "<s>", "</s>"),
    "chatml": Control(("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"), "<s>", "<|im_end|>"),
    "openchat": Control(("<unk>", "<s>", "</s>", "<|end_of_turn|>", "<|pad_0|>"), "<s>", "<|end_of_turn|>"),
    "phi3": Control(
        ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"), "", "<|end|>"
    ),
}
_MODEL_TYPES = {"MixtralForCausalLM": "mixtral", "MistralForCausalLM": "mistral", "Phi3ForCausalLM": "phi3"}


def chat_template(family: TemplateFamily) -> str:
    """Return the Jinja template of `family`."""
    file = Path(__file__).with_name("templates") / f"{family}.jinja"
    return file.read_text(encoding="utf-8").rstrip("\n")


def shrink(architecture: Architecture) -> Architecture:
    """Return the tiny architecture: two layers of 256; heads keep their grouping, experts their number."""
    grouped = architecture.kv_heads < architecture.heads
    sizes = {"layers": 2, "hidden": 256, "intermediate": 512, "heads": 4, "head_dim": 64, "vocab": VOCAB}
    sizes |= {"kv_heads": 2 if grouped else 4, "max_positions": MAX_POSITIONS}
    return architecture.model_copy(update=sizes)


@functools.cache
def vocabulary(family: TemplateFamily) -> Vocabulary:
    """Return the vocabulary of `family`: its control tokens, and a BPE of our text."""
    return train(TEXT, CONTROLS[family].specials, VOCAB)


def config_json(a: Architecture, family: TemplateFamily, vocab: Vocabulary) -> dict[str, object]:
    """Return the content of `config.json` for architecture `a`."""
    control = CONTROLS[family]
    numbers = vocab.numbers
    config: dict[str, object] = {
        "architectures": [a.family],
        "model_type": _MODEL_TYPES[a.family],
        "vocab_size": a.vocab,
        "hidden_size": a.hidden,
        "intermediate_size": a.intermediate,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "head_dim": a.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": a.max_positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": a.rope_theta,
        "tie_word_embeddings": a.tied_embeddings,
        "torch_dtype": "bfloat16",
        "bos_token_id": numbers["<s>"],
        "eos_token_id": numbers[control.eos],
        "pad_token_id": None,
        "sliding_window": None,
        "use_cache": True,
    }
    if a.experts > 1:
        config |= {"num_local_experts": a.experts, "num_experts_per_tok": a.active_experts}
    if family == "phi3":
        config |= {"original_max_position_embeddings": a.max_positions, "rope_scaling": None, "pad_token_id": 0}
    return config


def tokenizer_config(family: TemplateFamily, max_positions: int = MAX_POSITIONS) -> dict[str, object]:
    """Return the content of `tokenizer_config.json`."""
    control = CONTROLS[family]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": control.eos,
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_positions,
        "chat_template": chat_template(family),
    }


def make(spec: ModelSpec, root: Path) -> Path:
    """Make the tiny model of `spec` under `root` unless it is there, and return its folder."""
    made_of = [_FORMAT, spec.model_dump(mode="json"), TEXT, chat_template(spec.template.family)]
    return make_folder(root, spec.name, made_of, lambda folder: _write(spec, folder))


def _write(spec: ModelSpec, folder: Path) -> None:
    from reference_stack.services.ai_models.tiny_weights import model_tensors, successors, write_safetensors

    family = spec.template.family
    a = shrink(spec.architecture)
    vocab = vocabulary(family)
    control = CONTROLS[family]
    end = vocab.numbers[control.eos]
    beginnings = [vocab.numbers[token] for token in (*control.specials, *split("\n"), ":")]
    table = successors(vocab.encode(" ".join(TEXT.split())), beginnings, end, a.vocab)
    write_safetensors(folder / "model.safetensors", model_tensors(a, table, seed=len(family)))
    files = {
        "config.json": config_json(a, family, vocab),
        "generation_config.json": {"bos_token_id": vocab.numbers["<s>"], "eos_token_id": end},
        "tokenizer.json": tokenizer_json(vocab, control.bos),
        "tokenizer_config.json": tokenizer_config(family),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
