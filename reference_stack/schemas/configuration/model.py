"""Settings of a simulated model service (mixtral, hermes, openchat, phi3)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from reference_stack.schemas.configuration.base import ServiceSettings
from reference_stack.schemas.configuration.script import Script

Runner = Literal["generate", "pooling"]


class ModelSettings(ServiceSettings):
    """What the simulated engine serves and on which device. None: the model's own value.

    The key is never written here: `api_key_env` names an environment variable that holds it, `api_key_file` a file.
    """

    service: str = Field(description="which model; also the served model name")
    device: Literal["h200", "h100", "a100", "l40s", "cpu", "ideal"] = "h200"
    speed: float = Field(default=1.0, gt=0, le=1000, description="2 runs the device twice as fast")
    seed: int = Field(default=0, ge=0, description="which replies are given")
    api_key_env: str | None = None
    api_key_file: Path | None = None
    max_model_len: int | None = Field(default=None, gt=0, description="tokens")
    max_num_seqs: int | None = Field(default=None, gt=0, description="sequences in one step")
    max_num_batched_tokens: int | None = Field(default=None, gt=0, description="tokens in one step")
    max_num_queued_reqs: int | None = Field(default=None, ge=1, description="503 beyond; None: all wait")
    enable_prefix_caching: bool = Field(default=True, description="equal beginnings of prompts are computed once")
    enable_prompt_tokens_details: bool = Field(default=False, description="usage says how many tokens were cached")
    runner: Runner = Field(default="generate", description="pooling: embeddings alone")
    enable_auto_tool_choice: bool = Field(default=False, description="calls of tools, as with vLLM's flag and a parser")
    shutdown_timeout_s: float = Field(default=0.0, ge=0, le=3600, description="how long SIGTERM lets requests end")
    allow_scripts: bool = Field(default=False, description="requests may say how they are answered: hxp_script")
    script: Script | None = Field(default=None, description="how requests without a script of their own are answered")
    kv_tokens: int | None = Field(default=None, gt=0, description="KV tokens; None: what the memory limit leaves")

    @model_validator(mode="after")
    def _one_key(self) -> ModelSettings:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("give api_key_env or api_key_file, not both")
        return self
