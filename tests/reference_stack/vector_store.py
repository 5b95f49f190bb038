"""A real vector store as a process of its own, as `hxp-stack serve vector_database` starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from reference_stack.orchestration import ports
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings

READY_S = 90.0  # it imports much, beside everything else that runs


@dataclass(frozen=True, slots=True)
class VectorStore:
    """Where it is: `settings` reach Qdrant's API, `face` the service's; `process` is what runs."""

    settings: VectorDatabaseSettings
    face: str
    process: subprocess.Popen[bytes]


@contextmanager
def vector_store(folder: Path) -> Iterator[VectorStore]:
    """Run a store that keeps its points in `folder` while the context lasts."""
    with ExitStack() as stack:
        reserved = [ports.reserve() for _ in range(3)]
        rest, grpc, face = (each.port for each in reserved)
        for each in reserved:
            each.close()
        file = folder / "vector_database.json"
        said = {"port": rest, "grpc_port": grpc, "folder": str(folder / "points")}
        file.write_text(json.dumps(said))
        argv = [sys.executable, "-m", "reference_stack", "serve", "vector_database"]
        log = stack.enter_context((folder / "vector_database.log").open("wb"))
        process = stack.enter_context(
            subprocess.Popen([*argv, "--settings", str(file), "--port", str(face)], stdout=log, stderr=log)
        )
        stack.callback(process.kill)
        found = VectorStore(
            VectorDatabaseSettings.model_validate({**said, "backend": "external"}), f"http://127.0.0.1:{face}", process
        )
        _wait(found, folder / "vector_database.log")
        yield found


def _wait(store: VectorStore, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        assert store.process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "it did not come up"
        try:
            if httpx.get(f"{store.face}/health", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)  # polls a process that starts, with a deadline
