"""What the nursery has ready for real vLLM, in vLLM's own environment. A trade of nursery.py; standard library only."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing.context
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

_PR_SET_PDEATHSIG = 1
# Reached by every server, and imported late where vLLM is left to itself.
_WARM = (
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.cli.benchmark.main",
    "vllm.entrypoints.cli.collect_env",
    "vllm.entrypoints.cli.download_kernels",
    "vllm.entrypoints.cli.launch",
    "vllm.entrypoints.cli.openai",
    "vllm.entrypoints.cli.preload",
    "vllm.entrypoints.cli.run_batch",
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.cli.snapshot",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
)


def prepare() -> None:
    """Import vLLM; no thread is started by that, so that forking stays safe."""
    for name in _WARM:
        importlib.import_module(name)


def serve(wanted: dict[str, Any], _descriptors: Sequence[int]) -> int:
    """Be the command `wanted["argv"]`, which is vLLM's own."""
    # vLLM forks its engine from here; it outlives a server that was killed, with its memory, unless it is told.
    os.register_at_fork(after_in_child=_die_with_parent)
    # On a CPU vLLM insists on an engine that imports all anew. What it asks for under that name is a fork.
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    contexts["spawn"] = contexts["fork"]
    sys.argv = wanted["argv"]
    importlib.import_module("vllm.entrypoints.cli.main").main()
    return 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
