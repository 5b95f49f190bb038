"""What is measured: each subject's program, how it is told of the backend, and when it is ready."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.programs import CannotRun, on_cores

KEY = b"sk-benchmark-0000000000"
_READY_S = 120.0
_STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Command:
    """A program that serves on `port`; `ready_path` answers 200 there once it does. `keys` are let in."""

    argv: tuple[str, ...]
    port: int
    ready_path: str = "/health"
    environ: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[bytes, ...] = (KEY,)


@dataclass(frozen=True, slots=True)
class Running:
    """`pid` 0: no process of its own (the backend, asked directly)."""

    port: int
    pid: int
    keys: tuple[bytes, ...] = (KEY,)
    log: Path = Path(os.devnull)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(command: Command, folder: Path, cores: frozenset[int] = frozenset()) -> Iterator[Running]:
    """Run `command` on `cores` meanwhile. Raises CannotRun, with the end of its log, if it never serves."""
    log = folder / "log"
    with log.open("wb") as out, on_cores(cores):
        process = subprocess.Popen(
            list(command.argv),
            cwd=folder,
            env={**os.environ, **command.environ},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait_until_ready(command, process, log)
        yield Running(command.port, process.pid, command.keys, log)
    finally:
        _stop(process)


def _wait_until_ready(command: Command, process: subprocess.Popen[bytes], log: Path) -> None:
    url = f"http://127.0.0.1:{command.port}{command.ready_path}"
    deadline_s = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                reply.read()
                return
        except OSError:
            time.sleep(0.1)  # polls another process, with a deadline
    raise CannotRun(f"{command.argv[0]} does not serve on {url}: {log.read_text(errors='replace').strip()[-500:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the session that the process leads: asked first, then not."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def version_of(program: Path, *options: str) -> str:
    """Return the first number with dots in what the program says of itself, else "?"."""
    try:
        done = subprocess.run([str(program), *options], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "?"


_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr error; {user}
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_buffer_size 1m; client_max_body_size 8m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream model {{ server 127.0.0.1:{backend}; keepalive 8192; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://model; }}
  }}
}}
"""


def nginx(program: Path, folder: Path, backend_port: int) -> Command:
    """One worker, kept-alive connections on both sides, no log, answers passed on as they come."""
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""  # else its worker may not write where its master may
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, backend=backend_port, user=user))
    return Command((str(program), "-e", "stderr", "-c", str(folder / "nginx.conf")), port)


def vllm_router(programs: Path, _folder: Path, backend_port: int) -> Command:
    """One worker behind it, as it comes but for the log level; its metrics are on."""
    port = free_port()
    options = f"--host 127.0.0.1 --port {port} --worker-urls http://127.0.0.1:{backend_port} --policy round_robin"
    more = f"--log-level error --prometheus-port {free_port()} --max-concurrent-requests 8192"
    return Command((str(programs / "vllm-router"), *options.split(), *more.split()), port)


def bare(backend_port: int) -> Command:
    """What any relay in Python costs at least, whatever it does beside relaying."""
    port = free_port()
    program = Path(__file__).with_name("bare.py")
    return Command((sys.executable, str(program), str(port), str(backend_port)), port)


_LITELLM = """
model_list:
  - model_name: mixtral
    litellm_params: {{model: openai/mixtral, api_base: "http://127.0.0.1:{backend}/v1", api_key: none}}
general_settings: {{master_key: {key}}}
"""


def litellm(programs: Path, folder: Path, backend_port: int) -> Command:
    """Its proxy, one worker, one key; no database."""
    port = free_port()
    (folder / "litellm.yaml").write_text(_LITELLM.format(backend=backend_port, key=KEY.decode()))
    options = f"--config litellm.yaml --host 127.0.0.1 --port {port} --num_workers 1 --telemetry False"
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return Command((str(programs / "litellm"), *options.split()), port, "/health/liveliness", environ)
