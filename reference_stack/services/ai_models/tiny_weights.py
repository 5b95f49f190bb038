"""Random weights of a small model whose last layer knows which token follows which, written as safetensors."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reference_stack.services.ai_models.model_spec import Architecture

Matrix: TypeAlias = npt.NDArray[np.float32]

# Attention and MLP run in full but hardly move the hidden state: the last token alone decides the next.
_SHRINK = 1e-3
# With 256 dimensions the successor's logit is about 20 and the others' lie within 5 of 0: at temperature 1 it still has
# nearly all the probability.
_SHARPNESS = 0.08


def successors(corpus: list[int], beginnings: Iterable[int], end: int, vocab: int) -> npt.NDArray[np.int64]:
    """Return for each token which one follows it, so that greedy decoding always comes to `end`.

    One long walk through pairs of neighbours of `corpus` visits no token twice and ends with the corpus' last token,
    which `end` follows. Tokens off the walk are followed by what follows their last appearance: that moves forward in
    the corpus, until it meets the walk. Tokens that never appear lead to places spread over the corpus; `beginnings`,
    with which prompts end, and `end` lead to its first token.
    """
    spread = list(dict.fromkeys(corpus))
    table = np.array([spread[token % len(spread)] for token in range(vocab)], dtype=np.int64)
    for token, following in pairwise(corpus):
        table[token] = following
    table[[*beginnings, end]] = corpus[0]
    walk = long_walk(corpus)
    for token, following in zip(walk, [*walk[1:], end], strict=True):
        table[token] = following
    return table


def long_walk(corpus: list[int], tries: int = 400) -> list[int]:
    """Return the longest found walk from the corpus' first to its last token over pairs of neighbours."""
    following: dict[int, list[int]] = {}
    for token, after in pairwise(corpus):
        following.setdefault(token, []).append(after)
    following[corpus[-1]] = []
    often = Counter(corpus)
    rng = random.Random(len(corpus))  # noqa: S311 - a search, not a secret
    best = [corpus[0], corpus[-1]]
    for _ in range(tries):
        walk, seen = [corpus[0]], {corpus[0]}
        # The last token leads nowhere new, so that every walk ends.
        while fresh := [token for token in following[walk[-1]] if token not in seen]:
            # Rare tokens first: the frequent ones connect everything, and each serves once.
            walk.append(min(fresh, key=lambda token: often[token] * rng.random()))
            seen.add(walk[-1])
        if walk[-1] == corpus[-1] and len(walk) > len(best):
            best = walk
    return best


def talk(table: npt.NDArray[np.int64], hidden: int, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Return an embedding and a head under which each token's largest logit, by far, is its successor's.

    Each token is embedded as the head's row of its successor, and random rows are nearly orthogonal.
    """
    rows = rng.standard_normal((len(table), hidden), dtype=np.float32)
    rows /= np.sqrt(np.mean(rows**2, axis=1, keepdims=True))
    return rows[table], rows * np.float32(_SHARPNESS)


def layer_tensors(a: Architecture, layer: int, rng: np.random.Generator) -> dict[str, Matrix]:
    """Return the tensors of one layer under the names of a Hugging Face checkpoint of `a.family`."""

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Matrix:
        return rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale / np.sqrt(columns))

    prefix = f"model.layers.{layer}."
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    tensors = {
        "input_layernorm.weight": np.ones(a.hidden, dtype=np.float32),
        "post_attention_layernorm.weight": np.ones(a.hidden, dtype=np.float32),
        "self_attn.o_proj.weight": matrix(a.hidden, q, _SHRINK),
    }
    if a.family == "Phi3ForCausalLM":
        tensors["self_attn.qkv_proj.weight"] = matrix(q + 2 * kv, a.hidden)
        tensors["mlp.gate_up_proj.weight"] = matrix(2 * a.intermediate, a.hidden)
        tensors["mlp.down_proj.weight"] = matrix(a.hidden, a.intermediate, _SHRINK)
        return {prefix + name: tensor for name, tensor in tensors.items()}
    for name, size in (("q", q), ("k", kv), ("v", kv)):
        tensors[f"self_attn.{name}_proj.weight"] = matrix(size, a.hidden)
    if a.experts == 1:
        tensors["mlp.gate_proj.weight"] = matrix(a.intermediate, a.hidden)
        tensors["mlp.up_proj.weight"] = matrix(a.intermediate, a.hidden)
        tensors["mlp.down_proj.weight"] = matrix(a.hidden, a.intermediate, _SHRINK)
    else:
        tensors["block_sparse_moe.gate.weight"] = matrix(a.experts, a.hidden)
        for expert in range(a.experts):
            name = f"block_sparse_moe.experts.{expert}"
            tensors[f"{name}.w1.weight"] = matrix(a.intermediate, a.hidden)
            tensors[f"{name}.w3.weight"] = matrix(a.intermediate, a.hidden)
            tensors[f"{name}.w2.weight"] = matrix(a.hidden, a.intermediate, _SHRINK)
    return {prefix + name: tensor for name, tensor in tensors.items()}


def model_tensors(a: Architecture, table: npt.NDArray[np.int64], seed: int) -> dict[str, Matrix]:
    """Return all tensors of a model of architecture `a` whose greedy reply follows `table`."""
    rng = np.random.default_rng(seed)
    embedding, head = talk(table, a.hidden, rng)
    tensors = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": np.ones(a.hidden, dtype=np.float32),
        "lm_head.weight": head,
    }
    for layer in range(a.layers):
        tensors |= layer_tensors(a, layer, rng)
    return tensors


def to_bf16(values: Matrix) -> npt.NDArray[np.uint16]:
    """Return the upper halves of `values`, rounded to the nearest even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def from_bf16(bits: npt.NDArray[np.uint16]) -> Matrix:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def write_safetensors(file: Path, tensors: Mapping[str, Matrix]) -> None:
    """Write `tensors` in BF16: eight bytes of header length, the header in JSON, the bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    parts: list[bytes] = []
    at = 0
    for name, tensor in _sorted(tensors.items()):
        part = to_bf16(tensor).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.writelines(parts)


def _sorted(items: Iterable[tuple[str, Matrix]]) -> list[tuple[str, Matrix]]:
    return sorted(items, key=lambda item: item[0])
