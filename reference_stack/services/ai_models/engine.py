"""An engine is a command line behind vLLM's HTTP API: which program, flags and environment serve a model.

`prepare` is what a supervisor calls; `sim_program` and `vllm_program` are pure and say the same without doing anything.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from reference_stack.errors import NotReady
from reference_stack.schemas.common.program import Program
from reference_stack.services.ai_models.gpu import check_driver, check_room, choose, find_gpus
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import Device, find_device, kv_capacity_tokens
from reference_stack.services.ai_models.vllm_environment import Say, install
from reference_stack.services.ai_models.vllm_recipe import Kind, flaw, recipe_for, version_in
from reference_stack.services.ai_models.weights import weights_facts

Engine = Literal["sim", "vllm"]
Weights = Literal["real", "dummy", "tiny"]

READY_PATH = "/health"
READY_S: Mapping[Engine, float] = {"sim": 30.0, "vllm": 180.0}

# What a tiny model gets on a CPU. The default thread binding puts every server on core 0, multiprocessing costs a
# second process, and the compiler takes half a minute at the first request that asks for logprobs.
TINY_MODEL_LEN = 2048
TINY_KV_BYTES = 64 * 2**20
_ALWAYS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HXP_DIE_WITH_PARENT": "1",
    # Its processes' sockets in Linux's abstract namespace: as files, whoever is killed leaves them behind.
    "VLLM_RPC_BASE_PATH": "@hxp-vllm",
}
_CPU = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
}
_POOLING = ("--runner", "pooling", "--convert", "embed")
# Without a parser vLLM refuses tools. A toy speaks no model's own format, so that any parser will do.
_TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
_GIVEN = 0.95  # of a GPU's memory: the driver keeps some, and vLLM refuses a fraction that is not free
# AWQ as published checkpoints have it, for weights that are random anyway.
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be started. `takes_fd`: it can inherit a listening socket (`--fd N` added to its argv)."""

    program: Program
    takes_fd: bool
    ready_s: float
    evidence: str  # simulated | tiny | measured
    facts: Mapping[str, str]
    device: str = ""  # the GPU that was found, by our name

    @property
    def shown(self) -> str:
        """The command as one would type it."""
        return shown(self.program)


def prepare(
    spec: ModelSpec,
    engine: Engine,
    weights: Weights,
    *,
    port: int,
    settings_file: Path,
    cache: Path,
    device: str = "",
    say: Say = print,
) -> Prepared:
    """Make everything that the engine needs and return how to start it on 127.0.0.1.

    `sim`: nothing is made; `settings_file` (a ModelSettings that the caller wrote) and the port are in the argv.
    `vllm`: installs vLLM's environment into `cache`/vllm-cpu (`tiny`) or `cache`/vllm-gpu (`real`, `dummy`), and a tiny
    model into `cache`/tiny, unless they are there; `say` hears of each step, and last the command. For a GPU, `device`
    names what is expected; empty: what is there. vLLM takes a port, not a socket: free the port before it starts. Ready
    is GET /health 200 within `ready_s` seconds. Raises SettingsError or NotReady, before anything long.
    """
    if engine == "sim":
        facts = {"device": f"{find_device(device or 'h200').title} (simulated)"}
        return Prepared(sim_program(spec, settings_file, port=port), True, READY_S["sim"], "simulated", facts)
    if weights == "tiny":
        return _prepare_tiny(spec, port, cache, say)
    return _prepare_gpu(spec, weights, port, cache, device, say)


def install_vllm(kind: Kind, cache: Path, say: Say) -> Path:
    """Return the `vllm` command of the environment of `kind` in `cache`, which is installed unless it is there.

    Raises NotReady where it cannot be, for a GPU also when the driver is too old for it.
    """
    folder, recipe = cache / f"vllm-{kind}", recipe_for(kind)
    if kind == "gpu" and flaw(folder, recipe):
        gpus = find_gpus()
        if not gpus:
            raise NotReady("there is no NVIDIA GPU on this machine", hint="hxp-stack tools --vllm cpu")
        check_driver(gpus[0])
    return install(folder, recipe, say)


def _prepare_tiny(spec: ModelSpec, port: int, cache: Path, say: Say) -> Prepared:
    from reference_stack.services.ai_models.tiny import make

    command = install_vllm("cpu", cache, say)
    folder = make(spec, cache / "tiny")
    program = tiny_program(spec, command, folder, port=port)
    say(f"{spec.name}: {shown(program)}")
    facts = {
        "device": "CPU",
        "weights": "tiny",
        "vllm": version_in(cache / "vllm-cpu"),
        "flags": shown(program),
        "model_revision": folder.name,
        **weights_facts(folder),
    }
    return Prepared(program, False, READY_S["vllm"], "tiny", facts)


def _prepare_gpu(spec: ModelSpec, weights: Weights, port: int, cache: Path, name: str, say: Say) -> Prepared:
    gpu, device = choose(spec.name, weights, name)
    device = replace(device, memory_bytes=gpu.memory_bytes)
    limit = held_bytes(spec, device)
    kv_capacity_tokens(spec, device, limit, spec.max_num_batched_tokens)  # refuses what cannot fit
    check_room(spec.name, gpu, limit)
    command = install_vllm("gpu", cache, say)
    model = spec.path
    if weights == "dummy":
        from reference_stack.services.ai_models import dummy

        model = dummy.make(spec, cache / "dummy")
    program = vllm_program(spec, command, model, device, dummy=weights == "dummy", port=port)
    say(f"{spec.name}: {shown(program)}")
    facts = {
        "device": gpu.title,
        "driver": gpu.driver,
        "weights": weights,
        "vllm": version_in(cache / "vllm-gpu"),
        "flags": shown(program),
        **(weights_facts(spec.path) if weights == "real" else {}),
    }
    return Prepared(program, False, READY_S["vllm"], "measured", facts, device.name)


def sim_program(spec: ModelSpec, settings_file: Path, *, port: int) -> Program:
    """Return the simulated engine; `--fd N` may be added, and then wins over the port."""
    argv = (sys.executable, "-m", "reference_stack", "serve", spec.name)
    return Program((*argv, "--settings", str(settings_file), "--port", str(port)))


def tiny_program(spec: ModelSpec, command: Path, model: Path, *, port: int) -> Program:
    """Return real vLLM on the CPU with the tiny model in folder `model`."""
    flags = ("--enforce-eager", "--max-model-len", str(TINY_MODEL_LEN), "--kv-cache-memory-bytes", str(TINY_KV_BYTES))
    tools = () if spec.runner == "pooling" else _TOOLS
    return Program((*_serve(spec, command, model, port), *flags, *tools), {**_ALWAYS, **_CPU})


def held_bytes(spec: ModelSpec, device: Device) -> float:
    """Return the bytes of `device` that the model may take: its limit, or what a smaller device can give."""
    return min(spec.memory_limit_bytes, _GIVEN * device.memory_bytes)


def vllm_program(spec: ModelSpec, command: Path, model: Path, device: Device, *, dummy: bool, port: int) -> Program:
    """Return real vLLM on a GPU, held to the memory limit of the model.

    The memory fraction bounds all that the process takes; the KV bytes are exact, so that the room does not depend on
    what other models left. Raises SettingsError where the model does not fit.
    """
    limit = held_bytes(spec, device)
    kv_tokens = kv_capacity_tokens(spec, device, limit, spec.max_num_batched_tokens)
    flags = [
        *("--gpu-memory-utilization", f"{limit / device.memory_bytes:.3f}"),
        *("--kv-cache-memory-bytes", str(kv_tokens * spec.kv_bytes_per_token)),
        *("--max-model-len", str(spec.max_model_len)),
        *("--max-num-seqs", str(spec.max_num_seqs)),
        *("--max-num-batched-tokens", str(spec.max_num_batched_tokens)),
        *("--max-cudagraph-capture-size", str(spec.graph_tokens)),
    ]
    if spec.kv_precision == "fp8":
        flags += ["--kv-cache-dtype", "fp8"]
    if spec.precision == "fp8":
        flags += ["--quantization", "fp8_per_tensor" if dummy else "fp8"]
    # Named in either case: left to itself vLLM would also load a pickle, which can run code.
    flags += ["--load-format", "dummy" if dummy else "safetensors"]
    if dummy and spec.precision == "int4":
        flags += ["--hf-overrides", json.dumps({"quantization_config": _AWQ}, separators=(",", ":"))]
    return Program((*_serve(spec, command, model, port), *flags), _ALWAYS)


def shown(program: Program) -> str:
    """Return the command line of `program` as one would type it, environment first."""
    words = [f"{name}={shlex.quote(value)}" for name, value in program.environment.items()]
    return " ".join([*words, shlex.join(program.argv)])


def _serve(spec: ModelSpec, command: Path, model: Path, port: int) -> tuple[str, ...]:
    place = ("--host", "127.0.0.1", "--port", str(port))
    name = ("--served-model-name", spec.name)
    runner = _POOLING if spec.runner == "pooling" else ()
    return (str(command), "serve", str(model), *name, *place, "--disable-uvicorn-access-log", *runner)
