"""A measured run as the physics sees it: the harness's traces, and the command line of the engine that was measured.

A folder holds `traces.parquet` and `profile.yaml`, as `hxp perf` leaves them, and `engine.json`: `{"model", "weights",
"flags", "vllm", "device"}`, where `flags` is the command that started the engine; `slots` are the clients of a closed
loop, and `held_back` says that the run is there to test a fit, not to be fitted to. `yardstick.json`, where there is
one, tells how fast the machine was meanwhile.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reference_stack.errors import SettingsError
from reference_stack.orchestration.yardstick import FILE as YARDSTICK
from reference_stack.orchestration.yardstick import read_drift
from reference_stack.schemas.configuration.workload import Contract
from reference_stack.services.ai_models.calibrate import Observed
from reference_stack.services.ai_models.engine import TINY_KV_BYTES, TINY_MODEL_LEN
from reference_stack.services.ai_models.model_spec import ModelSpec, load_spec
from reference_stack.services.ai_models.scheduler import Limits
from reference_stack.services.ai_models.tiny import shrink

ENGINE = "engine.json"
TRACES = "traces.parquet"
_COLUMNS = ["replicate", "intended_s", "prompt_tokens", "output_tokens", "token_hi_s", "error"]
_LEAST = 10  # judged requests: with fewer there is no quantile to speak of
_GRAPH_TOKENS = 512  # vLLM's default: twice max_num_seqs, at most this
# vLLM 0.32's defaults for an API server on a CPU.
_CPU_SEQS, _CPU_BATCHED = 128, 2048


@dataclass(frozen=True, slots=True)
class MeasuredEngine:
    """What engine.json says."""

    model: str
    weights: str
    flags: str
    vllm: str = ""
    device: str = ""
    slots: int = 0
    held_back: bool = False

    @property
    def spec(self) -> ModelSpec:
        """The model with the sizes and limits that the engine was started with."""
        spec = load_spec(self.model)
        if self.weights == "tiny":
            small = {"architecture": shrink(spec.architecture), "precision": "bf16", "kv_precision": "bf16"}
            small |= {"max_num_seqs": _CPU_SEQS, "max_num_batched_tokens": _CPU_BATCHED}
            spec = spec.model_copy(update={**small, "max_model_len": TINY_MODEL_LEN})
        seqs = int(self._flag("--max-num-seqs", spec.max_num_seqs))
        asked = {
            "max_num_seqs": seqs,
            "max_num_batched_tokens": int(self._flag("--max-num-batched-tokens", spec.max_num_batched_tokens)),
            "max_model_len": int(self._flag("--max-model-len", spec.max_model_len)),
            "graph_tokens": int(self._flag("--max-cudagraph-capture-size", min(2 * seqs, _GRAPH_TOKENS))),
        }
        return spec.model_copy(update=asked)

    @property
    def limits(self) -> Limits:
        """What bounds the engine's steps."""
        spec = self.spec
        kv_bytes = int(self._flag("--kv-cache-memory-bytes", TINY_KV_BYTES))
        return Limits(spec.max_num_seqs, spec.max_num_batched_tokens, kv_bytes // spec.kv_bytes_per_token)

    def most_at_once(self, asked: Contract) -> int:
        """Return how many requests of `asked` the engine can run at once: its sequences, or what its KV holds."""
        limits = self.limits
        return max(1, min(limits.max_num_seqs, limits.kv_tokens // (asked.prompt_tokens + asked.output_tokens)))

    def _flag(self, name: str, default: int) -> str:
        words = shlex.split(self.flags)
        return words[words.index(name) + 1] if name in words else str(default)


def read_engine(folder: Path) -> MeasuredEngine:
    """Return what `folder`/engine.json says; raise SettingsError where it is missing or says something else."""
    file = folder / ENGINE
    try:
        return MeasuredEngine(**json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(
            f"{folder} is no run to calibrate from: cannot read {file.name}: {error.strerror}",
            hint="hxp-stack calibrate --device NAME without folders makes its own runs",
        ) from None
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{file} is damaged: {error}") from None


def read_run(folder: Path) -> Observed:
    """Return the run in `folder`; requests that failed are left out. Raises SettingsError that names the file."""
    engine = read_engine(folder)
    try:
        table = pq.read_table(folder / TRACES, columns=_COLUMNS)
    except (OSError, pa.ArrowException) as error:
        raise SettingsError(f"cannot read {folder / TRACES}: {error}", hint="run the profile again") from None
    rows = [row for row in table.to_pylist() if not row["error"] and row["token_hi_s"] and row["output_tokens"]]
    rows.sort(key=lambda row: row["intended_s"])
    judged = np.array([row["replicate"] >= 0 for row in rows], dtype=bool)
    if judged.sum() < _LEAST:
        raise SettingsError(f"{folder}: {judged.sum()} requests ended well; at least {_LEAST} are needed")
    try:
        drift = read_drift(folder)
    except ValueError as error:
        raise SettingsError(f"{folder / YARDSTICK} is damaged: {error}", hint="remove it, and drift stays in") from None
    return Observed(
        name=folder.name,
        spec=engine.spec,
        limits=engine.limits,
        arrival_s=np.array([row["intended_s"] for row in rows]),
        prompt_tokens=np.array([row["prompt_tokens"] for row in rows], dtype=np.int64),
        output_tokens=np.array([row["output_tokens"] for row in rows], dtype=np.int64),
        first_s=np.array([row["token_hi_s"][0] for row in rows]),
        last_s=np.array([row["token_hi_s"][-1] for row in rows]),
        judged=judged,
        slots=engine.slots,
        drift=drift,
    )


def read_runs(folders: Sequence[Path]) -> tuple[list[Observed], list[Observed]]:
    """Return every run in `folders`, each a run folder or a folder of them: those to fit to, and those held back."""
    fitted_to: list[Observed] = []
    held_back: list[Observed] = []
    for folder in folders:
        inside = sorted(file.parent for file in folder.glob(f"*/{ENGINE}"))
        for one in inside or [folder]:
            (held_back if read_engine(one).held_back else fitted_to).append(read_run(one))
    return fitted_to, held_back
