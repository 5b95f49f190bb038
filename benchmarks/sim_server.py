"""What a streamed token costs the simulated vLLM: `python benchmarks/sim_server.py [--streams N] [--tokens N]`.

Two processes: the server, held to one core, which simulates an H200 slowed down so far that a step of all streams
takes as long as `--rate` allows; and this one, the client, which opens all streams at once and counts their events.
Each token is an SSE event of its own. The main figure is the server's CPU time (user and system), start-up left out,
over the events that it sent: on a machine that others use too, the wall clock says more about them. Then as many
streams are opened again and held after their first token, and the server's memory is read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

from reference_stack.services.ai_models.model_spec import load_spec
from reference_stack.services.ai_models.physics import find_device, step_time_s

PROMPT = "what is a queue and why does it grow " * 5


@dataclass(frozen=True)
class Run:
    """One run: counts, seconds and bytes."""

    events: int
    wall_s: float
    cpu_s: float
    most_open: int
    rss_mb: float  # with all streams held open

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.events * 1e6


def request(tokens: int, script: object = None) -> bytes:
    fields = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": tokens, "ignore_eos": True}
    body = json.dumps({**fields, "stream": True, **({"hxp_script": script} if script else {})}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def speed_for(streams: int, rate: float) -> float:
    """Return the setting `speed` at which decoding `streams` sequences makes `rate` tokens a second."""
    step_s = step_time_s(load_spec("hermes"), find_device("h200"), 0, streams, streams * 100)
    return step_s / (streams / rate)


def start_server(sock: socket.socket, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    streams, tokens = options.streams, options.tokens
    settings = {
        "device": "h200",
        "speed": speed_for(streams, options.rate),
        "max_num_seqs": streams,
        "kv_tokens": streams * (tokens + 128),
        "allow_scripts": "true",
    }
    argv = [sys.executable, "-m", "reference_stack", "serve", "hermes", "--fd", str(sock.fileno())]
    argv += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    process = subprocess.Popen(argv, pass_fds=[sock.fileno()], stderr=subprocess.DEVNULL)
    psutil.Process(process.pid).cpu_affinity([options.core])
    return process


def wait_ready(port: int) -> None:
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            if connection.recv(64).startswith(b"HTTP/1.1 200"):
                return
    raise SystemExit("the server did not become ready in 60 s")


def stream_all(port: int, streams: int, tokens: int, server: psutil.Process) -> tuple[int, int]:
    """Open all streams and read them to their end; return the events and the most streams that went on at once."""
    raw = request(tokens)
    selector = selectors.DefaultSelector()
    server.suspend()  # all requests are there when it goes on
    for _ in range(streams):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(raw)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    server.resume()
    started: set[int] = set()
    events = most = 0
    left = streams
    while left:
        for key, _ in selector.select(60):
            reader = key.fileobj
            assert isinstance(reader, socket.socket)
            data = reader.recv(1 << 18)
            events += data.count(b"\n\n")
            started.add(key.fd)
            if not data or b"data: [DONE]" in data:
                selector.unregister(reader)
                reader.close()
                started.discard(key.fd)
                left -= 1
        most = max(most, len(started))
    return events, most


def held_rss_mb(port: int, streams: int, tokens: int, server: psutil.Process) -> float:
    """Open all streams, hold them after their first token, and return the server's memory in MB."""
    raw = request(tokens, {"fault": {"kind": "stall", "at_token": 1}})
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(streams)]
        for connection in connections:
            connection.sendall(raw)
        for connection in connections:
            seen = b""
            while b"data: " not in seen:
                seen += connection.recv(4096)
        return float(server.memory_info().rss) / 1e6


def one_run(options: argparse.Namespace) -> Run:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as sock:
        port = sock.getsockname()[1]
        process = start_server(sock, options)
    try:
        wait_ready(port)
        server = psutil.Process(process.pid)
        before, begin_s = server.cpu_times(), time.perf_counter()
        events, most = stream_all(port, options.streams, options.tokens, server)
        wall_s, after = time.perf_counter() - begin_s, server.cpu_times()
        rss_mb = held_rss_mb(port, options.streams, options.tokens, server)
    finally:
        process.terminate()
        process.wait(20)
    cpu_s = after.user + after.system - before.user - before.system
    return Run(events, wall_s, cpu_s, most, rss_mb)


def main() -> int:
    """Print a line a run, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=2000, help="streams at once; default: %(default)s")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of each; default: %(default)s")
    parser.add_argument("--rate", type=float, default=20_000, help="events a second to aim at; default: %(default)s")
    parser.add_argument("--runs", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--core", type=int, default=0, help="where the server runs; default: %(default)s")
    options = parser.parse_args()
    others = sorted(os.sched_getaffinity(0) - {options.core})
    if others:
        os.sched_setaffinity(0, others)
    runs = []
    print(f"{'events':>8} {'CPU us/event':>13} {'events/CPU s':>13} {'events/s':>9} {'going on':>9} {'MB held':>8}")
    for _ in range(options.runs):
        run = one_run(options)
        expected = options.streams * (options.tokens + 2)  # the role and [DONE]
        if run.events != expected:
            raise SystemExit(f"{run.events} events came, not {expected}")
        runs.append(run)
        print(
            f"{run.events:>8} {run.cpu_us:>13.1f} {run.events / run.cpu_s:>13.0f} {run.events / run.wall_s:>9.0f} "
            f"{run.most_open:>9} {run.rss_mb:>8.0f}",
            flush=True,
        )
    cpu_us = statistics.median(run.cpu_us for run in runs)
    rss_mb = statistics.median(run.rss_mb for run in runs)
    rate = 1e6 / cpu_us
    print(f"median: {cpu_us:.1f} us of CPU an event, {rate:.0f} events a CPU second, {rss_mb:.0f} MB held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
