"""What each model is: its architecture, the precision that fits its memory limit, and the bytes that follow."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reference_stack.catalogue import load_catalogue
from reference_stack.errors import SettingsError, nearest
from reference_stack.schemas.configuration.model import Runner

Precision = Literal["bf16", "fp8", "int4"]
TemplateFamily = Literal["mistral", "chatml", "openchat", "phi3"]

# AWQ and GPTQ with groups of 128: half a byte, and per group a 2-byte scale and a 4-bit zero point.
WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "int4": 0.5 + 2.5 / 128}
KV_BYTES = {"bf16": 2, "fp8": 1}


class _Strict(BaseModel):
    """Unknown keys are errors: a misspelt size must never leave a default in force."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Strict):
    """Sizes of a decoder-only transformer with gated MLPs; `experts` is 1 where the MLP is dense."""

    family: str
    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    intermediate: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    experts: int = Field(gt=0)
    active_experts: int = Field(gt=0)
    vocab: int = Field(gt=0)
    max_positions: int = Field(gt=0)
    rope_theta: float = Field(gt=0)
    tied_embeddings: bool

    @property
    def attention_params(self) -> int:
        """Parameters of one layer's four projections."""
        return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)

    @property
    def expert_params(self) -> int:
        """Parameters of one expert of one layer (gate, up and down projections)."""
        return 3 * self.hidden * self.intermediate

    @property
    def router_params(self) -> int:
        return self.hidden * self.experts if self.experts > 1 else 0

    @property
    def head_params(self) -> int:
        """Parameters of the matrix that turns a hidden state into logits."""
        return self.vocab * self.hidden

    @property
    def embedding_params(self) -> int:
        return 0 if self.tied_embeddings else self.head_params

    @property
    def norm_params(self) -> int:
        return (2 * self.layers + 1) * self.hidden

    @property
    def params_total(self) -> int:
        layer = self.attention_params + self.router_params + self.experts * self.expert_params
        return self.layers * layer + self.norm_params + self.head_params + self.embedding_params

    @property
    def params_active(self) -> int:
        """Parameters that one token meets."""
        idle = self.layers * (self.experts - self.active_experts) * self.expert_params
        return self.params_total - idle


class Template(_Strict):
    """A chat template by its family, and what it costs in tokens: once, and for each message."""

    family: TemplateFamily
    base_tokens: int = Field(ge=0)
    message_tokens: int = Field(ge=0)


class ModelSpec(_Strict):
    """One model as it is served. `path` is where real weights lie."""

    name: str
    title: str
    path: Path
    architecture: Architecture
    precision: Precision
    kv_precision: Literal["bf16", "fp8"]
    max_model_len: int = Field(gt=0)
    max_num_seqs: int = Field(gt=0)
    max_num_batched_tokens: int = Field(gt=0)
    graph_tokens: int = Field(gt=0)  # largest step that a CUDA graph is kept for; more are launched one by one
    template: Template
    runner: Runner = "generate"  # pooling: it has embeddings alone

    @property
    def memory_limit_bytes(self) -> int:
        """The limit of the catalogue."""
        limit = load_catalogue()[self.name].memory_bytes
        if limit is None:
            raise SettingsError(f"{self.name} has no memory limit in stack.yaml")
        return limit

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights: layers in `precision`; embeddings, head, router and norms stay BF16."""
        a = self.architecture
        layers = a.layers * (a.attention_params + a.experts * a.expert_params)
        kept = a.params_total - layers
        return layers * WEIGHT_BYTES[self.precision] + kept * WEIGHT_BYTES["bf16"]

    @property
    def kv_bytes_per_token(self) -> int:
        a = self.architecture
        return 2 * a.layers * a.kv_heads * a.head_dim * KV_BYTES[self.kv_precision]


def model_names() -> tuple[str, ...]:
    """Return the models that have a data file, in the order of the catalogue."""
    return tuple(name for name, spec in load_catalogue().items() if spec.group == "ai_models")


@functools.cache
def load_spec(name: str) -> ModelSpec:
    """Return the model called `name`; raise SettingsError with the nearest right spelling."""
    if name not in model_names():
        raise SettingsError(f"no model {name!r}", hint=nearest(name, model_names()))
    return read_spec(name, Path(__file__).with_name(f"{name}.yaml"))


def read_spec(name: str, file: Path) -> ModelSpec:
    """Return the model that `file` describes; raise SettingsError that names the key and what it may be."""
    try:
        return ModelSpec.model_validate({"name": name, **yaml.safe_load(file.read_text(encoding="utf-8"))})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = nearest(str(first["input"]), get_args(Precision)) if where == "precision" else ""
        raise SettingsError(f"{file.name}: {where} is {first['input']!r}: {first['msg']}", hint=hint) from None
