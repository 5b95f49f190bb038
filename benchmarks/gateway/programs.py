"""The benchmark's own backend and client in C: compiled once a version of them, started, and what they print."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")
_LATE_S = 20.0


class CannotRun(Exception):
    """What the benchmark needs is not here; the message says what to type."""


@dataclass(frozen=True, slots=True)
class Programs:
    backend: Path
    client: Path


def compiler() -> str:
    """Return the machine's C compiler. Raises CannotRun where there is none."""
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        raise CannotRun("no C compiler (cc or gcc) is in PATH; on Debian: apt-get install gcc libc6-dev")
    return found


def compiled(cache: Path) -> Programs:
    """Return both programs, compiled into `cache` unless these very sources already are. Raises CannotRun."""
    sources = sorted(_HERE.glob("*.[ch]"))
    version = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = cache / f"programs-{version}"
    programs = Programs(folder / "backend", folder / "client")
    if not programs.client.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for program in (programs.backend, programs.client):
            draft = program.with_suffix(f".{os.getpid()}")
            argv = [compiler(), *_FLAGS, "-o", str(draft), str(_HERE / f"{program.name}.c")]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise CannotRun(f"{program.name}.c does not compile:\n{done.stderr}")
            draft.rename(program)
    return programs


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Start children meanwhile on `cores` (none: where they like): they inherit what this process may use."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Backend:
    port: int

    def set(self, **settings: int) -> None:
        """Change what it answers from now on: `answer_bytes`, `events`, `gap_us`."""
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/set?{query}", timeout=10) as reply:
            reply.read()


@contextmanager
def backend(programs: Programs, cores: frozenset[int] = frozenset()) -> Iterator[Backend]:
    with on_cores(cores):
        process = subprocess.Popen([str(programs.backend)], stdout=subprocess.PIPE)
    with process:
        try:
            assert process.stdout is not None
            yield Backend(int(process.stdout.readline()))
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Load:
    """What the client sends, and what the backend answers.

    `rate_rps` 0: as fast as answers come. `events` 0: whole answers of `answer_bytes`. Figures are taken during
    `seconds`, after `warm_s`, over which the connections begin; answers still out then have `drain_s` to end.
    """

    connections: int = 1
    rate_rps: float = 0.0
    warm_s: float = 0.3
    seconds: float = 2.0
    drain_s: float = 5.0
    requests: int = 0
    body_bytes: int = 1024
    answer_bytes: int = 1024
    events: int = 0
    gap_us: int = 0
    keys: tuple[bytes, ...] = field(default=(b"",), repr=False)

    def body(self) -> bytes:
        """Return a chat completion request of exactly `body_bytes`."""
        asked: dict[str, Any] = {"model": "mixtral", "messages": [{"role": "user", "content": ""}], "max_tokens": 16}
        if self.events:
            asked |= {"stream": True}
        asked["messages"][0]["content"] = ("word " * self.body_bytes)[: self.body_bytes - len(json.dumps(asked))]
        return json.dumps(asked).encode()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client saw; times in microseconds. Totals are of the whole run, the rest is of its measured seconds."""

    requests: int
    events: int
    requests_per_s: float
    events_per_s: float
    errors: Mapping[str, int]
    latency_us: Mapping[str, float]
    first_event_us: Mapping[str, float]
    event_delay_us: Mapping[str, float]
    first_error: str

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


def ask(programs: Programs, port: int, load: Load, folder: Path, cores: frozenset[int] = frozenset()) -> Seen:
    """Send `load` to `port`. Raises CannotRun when the client cannot go on, with what it said."""
    (folder / "body").write_bytes(load.body())
    (folder / "keys").write_bytes(b"".join(key + b"\n" for key in load.keys))
    options = {
        "port": port,
        "body": folder / "body",
        "keys": folder / "keys",
        "connections": load.connections,
        "rate": load.rate_rps,
        "warm": load.warm_s,
        "seconds": load.seconds,
        "drain": load.drain_s,
        "requests": load.requests,
        **({"events": load.events} if load.events else {"answer-bytes": load.answer_bytes}),
    }
    argv = [str(programs.client), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    limit_s = load.warm_s + load.seconds + load.drain_s + _LATE_S
    with on_cores(cores):
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            raise CannotRun(f"the client did not end within {limit_s:g} s") from None
    if done.returncode != 0:
        raise CannotRun(f"client: {done.stderr.strip()}")
    return Seen(**json.loads(done.stdout), first_error=done.stderr.strip())
