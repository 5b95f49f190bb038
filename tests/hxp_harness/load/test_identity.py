"""A target's own pages say which engine it is; a target without them is none the worse."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hxp_harness.load.identity import identity
from hxp_harness.target import Target

Pages = dict[str, tuple[int, bytes]]


@contextmanager
def serving(pages: Pages) -> Iterator[str]:
    """Serve fixed pages on a free port; yield the base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pages.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def ask() -> Callable[[Pages], dict[str, str]]:
    """Ask a server of these pages what it is, as model `m`."""

    def asked(pages: Pages) -> dict[str, str]:
        with serving(pages) as base_url:
            return identity(Target(base_url, "m", api_key="secret"))  # pragma: allowlist secret

    return asked


def test_version_and_model_are_told(ask: Callable[[Pages], dict[str, str]]) -> None:
    """Version, path and context of the model that is asked for are told, not those of another."""
    models = {"data": [{"id": "other", "root": "/no"}, {"id": "m", "root": "/opt/m", "max_model_len": 2048}]}
    found = ask({"/version": (200, b'{"version": "0.32.0"}'), "/v1/models": (200, json.dumps(models).encode())})

    assert found == {"version": "0.32.0", "model_path": "/opt/m", "context": "2048"}


@pytest.mark.parametrize("body", [b"", b"[]", b"{oops", b'{"data": 1, "version": ["x"]}', b'{"data": [1, {"id": 2}]}'])
def test_what_makes_no_sense_is_not_taken(ask: Callable[[Pages], dict[str, str]], body: bytes) -> None:
    """Pages that are missing, or no such pages, tell nothing and raise nothing."""
    assert ask({"/version": (200, body), "/v1/models": (200, body)}) == {}
    assert ask({}) == {}


def test_nobody_there_is_nothing_told() -> None:
    """A closed port tells nothing: that the target is down is for others to say."""
    assert identity(Target("http://127.0.0.1:9/v1", "m")) == {}
