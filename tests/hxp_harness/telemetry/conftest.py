"""A page of counters that can be slow, broken or gone, and a driver library whose figures are known."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class CounterPage:
    """A server of /metrics: `tokens` grow by 10 a page; each entry of `delays_s` holds one page back."""

    url: str = ""
    delays_s: list[float] = field(default_factory=list)
    status: int = 200
    tokens: int = 0
    asked: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def text(self) -> str:
        self.tokens += 10
        return (
            f'vllm:generation_tokens_total{{model="m"}} {self.tokens}\n'
            f"vllm:num_requests_running 4\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc 0.5\n"
            f"somebody_elses_number {self.tokens} and what is no format at all\n"
        )


@pytest.fixture
def page() -> Iterator[CounterPage]:
    """Serve counters on a free port."""
    found = CounterPage()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.asked += 1
            if found.delays_s:
                found.over.wait(found.delays_s.pop(0))
            body = found.text().encode()
            try:
                self.send_response(found.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                return  # the reader gave up

        def log_message(self, *_: object) -> None:
            """Say nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/metrics"
        yield found
        found.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libnvidia-ml.so.1 of ours, for LD_LIBRARY_PATH."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here, so the driver's stand-in cannot be made")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(source)], check=True, timeout=60
    )
    return folder
