"""Starts a stack that offers itself under the entry point group `hxp.stacks`, as a child process, and stops it."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, Any

from hxp_harness.errors import NotReady, UsageError, nearest
from hxp_harness.target import Evidence, Target

GROUP = "hxp.stacks"
STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Want:
    """Which services of a stack, on which engine (sim, vllm) with which weights (real, dummy, tiny).

    The stack keeps logs, settings and state in `folder`. Where it can, it says of a `contract` whether it can meet it.
    """

    folder: str
    services: tuple[str, ...] = ()  # empty: all of them
    engine: str = "sim"
    weights: str = "real"
    mock: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    contract: Mapping[str, object] | None = None  # prompt_tokens, output_tokens, rate_rps; limit_s with its quantile


class RunningStack:
    """A stack that serves. `services` is what it says of each: URLs, model name, key, engine, evidence, facts, pid."""

    def __init__(self, services: Mapping[str, Mapping[str, Any]], pid: int) -> None:
        self.services = services
        self.pid = pid

    def target(self, name: str) -> Target:
        """Return service `name` as a target; raise UsageError when it is not an OpenAI-compatible one of this stack."""
        offered = {key for key, row in self.services.items() if row.get("base_url")}
        if name not in offered:
            raise UsageError(f"the stack offers no model or gateway {name!r}", hint=nearest(name, offered))
        row = self.services[name]
        return Target(
            base_url=str(row["base_url"]),
            api_model=str(row["api_model"]),
            api_key=str(row.get("api_key", "")),
            metrics_url=str(row.get("metrics_url", "")),
            evidence=Evidence(row["evidence"]),
            engine=str(row.get("engine", "unknown")),
            facts={key: str(value) for key, value in row.get("facts", {}).items()},
        )

    def prediction(self, name: str) -> str:
        """Return what the stack expects of service `name` under the wanted contract, in one sentence, or ""."""
        return str(self.services.get(name, {}).get("feasibility", {}).get("sentence", ""))

    def predicted_rps(self, name: str) -> str:
        """Return the highest rate at which service `name` expects to meet the wanted contract's limit, or ""."""
        return str(self.services.get(name, {}).get("feasibility", {}).get("rate_rps", ""))


def provider(name: str = "reference") -> Callable[[Mapping[str, object]], list[str]]:
    """Return the function that turns a Want into a command line; raise UsageError when no such stack is installed."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise UsageError(f"no stack {name!r} is installed (entry point group {GROUP})", hint=nearest(name, found))
    loaded: Callable[[Mapping[str, object]], list[str]] = found[name].load()
    return loaded


@contextlib.contextmanager
def running(want: Want, *, name: str = "reference", ready_s: float = 300.0) -> Iterator[RunningStack]:
    """Start the stack called `name`, wait at most `ready_s` for it to serve, and stop it on the way out.

    Closing its standard input is what stops it, so that a harness that dies takes the stack along. Raises NotReady
    with what the stack said.
    """
    argv = provider(name)(asdict(want))
    Path(want.folder).mkdir(parents=True, exist_ok=True)
    log_file = Path(want.folder) / "stack.log"
    # A session of its own: Ctrl-C reaches the harness alone, which then stops the stack in order.
    with (
        log_file.open("wb") as log,
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            said = _first_line(process, ready_s, log_file)
            yield RunningStack(said["services"], process.pid)
        finally:
            _stop(process)


def _first_line(process: subprocess.Popen[bytes], ready_s: float, log_file: Path) -> Mapping[str, Any]:
    stdout: IO[bytes] | None = process.stdout
    if stdout is None:
        raise NotReady("the stack has no standard output")
    deadline = time.monotonic() + ready_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise NotReady(f"the stack was not ready after {ready_s:g} s", hint=f"read {log_file}")
            byte_chunk = stdout.read1(65536)  # type: ignore[attr-defined]  # a pipe is a BufferedReader
            if not byte_chunk:
                break
            line += byte_chunk
    try:
        said = json.loads(line)
    except ValueError:
        tail = log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise NotReady(f"the stack ended before it was ready:\n{tail}", hint=f"read {log_file}") from None
    if not said.get("ready"):
        raise NotReady(str(said.get("error", "the stack is not ready")), hint=str(said.get("hint", "")))
    found: Mapping[str, Any] = said
    return found


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
        return
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
        return
    process.kill()
