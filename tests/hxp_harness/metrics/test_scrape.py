"""The target's counters, read from a real page over a real socket."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import repeat

import pytest

from hxp_harness.metrics import scrape
from hxp_harness.metrics.scrape import Scrape, fetch, parse_page

PAGE = """\
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 523.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.79e+09
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local"} 99.0
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="m"} 486.0
vllm:generation_tokens_total{engine="1",model_name="m"} 14.0
# TYPE vllm:request_success counter
vllm:request_success_total{finished_reason="stop"} 6.0
vllm:request_success_total{finished_reason="length"} 31.0
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running 2.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
# TYPE vllm:num_preemptions counter
vllm:num_preemptions_total NaN
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.795e+09
"""


def test_a_page_of_vllm_is_read() -> None:
    """Counters are summed over labels, gauges of a share take the largest, and like-named series stay out."""
    assert parse_page(PAGE) == Scrape(
        prompt_tokens=523.0,
        generation_tokens=500.0,
        requests=37.0,
        running=2.0,
        kv_cache_usage=0.5,
        process_start_s=1.795e9,
    )


@pytest.mark.parametrize("text", ["", "<html>", "python_info 1\n", "vllm:prompt_tokens_total{ 5\n", "a b c\n"])
def test_another_page_is_none(text: str) -> None:
    """A page that is no Prometheus text, or has none of the names, is as good as none."""
    assert parse_page(text) is None


def test_counters_are_compared() -> None:
    """What a counter did between two readings is known only where both have it."""
    before, after = Scrape(generation_tokens=10.0), Scrape(generation_tokens=25.0, requests=3.0)

    assert after.since(before, "generation_tokens") == 15.0
    assert after.since(before, "requests") is None
    assert after.since(before, "prefix_hits") is None


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        try:
            for part in {"/metrics": [PAGE], "/huge": repeat("#" * 2**20 + "\n"), "/drip": self.drip()}.get(
                self.path, []
            ):
                self.wfile.write(part.encode())
        except OSError:
            return  # the client had enough

    def drip(self) -> Iterator[str]:
        while not self.server.stopping.wait(0.02):  # type: ignore[attr-defined]  # set by the fixture
            yield "#\n"

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server of one good page and some bad ones."""
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        server.stopping = threading.Event()  # type: ignore[attr-defined]  # the handler's lifeline
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.stopping.set()  # type: ignore[attr-defined]  # as above
        server.shutdown()
        thread.join()


def test_a_page_is_fetched(url: str) -> None:
    """A live page gives its counters."""
    found = fetch(f"{url}/metrics")

    assert found is not None
    assert found.generation_tokens == 500.0


@pytest.mark.parametrize("path", ["/missing", "/huge"])
def test_no_page_is_none(url: str, path: str) -> None:
    """A page that is missing or endless is none, and the run goes on without it."""
    assert fetch(url + path) is None


def test_a_dripping_page_ends_in_time(url: str) -> None:
    """A page that never ends is given up within the time allowed in all, not per read."""
    begin_s = time.monotonic()

    assert fetch(f"{url}/drip", timeout_s=0.2) is None
    assert time.monotonic() - begin_s < 5.0


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:1/metrics", "http://[bad", "ftp://127.0.0.1/metrics"])
def test_no_server_is_none(address: str) -> None:
    """An address that is empty, wrong or silent is none."""
    assert fetch(address, timeout_s=1.0) is None


def test_every_field_has_names() -> None:
    """Each reading knows what it is called on the page."""
    assert set(scrape.NAMES) == set(Scrape.__dataclass_fields__)
